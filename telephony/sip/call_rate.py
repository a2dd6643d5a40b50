"""How many new calls one source may begin: a token bucket each, looked at before any parsing."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from ringtrue.streaming.throttle import network_of

MAX_SOURCES: Final = 4096
"""Sources remembered; the one heard longest ago is forgotten first."""

_TO: Final = re.compile(rb"\r\n(?:to|t)[ \t]*:([^\r\n]*)", re.IGNORECASE)
_TAG: Final = re.compile(rb";[ \t]*tag[ \t]*=", re.IGNORECASE)


def makes_call(data: bytes) -> bool:
    """Whether a message looks like an INVITE outside any call, without reading it."""
    if not data.startswith(b"INVITE "):
        return False
    to = _TO.search(data)
    return to is None or _TAG.search(to[1]) is None


class CallRate:
    """Counts new calls by source: an IPv4 address, or an IPv6 /64."""

    def __init__(
        self,
        per_second: float,
        burst: int,
        *,
        is_exempt: Callable[[str], bool] = lambda host: False,
        max_sources: int = MAX_SOURCES,
    ) -> None:
        """Let ``burst`` calls begin at once and ``per_second`` after that, for each source.

        ``is_exempt`` says which hosts are not counted. Raises ValueError on a rate or burst that
        would let nobody in.
        """
        if per_second <= 0 or burst < 1:
            raise ValueError(f"rate {per_second} and burst {burst} let no call in")
        self._rate = per_second
        self._burst = float(burst)
        self._is_exempt = is_exempt
        self._max = max_sources
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.refused = 0
        """Messages not let in since the start."""

    def __len__(self) -> int:
        """Sources remembered."""
        return len(self._buckets)

    def admit(self, host: str, now: float) -> bool:
        """Whether a message from ``host`` may begin a call at ``now``."""
        if self._is_exempt(host):
            return True
        source = network_of(host)
        left, when = self._buckets.get(source, (self._burst, now))
        left = min(self._burst, left + (now - when) * self._rate)
        allowed = left >= 1
        self._buckets[source] = (left - 1 if allowed else left, now)
        self._buckets.move_to_end(source)
        while len(self._buckets) > self._max:
            self._buckets.popitem(last=False)
        self.refused += not allowed
        return allowed
