"""What the agent holds: an invitation, and a call; see ``placing`` for a call being placed."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from ringtrue.streaming.ports import (
    Direction,
    EndReason,
    MediaLeg,
    TransferOutcome,
    TransferResult,
)
from ringtrue.telephony.sip.driver import Driver
from ringtrue.telephony.sip.errors import (
    CallFailedError,
    CallTimeoutError,
    InviteCancelledError,
    SipError,
    SipStateError,
)
from ringtrue.telephony.sip.events import (
    Cancelled,
    Confirmed,
    EndCause,
    Ended,
    Event,
    IncomingInvite,
    Pressed,
    ReferEnded,
    Referred,
    RefreshDue,
    ReInvite,
    ReInviteAnswered,
    ReInviteRejected,
    ReOfferDue,
)
from ringtrue.telephony.sip.headers import Headers
from ringtrue.telephony.sip.media import MediaError, MediaFactory, MediaSession
from ringtrue.telephony.sip.moving import MovableCall, transfer_result
from ringtrue.telephony.sip.reason import reason_of

log = structlog.get_logger(__name__)

_REASONS: Final = {
    EndCause.REMOTE_BYE: EndReason.CALLER_HUNG_UP,
    EndCause.NO_ACK: EndReason.FAR_END_LOST,
    EndCause.LOST: EndReason.FAR_END_LOST,
}


class SipCall(MovableCall):
    """An established call; implements :class:`ringtrue.streaming.ports.Call`.

    Its parties are URIs as signalled.
    """

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
        """Made by :class:`ServerInvite` and :class:`~.placing.OutgoingCall`."""
        super().__init__(driver, handle, media, direction=direction, remote=remote, local=local)
        self._reason = EndReason.AGENT_HUNG_UP
        self._wanted: bool | None = None
        """The change of the hold that is under way."""

        self.confirmed: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        """Set by the first ACK, to its SDP; cancelled where the call ends without."""

        driver.parties[handle] = self

    @property
    def leg(self) -> MediaLeg:
        """The audio."""
        return self._media.leg

    async def hangup(self, reason: EndReason = EndReason.AGENT_HUNG_UP) -> None:
        """Say BYE; returns once it is answered or timed out (at most 64*T1, 32 s)."""
        if not self._over.done():
            self._reason = reason
            self.begin_bye()
        await asyncio.shield(self._over)

    @property
    def on_hold(self) -> bool:
        """We have put the far end on hold."""
        return self._on_hold

    async def hold(self, on: bool = True) -> None:
        """Put the far end on hold, or take it off, by a re-INVITE (RFC 3264 §8.4).

        What it hears while held is up to whoever speaks on :attr:`leg`. Returns once the far end
        agreed. Raises :class:`CallFailedError` where it refuses and :class:`SipStateError` while
        another change is under way or where the call is over.
        """
        if self._changing is not None or self._over.done():
            raise SipStateError("the call is over, or another change of it is under way")
        if on is self._on_hold:
            return
        changing = self._changing = asyncio.get_running_loop().create_future()
        self._wanted = on
        try:
            offer = await self._media.offer(hold=on)
            self._driver.ua.reinvite(self._handle, offer, self._driver.now())
            self._driver.pump()
            await changing
            self._on_hold = on
        finally:
            self._changing = self._wanted = None

    def begin_bye(self) -> None:
        """Say BYE without waiting."""
        reason = reason_of(self._reason)
        self._driver.ua.bye(self._handle, self._driver.now(), reason=reason)
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
            case RefreshDue():
                self._driver.spawn(self._refresh(), f"sip-refresh-{self._handle}")
            case ReOfferDue():
                self._driver.spawn(self._offer_again(), f"sip-reoffer-{self._handle}")
            case ReInviteAnswered(answer=answer):
                self._driver.spawn(self._changed(answer), f"sip-changed-{self._handle}")
            case ReInviteRejected(status=status, reason=reason):
                self._settle_change(CallFailedError(status, reason))
            case ReferEnded():
                self._settle_transfer(transfer_result(event))
            case Pressed(key=key):
                self._media.tell(key)
            case Referred():
                self._refer(event)
            case Ended(cause=cause):
                reason = _REASONS.get(cause, self._reason)
                if self._following and cause is EndCause.REMOTE_BYE:
                    self._left = reason  # whom it referred us to may still answer
                else:
                    self._end(reason)

    def _confirm(self, answer: bytes | None) -> None:
        if not self.confirmed.done():
            self.confirmed.set_result(answer)
        elif self._wants_answer:
            self._wants_answer = False
            self._driver.spawn(self._set_answer(answer), f"sip-answer-{self._handle}")

    async def _refresh(self) -> None:
        """Keep the session alive by offering it again as it is (RFC 4028 §10)."""
        try:
            offer = await self._media.offer()
            self._driver.ua.reinvite(self._handle, offer, self._driver.now())
        except (MediaError, SipStateError) as error:
            log.info("sip.not_refreshed", call=self.id, reason=type(error).__name__)
        finally:
            self._driver.pump()

    async def _offer_again(self) -> None:
        """Offer anew what met a change of the far end's, which may have come through since."""
        try:
            offer = await self._media.offer(hold=self._wanted)
            self._driver.ua.reinvite(self._handle, offer, self._driver.now(), after_glare=True)
        except (MediaError, SipError) as error:
            self._settle_change(CallFailedError(491, str(error)))
        finally:
            self._driver.pump()

    async def _changed(self, answer: bytes | None) -> None:
        """Our change was accepted."""
        try:
            await self._set_answer(answer)
        finally:
            self._settle_change(None)

    def _settle_change(self, error: CallFailedError | None) -> None:
        changing = self._changing
        if changing is None or changing.done():
            return
        if error is None:
            changing.set_result(None)
        else:
            changing.set_exception(error)

    async def _change(self, offer: bytes | None) -> None:
        """Answer a re-INVITE or UPDATE through the media."""
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

    async def _set_answer(self, answer: bytes | None) -> None:
        """Take the answer to an offer of ours; a bad one ends the call (RFC 3261 §14.1)."""
        try:
            if answer is None:
                raise MediaError("no answer came to our offer")
            await self._media.set_answer(answer)
        except MediaError as error:
            log.warning("sip.bad_answer", call=self.id, reason=str(error))
            self._reason = EndReason.ERROR
            self.begin_bye()

    def _end(self, reason: EndReason) -> None:
        self._driver.parties.pop(self._handle, None)
        self.confirmed.cancel()
        self._media.close()
        self._settle_change(CallFailedError(481, "the call is over"))
        self._settle_transfer(TransferResult(TransferOutcome.UNCONFIRMED))
        if self._transferred:
            reason = EndReason.TRANSFERRED  # whoever says BYE first
        if not self._over.done():
            self._over.set_result(reason)


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
