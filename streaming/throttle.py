"""Slows down whoever shows wrong keys: a leaky bucket of failures per address."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Final

BURST: Final = 10
"""Failures in a row that are answered like any other."""

LEAK_SECONDS: Final = 6.0
"""After this long one failure is forgotten."""

MAX_ADDRESSES: Final = 4096
"""Addresses remembered; the one that failed longest ago is forgotten first."""


class FailureThrottle:
    """Counts failures by address. ``now`` is in seconds of any steady clock."""

    def __init__(
        self,
        *,
        burst: int = BURST,
        leak_seconds: float = LEAK_SECONDS,
        max_addresses: int = MAX_ADDRESSES,
    ) -> None:
        """Allow ``burst`` failures at once and one more every ``leak_seconds``."""
        self._burst = burst
        self._leak = leak_seconds
        self._max = max_addresses
        self._full: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Addresses remembered."""
        return len(self._full)

    def failed(self, address: str, now: float) -> None:
        """Count one failure."""
        key = network_of(address)
        self._full[key] = (self._level(key, now) + 1, now)
        self._full.move_to_end(key)
        while len(self._full) > self._max:
            self._full.popitem(last=False)

    def wait(self, address: str, now: float) -> float:
        """Seconds until ``address`` may try again; 0 where it may now."""
        key = network_of(address)
        over = self._level(key, now) - (self._burst - 1)
        if over <= 0:
            return 0.0
        return over * self._leak

    def _level(self, key: str, now: float) -> float:
        level, when = self._full.get(key, (0.0, now))
        return max(0.0, level - (now - when) / self._leak)


def network_of(address: str) -> str:
    """What one party controls: an IPv4 address, or an IPv6 /64."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
