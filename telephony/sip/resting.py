"""Servers that are best left alone for a while (RFC 3261 §21.5.4, RFC 3263 §4.3).

One that answered 503 with Retry-After, or didn't answer at all, is not given up: it is tried after
the others, so that the next call doesn't wait for it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ringtrue.telephony.sip.transport import Hop

SILENT_REST: Final = 60.0
"""Seconds for one that was silent, or could not be reached."""

MAX_REST: Final = 600.0
"""Seconds at most, whatever its Retry-After says."""

MAX_RESTING: Final = 256
"""Hops remembered; the oldest gives way."""


class Resting:
    """Which hops rest, and until when."""

    def __init__(self) -> None:
        """None does."""
        self._until: dict[Hop, float] = {}

    def note(self, hop: Hop, seconds: float, now: float) -> None:
        """``hop`` is to be left alone for ``seconds``."""
        self._until.pop(hop, None)
        self._until[hop] = now + min(seconds, MAX_REST)
        if len(self._until) > MAX_RESTING:
            del self._until[next(iter(self._until))]

    def ordered(self, hops: Iterable[Hop], now: float) -> list[Hop]:
        """``hops`` in their order, those that rest behind all others."""
        self._until = {hop: until for hop, until in self._until.items() if until > now}
        return sorted(hops, key=lambda hop: hop in self._until)
