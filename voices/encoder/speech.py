"""From a recording to speech alone: 16 kHz, at one level, long silences cut out.

The trimming is resemblyzer's: ``webrtcvad`` mode 3 on 30 ms windows, a moving majority over
eight of them, and three windows kept around what remains.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.encoder.errors import NotEnoughSpeechError, UnusableAudioError
from ringtrue.voices.encoder.mel import RATE

LEVEL_DBFS: Final = -24.0
"""RMS level every recording is brought to: the network hears loudness, and it is no speaker's."""

SILENT_DBFS: Final = -60.0
"""Below this RMS level a recording counts as silent: 16-bit samples hold too little of it."""

MIN_SPEECH_SECONDS: Final = 1.2
"""Speech needed: three quarters of the network's window, the least it was meant to be given."""

MAX_SECONDS: Final = 300.0
"""Longest recording taken at once; bounds the memory and the time that an input can cost."""

MIN_RATE: Final = 8000
MAX_RATE: Final = 192000

_VAD_WINDOW: Final = 480
_MAJORITY: Final = 8
_MARGIN: Final = 3
_PEAK: Final = 4.0
"""Floating-point samples may pass full scale by 12 dB; more means another unit."""

FloatArray = npt.NDArray[np.float32]


def speech_only(samples: npt.NDArray[Any], rate: int) -> FloatArray:
    """The speech in ``samples``, 16 kHz float32 mono, at least ``MIN_SPEECH_SECONDS`` of it.

    ``samples`` is mono, shape (n,): int16, or float32 or float64 within -1 to 1; ``rate`` is in
    Hz, 8000 to 192000. Raises :class:`UnusableAudioError` on anything else, and
    :class:`NotEnoughSpeechError` where it is silent or too short.
    """
    wave = _checked(samples, rate)
    if rate != RATE:
        import soxr

        wave = np.asarray(soxr.resample(wave, rate, RATE), np.float32)
    speech = trimmed(levelled(wave))
    found = len(speech) / RATE
    if found < MIN_SPEECH_SECONDS:
        raise _too_short(f"{found:.1f} s of speech in {len(wave) / RATE:.1f} s of audio", found)
    return speech


def levelled(wave: FloatArray) -> FloatArray:
    """``wave`` (float32) at ``LEVEL_DBFS`` RMS; :class:`NotEnoughSpeechError` if it is silent."""
    rms = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if len(wave) else 0.0
    if rms < 10 ** (SILENT_DBFS / 20):
        level = f"{20 * np.log10(rms):.0f} dBFS" if rms > 0 else "digital silence"
        raise NotEnoughSpeechError(
            f"the audio is silent ({level}); needed is speech of at least "
            f"{SILENT_DBFS:.0f} dBFS RMS",
            found=0.0,
            needed=MIN_SPEECH_SECONDS,
        )
    return np.asarray(wave * np.float32(10 ** (LEVEL_DBFS / 20) / rms), np.float32)


def trimmed(wave: FloatArray) -> FloatArray:
    """``wave`` (16 kHz float32) without its long silences; may be empty."""
    import webrtcvad

    count = len(wave) // _VAD_WINDOW
    if count == 0:
        return wave[:0]
    wave = wave[: count * _VAD_WINDOW]
    pcm = np.clip(np.rint(wave * 32767.0), -32768, 32767).astype("<i2").tobytes()
    # The detector adapts to what it hears: a new one for each recording.
    vad = webrtcvad.Vad(3)
    step = 2 * _VAD_WINDOW
    voiced = np.array(
        [vad.is_speech(pcm[at : at + step], RATE) for at in range(0, len(pcm), step)], np.int64
    )
    # The majority window reaches from three before to four after; a tie is silence.
    votes = np.convolve(voiced, np.ones(_MAJORITY, np.int64))[4 : 4 + count]
    kept = (votes > _MAJORITY // 2).astype(np.int64)
    around = np.convolve(kept, np.ones(2 * _MARGIN + 1, np.int64))[_MARGIN : _MARGIN + count]
    return wave[np.repeat(around > 0, _VAD_WINDOW)]


def _checked(samples: npt.NDArray[Any], rate: int) -> FloatArray:
    """``samples`` as float32 within full scale, or the reason why not."""
    if not isinstance(rate, int) or not MIN_RATE <= rate <= MAX_RATE:
        raise UnusableAudioError(
            f"sample rate {rate!r}; allowed: whole numbers from {MIN_RATE} to {MAX_RATE} Hz"
        )
    if not isinstance(samples, np.ndarray):
        raise UnusableAudioError(f"samples are {type(samples).__name__}; a NumPy array is needed")
    if samples.ndim != 1:
        raise UnusableAudioError(
            f"samples have shape {samples.shape}; mono of shape (n,) is needed: mix channels down"
        )
    if len(samples) > MAX_SECONDS * rate:
        raise UnusableAudioError(
            f"{len(samples) / rate:.0f} s of audio; at most {MAX_SECONDS:.0f} s are taken at once"
        )
    if len(samples) < MIN_SPEECH_SECONDS * rate:
        raise _too_short(f"{len(samples) / rate:.2f} s of audio", 0.0)
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / np.float32(32768)
    if samples.dtype not in (np.float32, np.float64):
        raise UnusableAudioError(
            f"samples are of type {samples.dtype}; allowed: int16, float32, float64"
        )
    peak = float(np.abs(samples).max())
    if not peak <= _PEAK:
        raise UnusableAudioError(
            f"floating-point samples reach {peak:g}; finite values within -1 to 1 are needed"
        )
    return samples.astype(np.float32)


def _too_short(what: str, found: float) -> NotEnoughSpeechError:
    return NotEnoughSpeechError(
        f"{what}; at least {MIN_SPEECH_SECONDS} s of speech are needed",
        found=found,
        needed=MIN_SPEECH_SECONDS,
    )
