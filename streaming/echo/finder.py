"""Whether, and how late, what was sent comes back.

Generalized cross-correlation with phase transform (Knapp & Carter 1976) between what was sent and
what is heard, in the telephone band, smoothed over windows: an echo keeps its delay, other
speech does not. Sans-IO; audio is 8 kHz.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

RATE: Final = 8000
FRAME: Final = 160
WINDOW: Final = 26 * FRAME
"""Samples of heard audio that are looked at together: 520 ms."""

LAGS: Final = 38 * FRAME
"""Longest delay, 760 ms: both ways through two jitter buffers and a mobile network."""

SOONEST: Final = 80
"""Shortest delay, 10 ms: what is sent in one tick can't be heard before the next."""

_FFT: Final = WINDOW + LAGS
"""As long as what was sent: no lag that is looked for wraps around. 2 to the 11th by 5."""

_BAND: Final = slice(300 * _FFT // RATE, 3400 * _FFT // RATE + 1)
"""Bins of the telephone band, 300 to 3400 Hz."""

SMOOTHING: Final = 0.75
"""Share of the earlier windows in the correlation."""

PEAK: Final = 15.0
"""Times the correlation's median magnitude from which a peak may be an echo."""

NEIGHBOURS: Final = 240
"""Samples around a peak that belong to it, 30 ms each way: an echo is as long as its room."""

DISTINCT: Final = 3.0
"""Times the next highest peak from which a peak may be an echo."""

TOLERANCE: Final = 3
"""Samples by which the peaks of two windows in a row may differ: 2 ms."""

ACTIVE_RMS: Final = 150.0
"""What was sent counts as sound from here on (16-bit samples)."""


@dataclass(frozen=True, slots=True)
class Found:
    """An echo."""

    delay: int
    """In samples at 8 kHz, from the moment it was sent."""

    strength: float
    """Peak over median of the correlation."""

    leak: float
    """Energy that came back over energy sent; more, if the caller spoke too."""


class EchoFinder:
    """Follows one call; :meth:`look` is worth calling every half second or so."""

    def __init__(self, rate: int) -> None:
        """Frames will be 20 ms at ``rate`` Hz, 8000 or 16000."""
        self._factor = rate // RATE
        silence, length = bytes(2 * FRAME * self._factor), (WINDOW + LAGS) // FRAME
        self._sent = deque([silence] * length, length)
        self._heard = deque([silence] * (WINDOW // FRAME), WINDOW // FRAME)
        self._correlation: Samples = np.zeros(LAGS, np.float32)
        self._peak: int | None = None
        self._agreed = 0

    def push(self, sent: bytes, heard: bytes) -> None:
        """The next frame of both, 16-bit PCM."""
        self._sent.append(sent)
        self._heard.append(heard)

    @property
    def suspects(self) -> bool:
        """Whether the last look saw what may be an echo: the next one tells."""
        return self._peak is not None

    def look(self, agree: int = 2) -> Found | None:
        """The echo, once ``agree`` looks in a row agree on it. About 0.3 ms."""
        sent, heard = self._narrow(self._sent), self._narrow(self._heard)
        if _power(sent) < ACTIVE_RMS**2 or _power(heard) < 1.0:
            return None
        self._follow(sent, heard)
        magnitude = np.abs(self._correlation)
        magnitude[:SOONEST] = 0
        peak = int(np.argmax(magnitude))
        strength = self._strength(magnitude, peak)
        before, self._peak = self._peak, None if strength is None else peak
        if self._peak is None:
            self._agreed = 0
        elif before is None or abs(before - peak) > TOLERANCE:
            self._agreed = 1
        else:
            self._agreed += 1
        if strength is None or self._agreed < agree:
            return None
        late = sent[LAGS - peak : LAGS - peak + WINDOW]
        return Found(peak, strength, _power(heard) / max(1.0, _power(late)))

    def _follow(self, sent: Samples, heard: Samples) -> None:
        """Take one window into the smoothed correlation."""
        one, other = np.fft.rfft(sent, _FFT)[_BAND], np.fft.rfft(heard, _FFT)[_BAND]
        cross = np.conj(one) * other
        # The product with a reciprocal: division of complex numbers costs five times as much.
        cross *= np.reciprocal(np.abs(cross) + np.float32(1e-6))
        whitened = np.zeros(_FFT // 2 + 1, np.complex64)
        whitened[_BAND] = cross
        # heard[n] = sent[n + LAGS - delay], so the correlation peaks at WINDOW + delay.
        lagged = np.fft.irfft(whitened, _FFT)[WINDOW : WINDOW + LAGS]
        self._correlation *= SMOOTHING
        self._correlation += (1 - SMOOTHING) * lagged

    def _strength(self, magnitude: Samples, peak: int) -> float | None:
        """Times the median, where the peak may be an echo's; the median is looked for last."""
        height = magnitude[peak]
        for rest in (magnitude[: max(0, peak - NEIGHBOURS)], magnitude[peak + NEIGHBOURS :]):
            if height < DISTINCT * rest.max(initial=0.0):
                return None
        strength = float(height / (np.median(magnitude) + 1e-12))
        return strength if strength >= PEAK else None

    def restart(self) -> None:
        """Forget what was found; the audio stays."""
        self._correlation[:] = 0
        self._peak = None
        self._agreed = 0

    def _narrow(self, frames: deque[bytes]) -> Samples:
        samples = np.frombuffer(b"".join(frames), np.int16).astype(np.float32)
        if self._factor == 1:
            return samples
        narrow: Samples = samples[::2] + samples[1::2]
        narrow *= 0.5
        return narrow


def _power(samples: Samples) -> float:
    return float(samples @ samples) / len(samples)
