"""Keeping a flow open, and noticing that it is not (RFC 5626 §3.5, §4.4).

On a stream a ping is a double CRLF, answered by a single one. On UDP a double CRLF only keeps
the way back open through NATs; nothing answers it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, Protocol

from ringtrue.telephony.sip.core import Core
from ringtrue.telephony.sip.stream import PING
from ringtrue.telephony.sip.transport import Hop

STREAM_SECONDS: Final = (95.0, 120.0)
"""Between pings on a stream, where the far end names no time of its own (§4.4.1)."""

DATAGRAM_SECONDS: Final = (24.0, 29.0)
"""Between keepalives over UDP (§4.4.2)."""

SHORTEST: Final = 10.0
PONG_SECONDS: Final = 10.0
"""How long a pong may take (§4.4.1)."""


class FlowContext(Protocol):
    """The user agent, as a keepalive sees it."""

    core: Core
    random: random.Random

    def expect_pong(self, hop: Hop, heard: Callable[[bool], None]) -> None:
        """Call ``heard`` when anything comes from ``hop``, with whether it is the pong."""
        ...


class Keepalive:
    """Pings on one flow until it is stopped, or lost."""

    def __init__(
        self,
        context: FlowContext,
        hop: Hop,
        on_lost: Callable[[float], None],
        *,
        flow_timer: int | None = None,
    ) -> None:
        """``on_lost`` is called with the time where a pong is missing.

        ``flow_timer`` is the far end's Flow-Timer in seconds. Pongs are only missed where it
        gave one, or has answered a ping before: not every server knows them.
        """
        self._context = context
        self.hop = hop
        self._on_lost = on_lost
        self._proven = flow_timer is not None and hop.reliable
        low, high = STREAM_SECONDS if hop.reliable else DATAGRAM_SECONDS
        if flow_timer is not None:
            high = max(SHORTEST, float(flow_timer))
            low = max(SHORTEST, 0.8 * high)
        self._interval = (low, high)
        self._ping_at: float | None = None
        self._pong_by: float | None = None

    def start(self, now: float) -> None:
        """Ping from now on."""
        self._ping_at = now + self._context.random.uniform(*self._interval)
        self._context.core.schedule.track(self)

    def stop(self) -> None:
        """Ping no more."""
        self._ping_at = self._pong_by = None
        self._context.core.schedule.track(self)

    def next_timer(self) -> float | None:
        """The next ping, or the end of waiting for a pong."""
        times = [at for at in (self._ping_at, self._pong_by) if at is not None]
        return min(times, default=None)

    def handle_timer(self, now: float) -> None:
        """Ping, or give the flow up."""
        if self._pong_by is not None and self._pong_by <= now:
            self.stop()
            self._on_lost(now)
        elif self._ping_at is not None and self._ping_at <= now:
            self._ping_at = now + self._context.random.uniform(*self._interval)
            self._context.core.send(PING, self.hop)
            if self.hop.reliable:
                self._context.expect_pong(self.hop, self._heard)
                if self._proven:
                    self._pong_by = now + PONG_SECONDS

    def _heard(self, pong: bool) -> None:
        """Anything shows that the stream lives; only a pong, that pongs can be waited for."""
        self._proven = self._proven or pong
        self._pong_by = None
