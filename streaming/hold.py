"""What a far end hears that was put on hold: quiet music made here, owned by nobody.

A slow arpeggio over four chords in the telephone band, with soft attacks, so that it survives any
codec. It passes the gate like everything else.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from ringtrue.streaming.ports import frame_bytes

CHORDS: Final = ((60, 64, 67, 72), (57, 60, 64, 69), (53, 57, 60, 65), (55, 59, 62, 67))
"""MIDI notes: C, A minor, F, G."""

NOTE_SECONDS: Final = 0.5
RING_SECONDS: Final = 1.5
"""How long a note sounds; it rings into the next ones."""

ATTACK_SECONDS: Final = 0.02
PEAK: Final = 0.08
"""Of full scale: about -22 dBFS."""


class HoldMusic:
    """An endless piece, 20 ms at a time."""

    def __init__(self, rate: int) -> None:
        """At ``rate`` Hz, from the beginning."""
        self._loop = melody(rate)
        self._size = frame_bytes(rate)
        self._at = 0

    def next(self) -> bytes:
        """The next 20 ms of PCM."""
        at, self._at = self._at, (self._at + self._size) % len(self._loop)
        return self._loop[at : at + self._size]


@lru_cache(maxsize=4)
def melody(rate: int) -> bytes:
    """The whole piece as 16-bit PCM: whole frames, and its end leads into its beginning."""
    notes = [note for chord in CHORDS for note in (*chord, *reversed(chord))]
    step, ring = int(NOTE_SECONDS * rate), int(RING_SECONDS * rate)
    sound = np.zeros(step * len(notes))
    time = np.arange(ring) / rate
    envelope = np.minimum(1.0, time / ATTACK_SECONDS) * np.exp(-3.0 * time)
    envelope *= np.minimum(1.0, (RING_SECONDS - time) / 0.1)
    for number, note in enumerate(notes):
        frequency = 440.0 * 2.0 ** ((note - 69) / 12)
        tone = np.sin(2 * np.pi * frequency * time) + 0.2 * np.sin(4 * np.pi * frequency * time)
        at = (number * step + np.arange(ring)) % len(sound)
        sound[at] += tone * envelope
    sound *= PEAK * 32767 / np.max(np.abs(sound))
    return np.rint(sound).astype("<i2").tobytes()
