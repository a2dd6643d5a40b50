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

_LOW_HZ, _HIGH_HZ = 300.0, 3400.0
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
        self._correlation = np.zeros(LAGS, np.float64)
        self._peak: int | None = None
        self._agreed = 0
        frequency = np.fft.rfftfreq(_FFT, 1 / RATE)
        self._band = (frequency >= _LOW_HZ) & (frequency <= _HIGH_HZ)

    def push(self, sent: bytes, heard: bytes) -> None:
        """The next frame of both, 16-bit PCM."""
        self._sent.append(sent)
        self._heard.append(heard)

    def look(self, agree: int = 2) -> Found | None:
        """The echo, once ``agree`` looks in a row agree on it. About 0.5 ms."""
        sent, heard = self._narrow(self._sent), self._narrow(self._heard)
        if _rms(sent) < ACTIVE_RMS or _rms(heard) < 1.0:
            return None
        # heard[n] = sent[n + LAGS - delay], so the correlation peaks at LAGS - delay.
        cross = np.fft.rfft(sent, _FFT) * np.conj(np.fft.rfft(heard, _FFT))
        cross = np.where(self._band, cross / (np.abs(cross) + 1e-6), 0)
        lagged = np.fft.irfft(cross, _FFT)[1 : LAGS + 1][::-1]
        self._correlation *= SMOOTHING
        self._correlation += (1 - SMOOTHING) * lagged
        magnitude = np.abs(self._correlation)
        magnitude[:SOONEST] = 0
        peak = int(np.argmax(magnitude))
        strength = float(magnitude[peak] / (np.median(magnitude) + 1e-12))
        rest = magnitude.copy()
        rest[max(0, peak - NEIGHBOURS) : peak + NEIGHBOURS] = 0
        distinct = magnitude[peak] >= DISTINCT * rest.max()
        before, self._peak = self._peak, peak if distinct and strength >= PEAK else None
        if self._peak is None:
            self._agreed = 0
        elif before is None or abs(before - peak) > TOLERANCE:
            self._agreed = 1
        else:
            self._agreed += 1
        if self._agreed < agree:
            return None
        late = sent[LAGS - peak : LAGS - peak + WINDOW]
        return Found(peak, strength, (_rms(heard) / max(1.0, _rms(late))) ** 2)

    def restart(self) -> None:
        """Forget what was found; the audio stays."""
        self._correlation[:] = 0
        self._peak = None
        self._agreed = 0

    def _narrow(self, frames: deque[bytes]) -> npt.NDArray[np.float32]:
        samples = np.frombuffer(b"".join(frames), np.int16).astype(np.float32)
        return samples if self._factor == 1 else 0.5 * (samples[::2] + samples[1::2])


def _rms(samples: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(samples**2)))
