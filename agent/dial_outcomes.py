"""How far a placed call is, and what came of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from ringtrue.agent.logs import scrubbed
from ringtrue.telephony.sip.errors import CallFailedError, CallTimeoutError

MAX_REASON: Final = 80
"""Characters of a far end's reason that are kept."""


class PlacedState(StrEnum):
    """How far a call is."""

    DIALLING = "dialling"
    RINGING = "ringing"
    """The far end rings, or plays something before it answers."""

    ANSWERED = "answered"
    ENDED = "ended"
    """It was answered, and is over."""

    FAILED = "failed"
    """It was not answered; the outcome says why."""

    @property
    def over(self) -> bool:
        """Whether it is a last state."""
        return self in (PlacedState.ENDED, PlacedState.FAILED)


class DialOutcome(StrEnum):
    """What came of it."""

    ANSWERED = "answered"
    BUSY = "busy"
    DECLINED = "declined"
    """Somebody, or their phone, said no."""

    NO_ANSWER = "no_answer"
    UNREACHABLE = "unreachable"
    """There is no such number or host, or nothing can be sent there."""

    REFUSED = "refused"
    """The network wouldn't take the call from us."""

    FAILED = "failed"
    CANCELLED = "cancelled"
    """By us, before it was answered."""


_BY_STATUS: Final = {
    401: DialOutcome.REFUSED,
    402: DialOutcome.REFUSED,
    403: DialOutcome.REFUSED,
    404: DialOutcome.UNREACHABLE,
    407: DialOutcome.REFUSED,
    408: DialOutcome.NO_ANSWER,
    410: DialOutcome.UNREACHABLE,
    480: DialOutcome.NO_ANSWER,
    484: DialOutcome.UNREACHABLE,
    485: DialOutcome.UNREACHABLE,
    486: DialOutcome.BUSY,
    487: DialOutcome.CANCELLED,
    502: DialOutcome.UNREACHABLE,
    600: DialOutcome.BUSY,
    603: DialOutcome.DECLINED,
    604: DialOutcome.UNREACHABLE,
    607: DialOutcome.DECLINED,
    608: DialOutcome.REFUSED,
}


def outcome_of(error: CallFailedError, *, rang: bool) -> DialOutcome:
    """What a failed call came to; ``rang`` says that a provisional response had come."""
    if not error.heard and not rang:
        return DialOutcome.UNREACHABLE
    if isinstance(error, CallTimeoutError):
        return DialOutcome.NO_ANSWER
    return _BY_STATUS.get(error.status, DialOutcome.FAILED)


def printable(reason: str) -> str:
    """A far end's words, without what could be somebody's number."""
    text = "".join(c if " " <= c <= "~" else "?" for c in reason[:MAX_REASON])
    return scrubbed(text)
