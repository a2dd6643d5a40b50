"""Recorded speech to the vocoder's parameters, by WORLD.

F0 by DIO refined by StoneMask, envelope by CheapTrick, aperiodicity by D4C (Morise et al.,
"WORLD: a vocoder-based high-quality speech synthesis system", IEICE Trans. 2016). Harvest finds
the same F0 at 25 times the cost, and calls most voiceless frames voiced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.cloning.warp import from_log_magnitude
from ringtrue.voices.errors import CloningError
from ringtrue.voices.vocoder import RATE

F0_FLOOR: Final = 60.0
F0_CEILING: Final = 500.0

_FFT: Final = 1024
_BINS: Final = _FFT // 2 + 1
_FRAME_MS: Final = 5.0
_EDGES: Final = (0.0, 750.0, 1850.0, 3900.0, 6250.0, 8001.0)
"""Hz; bounds of the base voices' five voicing bands."""

_SPEECH_RANGE: Final = 4.0
"""Nepers below the loudest frames at which a frame still counts as speech."""

_MIN_PERIODIC: Final = 0.5
"""Periodic share of the lowest band under which a frame is voiceless; D4C gives those 0."""

_MIN_VOICED: Final = 200
"""Voiced frames of speech needed: one second."""

RealArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Frames:
    """Speech in frames of 5 ms, of one or more utterances."""

    f0: RealArray
    """Hz, shape (T,); 0 where unvoiced."""

    mcep: RealArray
    """Mel-cepstrum of the natural-log magnitude at full scale 1.0, shape (T, 25)."""

    strengths: RealArray
    """Periodic share of the power in each band, shape (T, 5)."""

    def __len__(self) -> int:
        return len(self.f0)

    @property
    def voiced(self) -> BoolArray:
        """Which frames are voiced, shape (T,)."""
        return self.f0 > 0

    def speech(self) -> Frames:
        """The frames loud enough to be speech."""
        return self.where(speech_mask(self.mcep))

    def where(self, kept: BoolArray) -> Frames:
        """The frames that ``kept`` (T,) marks."""
        return Frames(self.f0[kept], self.mcep[kept], self.strengths[kept])


def speech_mask(mcep: RealArray, reach: float = _SPEECH_RANGE) -> BoolArray:
    """Frames whose level is within ``reach`` nepers of the 95th percentile."""
    level = mcep[:, 0]
    return np.asarray(level > np.percentile(level, 95) - reach, np.bool_)


def analyse(samples: npt.NDArray[np.floating]) -> Frames:
    """Analyse ``samples`` (n,), 16 kHz mono; about 0.05 s of CPU for each second.

    Raises :class:`~ringtrue.voices.errors.CloningError` where there is too little voiced speech.
    """
    import pyworld

    wave = np.ascontiguousarray(samples, np.float64)
    f0, times = pyworld.dio(
        wave, RATE, f0_floor=F0_FLOOR, f0_ceil=F0_CEILING, frame_period=_FRAME_MS
    )
    f0 = pyworld.stonemask(wave, f0, times, RATE)
    power = pyworld.cheaptrick(wave, f0, times, RATE, fft_size=_FFT)
    noise = pyworld.d4c(wave, f0, times, RATE, fft_size=_FFT)
    strengths = _periodic(noise, f0 > 0)
    f0 = np.where(strengths[:, 0] > _MIN_PERIODIC, f0, 0.0)
    log = 0.5 * np.log(np.maximum(power, 1e-16))
    frames = Frames(f0, log @ from_log_magnitude(_BINS), strengths)
    found = int(frames.speech().voiced.sum())
    if found < _MIN_VOICED:
        raise CloningError(
            f"{found * _FRAME_MS / 1000:.2f} s of voiced speech; "
            f"at least {_MIN_VOICED * _FRAME_MS / 1000:.0f} s is needed"
        )
    return frames


def _periodic(noise: RealArray, voiced: BoolArray) -> RealArray:
    """Strengths from WORLD's aperiodicity, the amplitude ratio of noise in each bin."""
    hertz = np.linspace(0.0, RATE / 2, _BINS)
    bands = [
        (noise[:, (hertz >= low) & (hertz < high)] ** 2).mean(axis=1)
        for low, high in zip(_EDGES[:-1], _EDGES[1:], strict=True)
    ]
    strengths = 1.0 - np.stack(bands, axis=1)
    return np.where(voiced[:, None], strengths, 0.0)
