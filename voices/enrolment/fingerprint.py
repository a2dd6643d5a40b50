"""Fingerprints of recordings: which of two are the same sound, whatever it has been through.

The bits are signs of energy differences along frequency and time, after Haitsma and Kalker, "A
Highly Robust Audio Fingerprinting System" (ISMIR 2002), in the telephone band, with a mask of the
frames that hold sound: a pause says nothing, and the mask keeps it from saying so loudly. Two
recordings are held against each other piece by piece, at several speeds, at every offset.

A fingerprint is a few kilobytes and is no speech, but tells whether somebody has a recording:
keep it as confidential as the recording.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.engine import SPEECH_RATE
from ringtrue.voices.enrolment.errors import EnrolmentError

RealArray = npt.NDArray[np.float64]
BitArray = npt.NDArray[np.int8]

HOP: Final = 320
"""Samples from frame to frame: 20 ms."""

WINDOW: Final = 2048
"""Samples a frame looks at: 128 ms. Twice that survives a room better, but also finds one person's
two readings of a text alike."""

LOW_HZ: Final = 280.0
HIGH_HZ: Final = 3400.0
BITS: Final = 24

LAG: Final = 1
"""Frames between which energies are compared."""

ACTIVE_DB: Final = 35.0
"""Frames further below the loud ones than this say nothing."""

MAX_FRAMES: Final = 3200
"""A little over a minute."""

PIECE: Final = 200
"""Frames of a recording that are searched for at once: 4 s."""

STEP: Final = 100

SHORTEST: Final = 75
"""Frames with sound on both sides below which an overlap is not judged: 1.5 s."""

SPEEDS: Final = (0.96, 0.98, 1.0, 1.02, 1.04)
"""How much faster a replay may run; each covers what lies 1 % to either side."""

_MAGIC: Final = b"RTF1"
_HEADER: Final = struct.Struct("<4sH")


class FingerprintError(EnrolmentError):
    """The bytes are no fingerprint, or of another version."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """One recording's signs."""

    signs: BitArray = field(repr=False)
    """-1 or 1, and 0 in frames without sound; shape ``(frames, BITS)``."""

    def to_bytes(self) -> bytes:
        """About 156 bytes for each second."""
        active = np.any(self.signs, axis=1)
        return (
            _HEADER.pack(_MAGIC, len(self.signs))
            + np.packbits(active).tobytes()
            + np.packbits(self.signs > 0, axis=1).tobytes()
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Fingerprint:
        """What :meth:`to_bytes` made. Raises :class:`FingerprintError` for anything else."""
        if len(data) < _HEADER.size or not data.startswith(_MAGIC):
            raise FingerprintError("the bytes are no fingerprint of a recording")
        _, frames = _HEADER.unpack_from(data)
        mask_size = -(-frames // 8)
        needed = _HEADER.size + mask_size + frames * BITS // 8
        if frames > MAX_FRAMES or len(data) != needed:
            raise FingerprintError(
                f"a fingerprint of {frames} frames has {needed} bytes and at most {MAX_FRAMES} "
                f"frames; this one has {len(data)} bytes"
            )
        raw = np.frombuffer(data, np.uint8, offset=_HEADER.size)
        active = np.unpackbits(raw[:mask_size], count=frames).astype(np.int8)
        bits = np.unpackbits(raw[mask_size:].reshape(frames, BITS // 8), axis=1).astype(np.int8)
        return cls((2 * bits - 1) * active[:, None])


@dataclass(frozen=True, slots=True)
class Match:
    """Where two recordings agree best."""

    score: float
    """Share of signs that agree beyond chance over 4 s, -1 to 1; less sound counts for less."""

    seconds: float
    """Sound in the piece that was compared."""

    at: float
    """Where the piece lies in the earlier recording, in seconds."""

    speed: float
    """How much faster than the earlier one it runs."""


NO_MATCH: Final = Match(0.0, 0.0, 0.0, 1.0)


def fingerprint(samples: npt.NDArray[np.float32]) -> Fingerprint:
    """The fingerprint of mono samples at 16 kHz, shape (n,); what is past a minute is left out.

    Blocking: some 40 ms of CPU for 30 s.
    """
    energies = _band_energies(samples[: MAX_FRAMES * HOP])
    if len(energies) <= LAG:
        return Fingerprint(np.zeros((0, BITS), np.int8))
    slope = energies[:, :-1] - energies[:, 1:]
    rising = slope[LAG:] - slope[:-LAG]
    loudness = energies[LAG:].max(axis=1)
    floor = np.quantile(loudness, 0.95) - ACTIVE_DB * np.log(10) / 10
    active = loudness > max(floor, np.log(1e-9))
    signs = np.where(rising > 0, 1, -1) * active[:, None]
    return Fingerprint(signs[:MAX_FRAMES].astype(np.int8))


def best_match(new: Fingerprint, earlier: Sequence[Fingerprint]) -> Match:
    """Where ``new`` agrees best with any of ``earlier``; :data:`NO_MATCH` where nothing compares.

    Blocking: some 10 ms of CPU for each 30 s held against 30 s.
    """
    best = NO_MATCH
    for size in {_transform_size(len(other.signs)) for other in earlier}:
        pieces = _pieces(new, size)
        for other in earlier:
            if _transform_size(len(other.signs)) == size:
                best = max(best, _compare(pieces, other, size), key=lambda match: match.score)
    return best


@dataclass(frozen=True, slots=True)
class _Piece:
    speed: float
    signs: npt.NDArray[np.complex64]
    """Conjugate spectrum of the signs, shape (bins, BITS)."""
    mask: npt.NDArray[np.complex64]


def _transform_size(frames: int) -> int:
    return int(2 ** np.ceil(np.log2(max(frames, 1) + PIECE)))


def _pieces(new: Fingerprint, size: int) -> list[_Piece]:
    found = []
    for speed in SPEEDS:
        # Sped up, a recording passes more of the earlier one's frames in each of its own.
        length = int(len(new.signs) * speed)
        index = np.minimum((np.arange(length) / speed).round().astype(int), len(new.signs) - 1)
        stretched = new.signs[index]
        for start in range(0, max(1, length - PIECE + STEP), STEP):
            piece = stretched[start : start + PIECE].astype(np.float32)
            mask = np.any(piece, axis=1).astype(np.float32)
            if mask.sum() >= SHORTEST:
                found.append(
                    _Piece(
                        speed,
                        np.fft.rfft(piece, size, axis=0).conj().astype(np.complex64),
                        np.fft.rfft(mask, size).conj().astype(np.complex64),
                    )
                )
    return found


def _compare(pieces: Sequence[_Piece], other: Fingerprint, size: int) -> Match:
    if not pieces or len(other.signs) < SHORTEST:
        return NO_MATCH
    signs = np.fft.rfft(other.signs.astype(np.float32), size, axis=0).astype(np.complex64)
    mask = np.fft.rfft(np.any(other.signs, axis=1).astype(np.float32), size).astype(np.complex64)
    best = NO_MATCH
    for piece in pieces:
        agreement = np.fft.irfft(np.einsum("ij,ij->i", signs, piece.signs), size)
        overlap = np.fft.irfft(mask * piece.mask, size).round()
        enough = overlap >= SHORTEST
        if not enough.any():
            continue
        score = np.where(
            enough, agreement / (BITS * np.sqrt(np.maximum(overlap, 1.0) * PIECE)), -1.0
        )
        at = int(score.argmax())
        if score[at] > best.score:
            offset = at if at < size - PIECE else at - size
            seconds = float(overlap[at]) * HOP / SPEECH_RATE
            best = Match(float(score[at]), seconds, offset * HOP / SPEECH_RATE, piece.speed)
    return best


def _band_energies(samples: npt.NDArray[np.float32]) -> RealArray:
    """Natural logarithms of the energies, shape (frames, BITS + 1)."""
    if len(samples) < WINDOW:
        return np.zeros((0, BITS + 1))
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    window, bands = _analysis()
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    return np.asarray(np.log(power @ bands + 1e-12), np.float64)


@cache
def _analysis() -> tuple[RealArray, RealArray]:
    """The window (WINDOW,), of unit energy, and the bands as a matrix (bins, BITS + 1)."""
    window = np.hanning(WINDOW + 1)[:-1]
    window /= np.sqrt(np.sum(window**2) * WINDOW)
    edges = np.geomspace(LOW_HZ, HIGH_HZ, BITS + 2)
    hz = np.fft.rfftfreq(WINDOW, 1 / SPEECH_RATE)
    bands = (hz[:, None] >= edges[:-1]) & (hz[:, None] < edges[1:])
    return window, bands.astype(np.float64)
