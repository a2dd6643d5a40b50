"""Reliable provisional responses (RFC 3262): RSeq, RAck and PRACK, from both sides."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ringtrue.telephony.sip.context import Context
from ringtrue.telephony.sip.message import Message, Request, Response
from ringtrue.telephony.sip.server_transaction import ServerTransaction

OPTION: Final = "100rel"
"""The option tag."""

MAX_RSEQ: Final = 2**32 - 1
FIRST_RSEQ: Final = 2**31 - 1
"""Largest number a UAS may begin with (§3)."""

_RSEQ: Final = re.compile(r"\s*([0-9]{1,10})\s*\Z")
_RACK: Final = re.compile(r"\s*([0-9]{1,10})\s+([0-9]{1,10})\s+([A-Za-z]{1,20})\s*\Z")


def wants(message: Message, name: str) -> bool:
    """Whether header ``name`` (Require or Supported) lists ``100rel``."""
    return OPTION in (tag.lower() for tag in message.tokens(name))


def rseq_of(response: Response) -> int | None:
    """The RSeq of a provisional response to be acknowledged; None where it needs none."""
    if response.status <= 100 or not response.provisional or not wants(response, "require"):
        return None
    match = _RSEQ.match(response.headers.get("rseq") or "")
    number = int(match[1]) if match else 0
    return number if 1 <= number <= MAX_RSEQ else None


def rack_of(request: Request) -> tuple[int, int, str] | None:
    """RSeq, CSeq and method that a PRACK acknowledges; None where it can't be read."""
    match = _RACK.match(request.headers.get("rack") or "")
    return (int(match[1]), int(match[2]), match[3]) if match else None


@dataclass(slots=True)
class _Unacknowledged:
    number: int
    response: Response
    interval: float
    again: float
    deadline: float


class Provisionals:
    """The UAS's side of one INVITE: sends until acknowledged, one at a time (§3)."""

    def __init__(self, context: Context, transaction: ServerTransaction, request: Request) -> None:
        """For ``request``, which requires reliable responses."""
        self._context = context
        self._transaction = transaction
        self._request = request
        self._number = context.random.randint(1, FIRST_RSEQ)
        self._waiting: _Unacknowledged | None = None

    @property
    def waiting(self) -> bool:
        """One is unacknowledged: another must not be sent."""
        return self._waiting is not None

    def send(
        self, status: int, to_tag: str, extra: tuple[tuple[str, str], ...], now: float
    ) -> None:
        """Send ``status`` reliably; nothing while another one waits."""
        if self._waiting is not None:
            return
        self._number += 1
        lines = (*extra, ("require", OPTION), ("rseq", str(self._number)))
        response = self._context.response(self._request, status, to_tag=to_tag, extra=lines)
        timers = self._context.core.policy.timers
        self._waiting = _Unacknowledged(
            self._number, response, timers.t1, now + timers.t1, now + timers.timeout
        )
        self._context.core.respond(self._transaction, response, now)

    def acknowledge(self, prack: Request) -> bool:
        """Take a PRACK; False where nothing waits for it (481)."""
        waiting = self._waiting
        if waiting is None:
            return False
        if rack_of(prack) != (waiting.number, self._request.cseq, "INVITE"):
            return False
        self._waiting = None
        return True

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` is due."""
        return None if self._waiting is None else min(self._waiting.again, self._waiting.deadline)

    def handle_timer(self, now: float) -> bool:
        """Send again at doubling intervals; True once 64*T1 went by without a PRACK."""
        waiting = self._waiting
        if waiting is None:
            return False
        if waiting.deadline <= now:
            self._waiting = None
            return True
        if waiting.again <= now:
            waiting.interval *= 2
            waiting.again = now + waiting.interval
            self._context.core.respond(self._transaction, waiting.response, now)
        return False
