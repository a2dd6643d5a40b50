"""Watermark keys and the chip sequences they stand for.

A mark has two layers over one excitation. The *pilot* says that the mark is there and where its
period begins; its chips come from the detection key, which may be published: it finds marks and
reads nothing. The *data* layer carries a token; its chips, the order of its symbols and the
token's authentication come from the secret key alone.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.watermark.errors import WatermarkError

CHIP_RATE: Final = 8000
"""Chips per second; a mark lives in the telephone band whatever the rate of its host."""

FRAME_CHIPS: Final = 160
"""Chips in a frame of 20 ms."""

PERIOD_FRAMES: Final = 256
PERIOD: Final = PERIOD_FRAMES * FRAME_CHIPS
"""Chips after which the pilot repeats: 5.12 s."""

SYMBOL_CHIPS: Final = 80
"""Chips of one data symbol: 10 ms."""

SYMBOLS: Final = PERIOD // SYMBOL_CHIPS
"""Data symbols in one period: one coded token."""

KEY_BYTES: Final = 32

Chips = npt.NDArray[np.float64]


def derive(key: bytes, label: str) -> bytes:
    """A key of 32 bytes for one use (HMAC-SHA256 as a one-step KDF, NIST SP 800-56C)."""
    return hmac.digest(key, b"ringtrue/watermark/1/" + label.encode(), "sha256")


def keystream(key: bytes, label: str, size: int) -> bytes:
    """``size`` pseudo-random bytes (SHAKE-256, FIPS 202)."""
    return hashlib.shake_256(derive(key, label)).digest(size)


@dataclass(frozen=True)
class DetectionKey:
    """Finds marks; can't read or make a valid token."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise WatermarkError(f"a detection key has {KEY_BYTES} bytes, got {len(self.key)}")

    @property
    def id(self) -> str:
        """16 hexadecimal digits that name the key."""
        return hashlib.sha256(b"ringtrue/watermark/detection" + self.key).hexdigest()[:16]

    @cached_property
    def pilot(self) -> Chips:
        """Chips ±1, shape ``(PERIOD,)``."""
        bits = np.unpackbits(np.frombuffer(keystream(self.key, "pilot", PERIOD // 8), np.uint8))
        chips = bits.astype(np.float64) * 2 - 1
        chips.flags.writeable = False
        return chips


@dataclass(frozen=True)
class MarkKey:
    """Makes marks and reads their tokens."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise WatermarkError(f"a watermark key has {KEY_BYTES} bytes, got {len(self.secret)}")

    @classmethod
    def generate(cls) -> MarkKey:
        """A new key from the system's random source."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @property
    def id(self) -> str:
        """Names the key: the id of its detection key."""
        return self.detection.id

    @cached_property
    def detection(self) -> DetectionKey:
        """The part that may be published."""
        return DetectionKey(derive(self.secret, "detection"))

    @cached_property
    def carrier(self) -> Chips:
        """The data layer's chips ±1, ``(PERIOD,)``; balanced against the pilot per symbol."""
        order = np.frombuffer(keystream(self.secret, "carrier", PERIOD * 4), "<u4")
        rank = np.argsort(order.reshape(SYMBOLS, SYMBOL_CHIPS), axis=1, kind="stable")
        balanced = np.where(rank < SYMBOL_CHIPS // 2, 1.0, -1.0).ravel()
        chips = self.detection.pilot * balanced
        chips.flags.writeable = False
        return chips

    @cached_property
    def signs(self) -> npt.NDArray[np.int8]:
        """Pilot and carrier, ``(2, PERIOD)``, as marking takes them: an eighth of the memory."""
        signs = np.stack([self.detection.pilot, self.carrier]).astype(np.int8)
        signs.flags.writeable = False
        return signs
