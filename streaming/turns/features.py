"""What smart-turn hears: Whisper's log-mel spectrogram, of as much audio as it is asked about.

The same figures as Pipecat's own (OpenAI Whisper's front end: 25 ms Hann windows each 10 ms, 80
Slaney mels to 8 kHz), which are always taken of 8 s; here of the end of them alone.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from pipecat.audio.turn.smart_turn import _whisper_features as whisper

RATE: Final = 16000
SECONDS: Final = 8
"""What is normalized together, silence before the audio included."""

HOP: Final = 160
SIZE: Final = 400
_FLOOR: Final = 1e-10
_EPSILON: Final = 1e-7
_DECADES: Final = 8.0
"""Below the loudest there is nothing."""

_WINDOW: Final = np.hanning(SIZE + 1)[:-1].astype(np.float32)
_MELS: Final = np.ascontiguousarray(whisper._MEL_FILTERS.T, np.float32)

FloatArray = npt.NDArray[np.float32]


def log_mel(audio: FloatArray, frames: int) -> FloatArray:
    """Features (80, ``frames``) of the last ``frames`` times 10 ms of ``audio``.

    ``audio`` is 16 kHz in -1...1; what is missing of the time asked for is silence before it.
    """
    audio = audio[-RATE * SECONDS :]
    total = RATE * SECONDS
    mean = audio.sum(dtype=np.float64) / total
    variance = (audio.astype(np.float64) ** 2).sum() / total - mean * mean
    wanted = frames * HOP
    padded = np.zeros(wanted, np.float32)
    heard = audio[-wanted:]
    padded[wanted - len(heard) :] = heard
    padded = (padded - np.float32(mean)) * np.float32(1.0 / np.sqrt(variance + _EPSILON))
    framed = sliding_window_view(np.pad(padded, SIZE // 2, mode="reflect"), SIZE)[:-1:HOP]
    spectrum = np.fft.rfft(framed * _WINDOW, axis=-1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    logs = np.log10(np.maximum(_MELS @ power.T, _FLOOR))
    logs = np.maximum(logs, logs.max() - _DECADES)
    features: FloatArray = ((logs + 4.0) / 4.0).astype(np.float32)
    return features
