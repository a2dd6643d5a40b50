"""What the four transaction machines share (RFC 3261 §17, RFC 6026).

A machine takes one input and the time and returns its outputs; it owns no socket and no clock.
Its current state is a method (``_calling``, ``_proceeding`` …), so each state's rules stand in
one place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.schedule import Timers

MAGIC_COOKIE: Final = "z9hG4bK"


class State(StrEnum):
    """Names of RFC 3261 §17 and RFC 6026 §7."""

    CALLING = "Calling"
    TRYING = "Trying"
    PROCEEDING = "Proceeding"
    ACCEPTED = "Accepted"
    COMPLETED = "Completed"
    CONFIRMED = "Confirmed"
    TERMINATED = "Terminated"


@dataclass(frozen=True, slots=True)
class Received:
    """Input: a message of this transaction came from the network."""

    message: Request | Response


@dataclass(frozen=True, slots=True)
class Respond:
    """Input: the transaction user answers."""

    response: Response


@dataclass(frozen=True, slots=True)
class Fired:
    """Input: a timer, by its RFC letter."""

    timer: str


@dataclass(frozen=True, slots=True)
class TransportFailed:
    """Input: what was sent can't be delivered (§17.1.4, §17.2.4)."""


Input = Received | Respond | Fired | TransportFailed


@dataclass(frozen=True, slots=True)
class Transmit:
    """Output: put these bytes on the wire."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Deliver:
    """Output: hand this message to the transaction user."""

    message: Request | Response


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Output: Timer B, F or H ran out; tell the transaction user."""

    timer: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Output: the transport failed; tell the transaction user."""


Output = Transmit | Deliver | TimedOut | Unreachable
Step = Callable[[Input, float], list[Output]]


class Transaction:
    """Timers and the current state; the machines below add the rules."""

    def __init__(self, request: Request, *, reliable: bool, timers: Timers) -> None:
        """``reliable`` is True on TCP, where retransmission timers stay off."""
        self.request = request
        self.reliable = reliable
        self.timers = timers
        self.state = State.TERMINATED
        self._step: Step = _terminated
        self._deadlines: dict[str, float] = {}

    def handle(self, given: Input, now: float) -> list[Output]:
        """Take one input."""
        return self._step(given, now)

    def next_timer(self) -> float | None:
        """When the earliest timer fires, or None."""
        return min(self._deadlines.values(), default=None)

    def fire(self, now: float) -> list[Output]:
        """Fire the timers due at ``now``, earliest first."""
        outputs: list[Output] = []
        while self._deadlines:
            name, when = min(self._deadlines.items(), key=lambda item: item[1])
            if when > now:
                break
            del self._deadlines[name]
            outputs += self._step(Fired(name), now)
        return outputs

    def _enter(self, state: State, step: Step, **timers: float) -> None:
        """Change state: timers of the old one are dropped, ``timers`` (absolute) are set."""
        self.state, self._step, self._deadlines = state, step, timers

    def _terminate(self) -> None:
        self._enter(State.TERMINATED, _terminated)


def _terminated(_given: Input, _now: float) -> list[Output]:
    """The step of one that is over. No method: bound to it, it would hold what nobody else does."""
    return []


def client_key(request: Request) -> tuple[str, str]:
    """What a response is matched by: branch and CSeq method (§17.1.3)."""
    return (request.via.branch or "", request.method)


def server_key(request: Request) -> tuple[str, ...]:
    """What a request is matched by (§17.2.3); an ACK belongs to its INVITE.

    Without the magic cookie, RFC 2543's rules apply; the To tag is left out, because an ACK
    carries the one our response added.
    """
    via = request.via
    method = "INVITE" if request.method == "ACK" else request.method
    branch = via.branch or ""
    if branch.startswith(MAGIC_COOKIE) and len(branch) > len(MAGIC_COOKIE):
        return (branch, via.host.lower(), str(via.port or 5060), method)
    return (
        "2543",
        str(request.uri),
        request.from_.tag or "",
        request.call_id,
        str(request.cseq),
        str(via),
        method,
    )
