"""How many places one source may hold with calls it asked for and does not acknowledge.

Who asks for a call and answers nothing, as scanners do, holds a place until SIP gives up on its
ACK: 32 s (RFC 3261 §13.3.1.4). Without a limit the first few seconds of a scan would take every
place there is.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from ringtrue.streaming.throttle import network_of

SHARE: Final = 4
"""One source may hold one place in so many."""

LEAST: Final = 4
"""But this many in any case."""


class Unacknowledged:
    """Counts by source: an IPv4 address, or an IPv6 /64. Its size is bounded by the places."""

    def __init__(self, places: int, is_exempt: Callable[[str], bool] = lambda host: False) -> None:
        """Of ``places`` in all; ``is_exempt`` says which hosts are not counted."""
        self.most = max(LEAST, places // SHARE)
        self._is_exempt = is_exempt
        self._held: Counter[str] = Counter()

    def __len__(self) -> int:
        """Places held so, by all sources."""
        return self._held.total()

    def full(self, host: str) -> bool:
        """Whether ``host``'s source holds as many as it may."""
        return self._held[network_of(host)] >= self.most and not self._is_exempt(host)

    @contextlib.contextmanager
    def holding(self, host: str) -> Iterator[None]:
        """Count a place for ``host``'s source while its answer is not acknowledged."""
        source = network_of(host)
        self._held[source] += 1
        try:
            yield
        finally:
            self._held[source] -= 1
            if not self._held[source]:
                del self._held[source]
