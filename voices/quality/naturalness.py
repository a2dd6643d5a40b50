"""How natural speech sounds to DNSMOS, a network trained on listeners' marks. Blocking.

Reddy, Gopal & Cutler, "DNSMOS: A non-intrusive perceptual objective speech quality metric to
evaluate noise suppressors", ICASSP 2021. Only its P.808 network is used, which ships in the
package ``speechmos`` (extra ``bench``); around it the same is computed as there, but that every
second's segment counts (there, some get lost in rounding).
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.errors import EngineUnavailableError

RATE: Final = 16000
PEAK: Final = 0.7
SEGMENT: Final = 144_160
"""Samples the network hears at once: 9.01 s, from second to second. Shorter speech is repeated."""

MELS: Final = 120
HOP: Final = 160
FFT: Final = 321
RANGE_DB: Final = 80.0

_MODEL: Final = Path("dnsmos_models") / "model_v8.onnx"

RealArray = npt.NDArray[np.float64]


class ListenersMark:
    """DNSMOS, loaded."""

    def __init__(self) -> None:
        """Load the network.

        Raises :class:`~ringtrue.voices.errors.EngineUnavailableError` where it isn't installed.
        """
        spec = importlib.util.find_spec("speechmos")
        if spec is None or not spec.submodule_search_locations:
            raise EngineUnavailableError(
                "DNSMOS is missing: package speechmos isn't installed; install ringtrue[bench]"
            )
        path = Path(spec.submodule_search_locations[0]) / _MODEL
        if not path.is_file():
            raise EngineUnavailableError(f"DNSMOS is missing: {path} is not there")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        self._network: Any = onnxruntime.InferenceSession(
            path, providers=["CPUExecutionProvider"], sess_options=options
        )
        self._input = self._network.get_inputs()[0].name

    def __call__(self, samples: npt.NDArray[np.floating]) -> float:
        """The P.808 mark (1 to 5) of mono speech at 16 kHz, brought to one peak level.

        Raises ``ValueError`` for no samples.
        """
        if not len(samples):
            raise ValueError("speech to be marked needs samples, got none")
        audio = np.asarray(samples, np.float64)
        audio = audio * (PEAK / max(1e-9, float(np.abs(audio).max())))
        while len(audio) < SEGMENT:
            audio = np.append(audio, audio)
        starts = range(0, (int(len(audio) // RATE - 9.01) + 1) * RATE, RATE)
        segments = [audio[at : at + SEGMENT] for at in starts if at + SEGMENT <= len(audio)]
        heard = np.stack([_spectrogram(segment[:-HOP]) for segment in segments])
        marks = self._network.run(None, {self._input: heard.astype(np.float32)})[0]
        return float(marks.mean())


def _spectrogram(audio: RealArray) -> RealArray:
    """Mel power in decibels below the loudest, as the network wants it: (frames, MELS)."""
    padded = np.pad(audio, FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::HOP]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2 @ _filterbank()
    decibels = 10 * np.log10(np.maximum(power, 1e-10))
    decibels -= 10 * np.log10(max(1e-10, float(power.max())))
    return np.asarray((np.maximum(decibels, decibels.max() - RANGE_DB) + 40.0) / 40.0)


@cache
def _filterbank() -> RealArray:
    """Slaney's triangles of equal area, linear to 1 kHz and logarithmic above: (161, MELS)."""
    step = np.log(6.4) / 27.0
    top = 15.0 + np.log(RATE / 2 / 1000.0) / step
    mels = np.linspace(0.0, top, MELS + 2)
    edges = np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * np.exp(step * (mels - 15.0)))
    bins = np.fft.rfftfreq(FFT, 1 / RATE)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - low) / (middle - low)
    falling = (high - bins[:, None]) / (high - middle)
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (high - low)))
