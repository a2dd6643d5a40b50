"""The exception tree of ``ringtrue.telephony.sip``.

::

    RingtrueError
    └── SipError
        ├── SipParseError          bytes that are not the SIP message they claim to be
        ├── SipStateError          an action the call's state does not allow
        ├── SipCapacityError       a table is full
        ├── InviteCancelledError   the caller gave up before we answered
        └── CallFailedError        an outgoing call got a final answer that is not 2xx
            └── CallTimeoutError   ... or no answer at all
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ringtrue.streaming.errors import RingtrueError


@dataclass(frozen=True, slots=True)
class Fragment:
    """What could be read of a broken request: enough to answer it (RFC 3261 §8.2.6)."""

    method: str = ""
    vias: tuple[str, ...] = ()
    """Via values that parse, topmost first; none where the topmost can't be read at all."""

    headers: dict[str, str] = field(default_factory=dict)
    """Raw values of From, To, Call-ID and CSeq, as far as they were there."""


class SipError(RingtrueError):
    """Base of this package's errors."""


class SipParseError(SipError):
    """Bytes that are not the SIP message they claim to be."""

    def __init__(self, reason: str, *, status: int = 400, fragment: Fragment | None = None) -> None:
        """``status`` is the response a request deserves: 400, 413 or 505.

        ``fragment`` is None where no response can or may be sent: the bytes are a response, an
        ACK, or not SIP at all.
        """
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.fragment = fragment


class SipStateError(SipError):
    """An action the call's state does not allow."""


class SipCapacityError(SipError):
    """A table is full."""


class InviteCancelledError(SipError):
    """The caller gave up before we answered."""


class CallFailedError(SipError):
    """An outgoing call failed."""

    def __init__(
        self, status: int, reason: str, *, retry_after: int | None = None, heard: bool = True
    ) -> None:
        """The final response's status and reason phrase; ``retry_after`` in seconds.

        ``heard`` is False where no far end said so: nothing could be sent, or nobody answered.
        """
        super().__init__(f"call failed: {status} {reason}")
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        self.heard = heard


class CallTimeoutError(CallFailedError):
    """Nobody answered in time."""
