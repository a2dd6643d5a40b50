"""What the agent holds: an invitation, a call being placed, a call."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from ringtrue.streaming.ports import Direction, EndReason, MediaLeg
from ringtrue.telephony.sip.driver import Driver
from ringtrue.telephony.sip.errors import (
    CallFailedError,
    CallTimeoutError,
    InviteCancelledError,
    SipStateError,
)
from ringtrue.telephony.sip.events import (
    Answered,
    Cancelled,
    Confirmed,
    EndCause,
    Ended,
    Event,
    IncomingInvite,
    Progress,
    ReInvite,
    Rejected,
)
from ringtrue.telephony.sip.headers import Headers
from ringtrue.telephony.sip.media import MediaError, MediaFactory, MediaSession

log = structlog.get_logger(__name__)

_REASONS: Final = {
    EndCause.REMOTE_BYE: EndReason.CALLER_HUNG_UP,
    EndCause.NO_ACK: EndReason.FAR_END_LOST,
    EndCause.LOST: EndReason.FAR_END_LOST,
}


class SipCall:
    """An established call; implements :class:`ringtrue.streaming.ports.Call`."""

    def __init__(
        self,
        driver: Driver,
        handle: str,
        media: MediaSession,
        *,
        direction: Direction,
        remote: str,
        local: str,
    ) -> None:
        """Made by :class:`ServerInvite` and :class:`OutgoingCall`."""
        self._driver = driver
        self._handle = handle
        self._media = media
        self._direction = direction
        self._remote = remote
        self._local = local
        self._reason = EndReason.AGENT_HUNG_UP
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[EndReason] = loop.create_future()
        self.confirmed: asyncio.Future[bytes | None] = loop.create_future()
        """Set by the first ACK, to its SDP; cancelled where the call ends without."""

        self._wants_answer = False
        driver.parties[handle] = self

    @property
    def id(self) -> str:
        """Unique for the process's lifetime, safe to log."""
        return f"sip-{self._handle}"

    @property
    def transport(self) -> str:
        """Always ``sip``."""
        return "sip"

    @property
    def direction(self) -> Direction:
        """Who placed it."""
        return self._direction

    @property
    def remote(self) -> str:
        """The far party's URI as signalled. Never log it whole."""
        return self._remote

    @property
    def local(self) -> str:
        """The URI that was dialled, or that we called from."""
        return self._local

    @property
    def leg(self) -> MediaLeg:
        """The audio."""
        return self._media.leg

    async def hangup(self, reason: EndReason = EndReason.AGENT_HUNG_UP) -> None:
        """Say BYE; returns once it is answered or timed out (at most 64*T1, 32 s)."""
        if not self._ended.done():
            self._reason = reason
            self.begin_bye()
        await asyncio.shield(self._ended)

    async def ended(self) -> EndReason:
        """Wait until the call is over."""
        return await asyncio.shield(self._ended)

    def begin_bye(self) -> None:
        """Say BYE without waiting."""
        self._driver.ua.bye(self._handle, self._driver.now())
        self._driver.pump()

    def abandon(self) -> None:
        """The endpoint closed before the far end answered our BYE."""
        self._end(EndReason.SHUTDOWN)

    def hear(self, event: Event) -> None:
        """Events from the user agent."""
        match event:
            case Confirmed(answer=answer):
                self._confirm(answer)
            case ReInvite(offer=offer):
                self._driver.spawn(self._change(offer), f"sip-reinvite-{self._handle}")
            case Ended(cause=cause):
                self._end(_REASONS.get(cause, self._reason))

    def _confirm(self, answer: bytes | None) -> None:
        if not self.confirmed.done():
            self.confirmed.set_result(answer)
        elif self._wants_answer:
            self._wants_answer = False
            self._driver.spawn(self._take_answer(answer), f"sip-answer-{self._handle}")

    async def _change(self, offer: bytes | None) -> None:
        """Answer a re-INVITE through the media."""
        ua, driver = self._driver.ua, self._driver
        try:
            if offer is None:
                body = await self._media.offer()
                self._wants_answer = True
            else:
                body = await self._media.update(offer)
            ua.accept(self._handle, body, driver.now())
        except MediaError as error:
            self._refuse(error.status, str(error))
        except SipStateError:
            log.info("sip.reinvite_gone", call=self.id)
        except Exception:
            self._refuse(500, None)
            raise
        finally:
            driver.pump()

    def _refuse(self, status: int, warning: str | None) -> None:
        try:
            self._driver.ua.reject(self._handle, status, self._driver.now(), warning=warning)
        except SipStateError:
            log.info("sip.reinvite_gone", call=self.id)

    async def _take_answer(self, answer: bytes | None) -> None:
        try:
            if answer is None:
                raise MediaError("no answer in the ACK")
            await self._media.set_answer(answer)
        except MediaError as error:
            log.warning("sip.bad_answer", call=self.id, reason=str(error))
            self._reason = EndReason.ERROR
            self.begin_bye()

    def _end(self, reason: EndReason) -> None:
        self._driver.parties.pop(self._handle, None)
        self.confirmed.cancel()
        self._media.close()
        if not self._ended.done():
            self._ended.set_result(reason)


class ServerInvite:
    """A call that waits for our answer. Ends by :meth:`answer`, :meth:`reject` or the caller."""

    def __init__(self, driver: Driver, event: IncomingInvite) -> None:
        """Made by the endpoint for its ``on_invite``."""
        self._driver = driver
        self._handle = event.call
        request = event.request
        self.call_id: str = request.call_id
        """SIP Call-ID."""

        self.from_uri: str = str(request.from_.uri)
        """The caller as signalled. Never log it whole."""

        self.to_uri: str = str(request.to.uri)
        self.request_uri: str = str(request.uri)
        """What was dialled."""

        self.remote: tuple[str, int] = (event.source.host, event.source.port)
        """Address the INVITE came from."""

        self.headers: Headers = request.headers
        self.offer: bytes | None = event.offer
        """The caller's SDP; None where our 200 carries the offer."""

        self.cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the caller gave up or the time to answer ran out."""

        self._over = False
        driver.parties[self._handle] = self

    @property
    def id(self) -> str:
        """What :attr:`SipCall.id` will be."""
        return f"sip-{self._handle}"

    @property
    def pending(self) -> bool:
        """Whether it still waits for a final answer."""
        return not self._over

    async def ring(self) -> None:
        """Send 180 Ringing. Raises :class:`InviteCancelledError`."""
        self._check()
        self._driver.ua.ring(self._handle, self._driver.now())
        self._driver.pump()

    async def answer(self, media_factory: MediaFactory) -> SipCall:
        """Answer with 200; returns once the caller's ACK says that both sides are ready.

        Raises :class:`MediaError` where the descriptions don't meet (the caller gets its
        status, 488 as a rule), :class:`InviteCancelledError` where the caller gave up, and
        :class:`CallTimeoutError` where the ACK never comes.
        """
        self._check()
        media = media_factory()
        try:
            body = await (media.offer() if self.offer is None else media.answer(self.offer))
            self._check()
        except MediaError as error:
            media.close()
            await self.reject(error.status, warning=str(error))
            raise
        except BaseException:
            media.close()
            raise
        self._over = True
        call = SipCall(
            self._driver,
            self._handle,
            media,
            direction=Direction.INBOUND,
            remote=self.from_uri,
            local=self.request_uri,
        )
        self._driver.ua.accept(self._handle, body, self._driver.now())
        self._driver.pump()
        try:
            await self._settle(call, media)
        except BaseException:
            call.begin_bye()
            raise
        return call

    async def _settle(self, call: SipCall, media: MediaSession) -> None:
        await asyncio.wait([call.confirmed])
        if call.confirmed.cancelled():
            reason = await call.ended()
            if reason is EndReason.CALLER_HUNG_UP:
                raise InviteCancelledError("the caller hung up before its ACK")
            raise CallTimeoutError(408, "no ACK")
        if self.offer is None:
            answer = call.confirmed.result()
            if answer is None:
                raise MediaError("no answer in the ACK", status=400)
            await media.set_answer(answer)

    async def reject(
        self, status: int, retry_after: int | None = None, *, warning: str | None = None
    ) -> None:
        """Refuse with a final ``status`` (300 to 699); nothing happens if it is over already.

        ``retry_after`` is in seconds.
        """
        if self._over:
            return
        self._driver.ua.reject(
            self._handle, status, self._driver.now(), retry_after=retry_after, warning=warning
        )
        self._close()
        self._driver.pump()

    def hear(self, event: Event) -> None:
        """Events from the user agent."""
        if isinstance(event, Cancelled):
            self._close()
            if not self.cancelled.done():
                self.cancelled.set_result(None)

    def _check(self) -> None:
        if self.cancelled.done():
            raise InviteCancelledError("the caller gave up")
        if self._over:
            raise SipStateError("the call is already answered or refused")

    def _close(self) -> None:
        self._over = True
        self._driver.parties.pop(self._handle, None)


class OutgoingCall:
    """A call we place."""

    def __init__(
        self, driver: Driver, handle: str, media: MediaSession, *, target: str, sender: str
    ) -> None:
        """Made by the endpoint's ``call``."""
        self._driver = driver
        self._handle = handle
        self._media = media
        self._target = target
        self._sender = sender
        loop = asyncio.get_running_loop()
        self._ringing: asyncio.Future[int | None] = loop.create_future()
        self._outcome: asyncio.Future[SipCall] = loop.create_future()
        self._outcome.add_done_callback(_retrieved)
        driver.parties[handle] = self

    @property
    def id(self) -> str:
        """What :attr:`SipCall.id` will be."""
        return f"sip-{self._handle}"

    async def ringing(self) -> int | None:
        """Wait for the first 18x and return it; None where the outcome came without."""
        return await asyncio.shield(self._ringing)

    async def answered(self) -> SipCall:
        """Wait for the answer.

        Raises :class:`CallFailedError` with the final status, :class:`CallTimeoutError` where
        nobody answered.
        """
        return await asyncio.shield(self._outcome)

    async def cancel(self) -> None:
        """Give up; returns once it is over. An answer that crosses this is ended with BYE."""
        self._driver.ua.cancel(self._handle, self._driver.now())
        self._driver.pump()
        try:
            call = await asyncio.shield(self._outcome)
        except CallFailedError:
            return
        await call.hangup()

    def abandon(self) -> None:
        """The endpoint closed before an outcome came."""
        self._driver.parties.pop(self._handle, None)
        self._fail(CallFailedError(503, "the endpoint closed"))

    def hear(self, event: Event) -> None:
        """Events from the user agent."""
        match event:
            case Progress(status=status):
                if not self._ringing.done():
                    self._ringing.set_result(status)
            case Answered(answer=answer):
                call = SipCall(
                    self._driver,
                    self._handle,
                    self._media,
                    direction=Direction.OUTBOUND,
                    remote=self._target,
                    local=self._sender,
                )
                call.confirmed.set_result(None)
                self._driver.spawn(self._complete(call, answer), f"sip-answer-{self._handle}")
            case Rejected(status=status, reason=reason, retry_after=retry_after):
                self._driver.parties.pop(self._handle, None)
                kind = CallTimeoutError if status == 408 else CallFailedError
                self._fail(kind(status, reason, retry_after=retry_after))

    async def _complete(self, call: SipCall, answer: bytes | None) -> None:
        try:
            if answer is None:
                raise MediaError("the 200 carries no answer")
            await self._media.set_answer(answer)
        except MediaError as error:
            call.begin_bye()
            self._fail(CallFailedError(error.status, str(error)))
            return
        except BaseException:
            call.begin_bye()
            self._fail(CallFailedError(500, "media failed"))
            raise
        if not self._outcome.done():
            self._outcome.set_result(call)
        if not self._ringing.done():
            self._ringing.set_result(None)

    def _fail(self, error: CallFailedError) -> None:
        self._media.close()
        if not self._ringing.done():
            self._ringing.set_result(None)
        if not self._outcome.done():
            self._outcome.set_exception(error)


def _retrieved(outcome: asyncio.Future[SipCall]) -> None:
    """An outcome nobody waits for is no error."""
    if not outcome.cancelled():
        outcome.exception()
