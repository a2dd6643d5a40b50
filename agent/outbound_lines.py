"""What carries placed calls: SIP, or a carrier's REST interface; alike from here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from ringtrue.agent.dial_outcomes import DialOutcome, outcome_of, printable
from ringtrue.agent.dial_plan import Route
from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.ports import Call, MediaLeg
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.errors import CallFailedError, SipError
from ringtrue.telephony.sip.media import MediaFactory
from ringtrue.telephony.sip.placing import OutgoingCall
from ringtrue.telephony.twilio.placing import (
    OutgoingTwilioCall,
    TwilioCallFailedError,
    TwilioDialler,
)
from ringtrue.telephony.twilio.rest import TwilioRestError
from ringtrue.telephony.twilio.status import CallStatus


class DialFailedError(RingtrueError):
    """A call that was to be placed was not answered."""

    def __init__(
        self,
        outcome: DialOutcome,
        *,
        status: int | None = None,
        reason: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """``status`` and ``reason`` are the far end's, where it said any; no number in them."""
        super().__init__(f"the call was not answered: {outcome}")
        self.outcome = outcome
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


class Attempt(Protocol):
    """A call being placed."""

    @property
    @abstractmethod
    def id(self) -> str:
        """Safe to log."""

    @abstractmethod
    async def answered(self) -> Call:
        """The call, once it is answered. Raises :class:`DialFailedError`."""

    @abstractmethod
    async def cancel(self) -> None:
        """Give it up."""


class Progress(Protocol):
    """Who is told how an attempt goes."""

    @abstractmethod
    def begun(self, attempt: Attempt) -> None:
        """It can be cancelled from now on."""

    @abstractmethod
    def rings(self, early: MediaLeg | None) -> None:
        """The far end rings; ``early`` is what it plays meanwhile, if it does."""

    @abstractmethod
    def answered_by(self, verdict: str) -> None:
        """The carrier's word on who answered, which may come while the call goes on."""


class Line(Protocol):
    """Something to call over."""

    @property
    @abstractmethod
    def transport(self) -> str:
        """As call records name it."""

    @abstractmethod
    async def dial(self, route: Route, ring_seconds: float, progress: Progress) -> Attempt:
        """Begin to call. Raises :class:`DialFailedError` where nothing can be sent."""


# -- SIP ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Phone:
    """What calls are placed with over SIP."""

    endpoint: SipEndpoint
    media: Callable[[str], MediaFactory]
    """The media of a call whose signalling goes to an address."""


class SipLine(Line):
    """Calls over SIP trunks."""

    transport: Final = "sip"

    def __init__(self, phone: Phone) -> None:
        """Call with ``phone``."""
        self._phone = phone

    async def dial(self, route: Route, ring_seconds: float, progress: Progress) -> Attempt:
        """Find the next hop and send an INVITE."""
        rang = _Rang(progress)
        try:
            hop, *others = await self._phone.endpoint.ways(
                route.uri, via=route.via, account=route.account
            )
            outgoing = await self._phone.endpoint.call(
                route.uri,
                self._phone.media(hop.host),
                from_uri=None if route.caller is None else f"<{route.caller}>",
                via=hop,
                account=route.account,
                ring_limit=ring_seconds,
                on_progress=rang.progress,
                others=others,
            )
        except SipError as error:
            raise _sip_failure(error, rang=False) from error
        attempt = _SipAttempt(outgoing, rang)
        progress.begun(attempt)
        return attempt


class _Rang:
    """Whether the far end rang."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.rang = False

    def progress(self, status: int, leg: MediaLeg | None) -> None:
        """A provisional response came."""
        self.rang = True
        self._progress.rings(leg)


class _SipAttempt(Attempt):
    def __init__(self, outgoing: OutgoingCall, rang: _Rang) -> None:
        self._outgoing = outgoing
        self._rang = rang

    @property
    def id(self) -> str:
        return self._outgoing.id

    async def answered(self) -> Call:
        try:
            return await self._outgoing.answered()
        except SipError as error:
            raise _sip_failure(error, rang=self._rang.rang) from error

    async def cancel(self) -> None:
        await self._outgoing.cancel()


def _sip_failure(error: SipError, *, rang: bool) -> DialFailedError:
    if not isinstance(error, CallFailedError):
        return DialFailedError(DialOutcome.UNREACHABLE)
    return DialFailedError(
        outcome_of(error, rang=rang),
        status=error.status if error.heard else None,
        reason=printable(error.reason),
        retry_after=error.retry_after,
    )


# -- Twilio ------------------------------------------------------------------------------------


class TwilioLine(Line):
    """Calls over Twilio."""

    transport: Final = "twilio"

    def __init__(self, dialler: TwilioDialler) -> None:
        """Call with ``dialler``."""
        self._dialler = dialler

    async def dial(self, route: Route, ring_seconds: float, progress: Progress) -> Attempt:
        """Have Twilio call."""
        assert route.caller is not None  # the dial plan sees to it
        try:
            outgoing = await self._dialler.call(
                route.uri,
                route.caller,
                ring_seconds=ring_seconds,
                on_progress=lambda: progress.rings(None),
                on_answered_by=progress.answered_by,
                on_begun=lambda begun: progress.begun(_TwilioAttempt(begun, self._dialler)),
            )
        except TwilioRestError as error:
            raise _rest_failure(error) from error
        return _TwilioAttempt(outgoing, self._dialler)


class _TwilioAttempt(Attempt):
    def __init__(self, outgoing: OutgoingTwilioCall, dialler: TwilioDialler) -> None:
        self._outgoing = outgoing
        self._dialler = dialler

    @property
    def id(self) -> str:
        return self._outgoing.id

    async def answered(self) -> Call:
        try:
            return await self._outgoing.answered()
        except TwilioCallFailedError as error:
            self._dialler.forget(self._outgoing)
            raise DialFailedError(
                twilio_outcome(error),
                status=error.sip_status,
                reason=error.status.value,
            ) from error

    async def cancel(self) -> None:
        await self._outgoing.cancel()


_BY_TWILIO: Final = {
    CallStatus.BUSY: DialOutcome.BUSY,
    CallStatus.NO_ANSWER: DialOutcome.NO_ANSWER,
    CallStatus.CANCELED: DialOutcome.CANCELLED,
}

_UNREACHABLE_CODES: Final = frozenset({13224, 13225, 21211, 21214, 21217})
"""Not a number, or none that can be called (https://www.twilio.com/docs/api/errors)."""


def twilio_outcome(error: TwilioCallFailedError) -> DialOutcome:
    """What a call that Twilio placed came to; where the network said why, that counts.

    Twilio calls ``busy`` also what was declined (SIP 603).
    """
    if error.sip_status is not None and error.status in (CallStatus.BUSY, CallStatus.FAILED):
        said = CallFailedError(error.sip_status, "")
        outcome = outcome_of(said, rang=error.rang)
        if outcome not in (DialOutcome.FAILED, DialOutcome.CANCELLED):
            return outcome
    return _BY_TWILIO.get(error.status, DialOutcome.FAILED)


def _rest_failure(error: TwilioRestError) -> DialFailedError:
    if error.status is None or error.status >= 500 or error.code in _UNREACHABLE_CODES:
        outcome = DialOutcome.UNREACHABLE
    else:
        outcome = DialOutcome.REFUSED
    wait = error.retry_after
    return DialFailedError(
        outcome, reason=str(error), retry_after=None if wait is None else round(wait)
    )
