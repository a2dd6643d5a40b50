"""What the user agent tells its owner. ``call`` is always the handle the methods take."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ringtrue.telephony.sip.message import Request
from ringtrue.telephony.sip.transport import Hop


class EndCause(StrEnum):
    """Why an established call ended."""

    REMOTE_BYE = "remote_bye"
    """The far end said BYE."""

    LOCAL_BYE = "local_bye"
    """We said BYE and it was answered, or timed out."""

    NO_ACK = "no_ack"
    """Our 2xx was never acknowledged; BYE was sent (RFC 3261 §13.3.1.4)."""

    LOST = "lost"
    """A request of ours inside the dialog got no answer, or 481 (§12.2.1.2)."""


class CancelCause(StrEnum):
    """Why an incoming call ended before it was answered."""

    CANCEL = "cancel"
    """The caller gave up."""

    EXPIRED = "expired"
    """Its Expires, or our ring limit, ran out."""


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""

    call: str
    """The call's handle."""


@dataclass(frozen=True, slots=True)
class IncomingInvite(Event):
    """A new call. Answer with ``ring``, ``accept`` or ``reject``; 100 Trying is sent."""

    request: Request
    source: Hop
    offer: bytes | None
    """The caller's SDP; None where our 200 has to offer."""

    replaces: str | None = None
    """Handle of the call it is to take the place of (RFC 3891), which is then to be ended."""


@dataclass(frozen=True, slots=True)
class Cancelled(Event):
    """An incoming call is gone before it was answered; the final response is sent."""

    cause: CancelCause


@dataclass(frozen=True, slots=True)
class Confirmed(Event):
    """The ACK to our 2xx came: the call, or its change, stands."""

    answer: bytes | None
    """The far end's SDP where our 2xx carried the offer; else None."""


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """A provisional response to our INVITE, 100 excepted."""

    status: int
    reason: str
    answer: bytes | None = None
    """Its SDP: what the far end plays before it answers. Listen, never talk to it."""


@dataclass(frozen=True, slots=True)
class Answered(Event):
    """Our call was answered; the ACK is sent."""

    answer: bytes | None
    """The far end's SDP; None where it sent none, which ends the call."""

    changed: bool = False
    """The far end has changed the session since, by UPDATE: what that agreed on stands."""


@dataclass(frozen=True, slots=True)
class Rejected(Event):
    """Our call failed: the final status, 408 where nobody answered, 503 where nothing arrived."""

    status: int
    reason: str
    retry_after: int | None
    """Seconds, from Retry-After."""

    heard: bool = True
    """A far end said so; False where nothing could be sent, or nobody answered."""


@dataclass(frozen=True, slots=True)
class ReInvite(Event):
    """The far end wants to change the session, by INVITE or UPDATE (RFC 3311).

    Answer with ``accept`` or ``reject``.
    """

    offer: bytes | None
    """Its SDP; None where our 200 has to offer."""


@dataclass(frozen=True, slots=True)
class ReInviteAnswered(Event):
    """Our change was accepted; the ACK is sent."""

    answer: bytes | None


@dataclass(frozen=True, slots=True)
class ReInviteRejected(Event):
    """Our change was refused; the session stays as it was."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class RefreshDue(Event):
    """The session has to be refreshed (RFC 4028 §10): call ``reinvite`` with the same session.

    Only where the far end doesn't take UPDATE, which needs no session description.
    """


@dataclass(frozen=True, slots=True)
class ReOfferDue(Event):
    """A change of ours met one of the far end's (RFC 3261 §14.1): call ``reinvite`` again.

    With a description of its own: meanwhile another one may have been sent.
    """


@dataclass(frozen=True, slots=True)
class Pressed(Event):
    """The far end told of a key by INFO, one of ``0-9*#A-D``."""

    key: str


@dataclass(frozen=True, slots=True)
class ReferProgress(Event):
    """How far the call is that the far end places because of our REFER."""

    status: int
    """A provisional one: 100 to 199."""

    reason: str


@dataclass(frozen=True, slots=True)
class ReferEnded(Event):
    """What came of our REFER; the call itself goes on until somebody says BYE."""

    status: int
    """Of the call that the far end placed; of the REFER where it was not ``accepted``."""

    reason: str
    accepted: bool
    """The far end took the REFER."""

    heard: bool = True
    """The far end said so; False where it never told the end, and ``status`` is the last known."""


@dataclass(frozen=True, slots=True)
class Referred(Event):
    """The far end asks us to call somebody else. Answer with ``take_refer`` or ``refuse_refer``."""

    target: str
    """The SIP URI, without headers."""

    replaces: str | None
    """The Replaces header to send with it."""


@dataclass(frozen=True, slots=True)
class Ended(Event):
    """An established call is over. Nothing more comes for it."""

    cause: EndCause
