"""One caller's keys, each once, by however many ways the far end tells of them.

Telephones can be set to send a key as a telephone event and by SIP INFO at once, and gateways
leave the tone in the audio beside either. What comes again by another way, soon enough, is the
same press.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import Final

SAME: Final = 2.0
"""Seconds within which another way tells of the same press: a key may be held for a while."""

MAX_WAITING: Final = 64
"""Presses remembered; the oldest is forgotten first."""


class Way(Enum):
    """How a key was told of."""

    EVENT = auto()
    TONE = auto()
    SIGNALLING = auto()


class KeyMerger:
    """``now`` is seconds on a monotonic clock."""

    def __init__(self) -> None:
        """Nothing was pressed yet."""
        self._presses: deque[tuple[float, str, set[Way]]] = deque(maxlen=MAX_WAITING)

    def take(self, way: Way, keys: str, now: float) -> str:
        """Those of ``keys`` that no other way told of before."""
        presses = self._presses
        while presses and now - presses[0][0] > SAME:
            presses.popleft()
        return "".join(key for key in keys if self._is_new(way, key, now))

    def _is_new(self, way: Way, key: str, now: float) -> bool:
        for _, pressed, ways in self._presses:
            if pressed == key and way not in ways:
                ways.add(way)
                return False
        self._presses.append((now, key, {way}))
        return True
