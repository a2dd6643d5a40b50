"""Comfort noise: what a pause sounds like, told in a few bytes (RFC 3389).

A payload is the noise's level and, perhaps, its spectrum as reflection coefficients. It stands
for the whole pause up to the next packet.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.telephony.codecs import g711
from ringtrue.telephony.codecs.base import Codec

MAX_ORDER: Final = 12
"""Reflection coefficients used; further ones are passed over, as RFC 3389 §3.3 allows."""

QUIETEST: Final = 90
"""Level in −dBov below which a 16-bit sample is zero."""

LOOP: Final = 16_384
"""Samples made at a time; then the same ones again."""

_FULL_SCALE: Final = 32768.0

Samples = npt.NDArray[np.float32]


class ComfortNoise:
    """Noise as the last payload describes it. PCM is signed 16-bit little-endian mono."""

    def __init__(self, rate: int, seed: int = 0) -> None:
        """``rate`` is the PCM rate in Hz; silent until the first :meth:`update`."""
        self._random = np.random.default_rng(seed)
        self._spectrum: bytes | None = None
        self._loop: Samples = np.zeros(LOOP, np.float32)
        self._rate = rate
        self._at = 0
        self._gain = self._target = 0.0

    def update(self, payload: bytes) -> None:
        """Follow a payload; an empty one changes nothing."""
        if not payload:
            return
        level = payload[0] & 0x7F
        self._target = 0.0 if level > QUIETEST else _FULL_SCALE * 10 ** (-level / 20)
        spectrum = payload[1 : 1 + MAX_ORDER]
        if spectrum != self._spectrum:
            self._spectrum = spectrum
            self._loop = self._shaped(spectrum)

    def generate(self, samples: int) -> bytes:
        """The next ``samples``; a change of level is spread over them."""
        index = (self._at + np.arange(samples)) % LOOP
        self._at = (self._at + samples) % LOOP
        gain = np.linspace(self._gain, self._target, samples, dtype=np.float32)
        self._gain = self._target
        noise = np.clip(np.rint(self._loop[index] * gain), -32768, 32767)
        pcm: bytes = noise.astype("<i2").tobytes()
        return pcm

    def _shaped(self, spectrum: bytes) -> Samples:
        """White noise through the all-pole filter of the reflection coefficients, RMS 1."""
        coefficients = np.ones(1)
        for value in spectrum:
            reflection = 258 * (min(value, 254) - 127) / 32768  # §3.2; always below one
            padded = np.append(coefficients, 0.0)
            coefficients = padded + reflection * padded[::-1]
        white = np.fft.rfft(self._random.standard_normal(LOOP))
        shaped = np.fft.irfft(white / np.fft.rfft(coefficients, LOOP), LOOP)
        unit: Samples = (shaped / np.sqrt(np.mean(shaped**2))).astype(np.float32)
        return unit


def noise_payload(pcm: bytes) -> bytes:
    """The payload that gives the level of ``pcm`` and no spectrum."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    power = float(samples @ samples) / max(1, len(samples))
    level = 127 if power < 1e-3 else round(-10 * np.log10(power / _FULL_SCALE**2))
    return bytes((max(0, min(127, level)),))


class _NoiseCodec(Codec):
    """A packet counts as 20 ms: what follows is a pause and no loss."""

    __slots__ = ()

    def duration(self, payload: bytes) -> int:
        """One tick, whatever its length."""
        return self.clock_rate // 50

    def silent(self, payload: bytes) -> bool:
        """Always: that is what it says."""
        return True


CN: Final = _NoiseCodec("CN", 13, 8000, 8000, 8000, g711.UlawCodec, g711.UlawCodec)
"""As a payload format; the receiver makes its sound by :class:`ComfortNoise`."""
