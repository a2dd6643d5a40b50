"""DTMF digits out of the audio itself, for far ends that send no telephone events.

Every 5 ms the last 20 ms are compared with the eight frequencies of ITU-T Q.23 (the sums that
Goertzel's recursion yields, as one small matrix product). A digit is one row and one column that
together hold most of the energy, for some looks in a row: 40 ms of tone are always enough, 23 ms
never, and a break of 10 ms is bridged (Q.24). Speech seldom is that pure, and not for that long.

So that calls in which nobody dials cost little, this is done one frame late, and only where one
of the frames around it looked like a key at all: a tone of 40 ms fills one of them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.streaming.tones import COLUMNS, KEYS, ROWS

BLOCK: Final = 0.020
HOP: Final = 0.005

LOOKS: Final = 6
"""Looks in a row that make a digit: tones of 40 ms give 6 to 8 of them, of 23 ms 5 at most."""

LET_GO: Final = 5
"""Looks in a row without it that end it."""

SHARE: Final = 0.55
"""Of a block's energy that must be the two tones'; off by 1.5 % in frequency they show 0.65."""

HINT: Final = 0.3
"""Share in a whole frame that makes it worth a closer look."""

APART: Final = 4.0
"""Power ratio (6 dB) by which a tone must stand out in its group."""

TWIST_LOW, TWIST_HIGH = 0.1, 10**0.7
"""Power of the column against the row: −10 to +7 dB (Q.24 asks for −8 to +4)."""

QUIETEST: Final = 520.0
"""RMS (−36 dBFS) under which nothing counts as a tone."""

Samples = npt.NDArray[np.float32]


def _matrix(rate: int) -> Samples:
    time = np.arange(int(BLOCK * rate)) / rate
    phases = 2 * np.pi * np.outer(np.array((*ROWS, *COLUMNS), float), time)
    return np.concatenate((np.cos(phases), np.sin(phases))).T.astype(np.float32)


class ToneDetector:
    """One caller's keys. PCM is signed 16-bit little-endian mono."""

    def __init__(self, rate: int) -> None:
        """``rate`` is the PCM rate in Hz: 8000 or 16000."""
        self._matrix = _matrix(rate)
        self._block, self._hop = int(BLOCK * rate), int(HOP * rate)
        self._floor = QUIETEST * QUIETEST * self._block
        silence: Samples = np.zeros(self._block, np.float32)
        self._frames = (silence, silence)
        self._hints = (False, False)
        self._candidate: str | None = None
        self._looks = 0
        self._key: str | None = None
        self._without = 0

    @property
    def active(self) -> bool:
        """A key is being held."""
        return self._key is not None

    def feed(self, pcm: bytes) -> str:
        """Take 20 ms; returns the digits that are certain now."""
        frame: Samples = np.frombuffer(pcm, "<i2").astype(np.float32)
        older, last = self._frames
        hints = (*self._hints, self._hinted(frame))
        self._frames, self._hints = (last, frame), hints[1:]
        if self._key is None and not any(hints):
            self._candidate = None
            return ""
        joined = np.concatenate((older[self._hop :], last))
        blocks = np.lib.stride_tricks.sliding_window_view(joined, self._block)[:: self._hop]
        return "".join(map(self._look, self._judged(blocks)))

    def _hinted(self, frame: Samples) -> bool:
        energy = float(frame @ frame)
        if energy < self._floor / 4:  # a tone may fill no more than a part of it
            return False
        parts = (frame @ self._matrix).tolist()
        tones = [
            cosine * cosine + sine * sine for cosine, sine in zip(parts[:8], parts[8:], strict=True)
        ]
        pure = (max(tones[:4]) + max(tones[4:])) * 2 / self._block
        return bool(pure >= HINT * energy)

    def _look(self, key: str | None) -> str:
        self._looks = self._looks + 1 if key is not None and key == self._candidate else 1
        self._candidate = key
        if key is not None and key == self._key:
            self._without = 0
            return ""
        self._without += 1
        if self._key is not None and self._without >= LET_GO:
            self._key = None
        if key is None or self._looks < LOOKS:
            return ""
        self._key, self._without = key, 0
        return key

    def _judged(self, blocks: Samples) -> list[str | None]:
        """The key whose tones each block is made of, if it is."""
        energies = np.einsum("ij,ij->i", blocks, blocks)
        parts = blocks @ self._matrix
        # a pure tone's power in these units is its sum of squares
        powers = (parts[:, :8] ** 2 + parts[:, 8:] ** 2) * (2 / self._block)
        keys: list[str | None] = []
        for energy, tones in zip(energies.tolist(), powers.tolist(), strict=True):
            rows, columns = tones[:4], tones[4:]
            low, high = max(rows), max(columns)
            second_low, second_high = sorted(rows)[-2], sorted(columns)[-2]
            pure = (
                energy >= self._floor
                and low + high >= SHARE * energy
                and TWIST_LOW * low <= high <= TWIST_HIGH * low
                and second_low * APART <= low
                and second_high * APART <= high
            )
            keys.append(KEYS[rows.index(low)][columns.index(high)] if pure else None)
        return keys
