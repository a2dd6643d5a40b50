"""Calls that others move: somebody takes one over (RFC 3891), or we follow a REFER (RFC 3515)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from ringtrue.telephony.sip.driver import Driver
from ringtrue.telephony.sip.errors import SipError, SipStateError
from ringtrue.telephony.sip.events import Answered, Event, IncomingInvite, Progress, Rejected
from ringtrue.telephony.sip.handles import ServerInvite, SipCall
from ringtrue.telephony.sip.media import MediaError
from ringtrue.telephony.sip.moving import Referral
from ringtrue.telephony.sip.transport import Hop

log = structlog.get_logger(__name__)


async def let_take_over(driver: Driver, invite: ServerInvite, event: IncomingInvite) -> None:
    """Give the call that ``event`` names to whoever sent ``invite``.

    One that still rings is not given away (603).
    """
    call = driver.parties.get(event.replaces or "")
    if not isinstance(call, SipCall):
        await invite.reject(603)
        return
    if not invite.pending or invite.cancelled.done():
        return
    try:
        await call.take_over(event.call, event.offer, invite.from_uri)
        log.info("sip.taken_over", call=call.id)
    except MediaError as error:
        await invite.reject(error.status, warning=str(error))
    except SipStateError:
        log.info("sip.takeover_gone", call=call.id)


class Following:
    """The call we place to where a far end referred us, with the media of the one there was.

    Ends by :meth:`done`. Whoever answers has the call from then on; where nobody does it stays
    with the far end it had.
    """

    def __init__(self, driver: Driver, call: SipCall, referral: Referral, target: str) -> None:
        """``target`` is what is called, as the dial plan wrote it."""
        self._driver = driver
        self._call = call
        self._referral = referral
        self._target = target
        self._handle = ""
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def dial(
        self,
        hop: Hop,
        *,
        from_uri: str | None,
        routes: Iterable[str] = (),
        ring_limit: float | None = None,
    ) -> int:
        """Place it and return the final status, which the far end was told.

        Raises :class:`SipError` and :class:`MediaError` where it can't be placed; the far end is
        told 503 then.
        """
        headers = [("referred-by", f"<{self._call.remote}>")]
        if self._referral.replaces is not None:
            headers += [("replaces", self._referral.replaces), ("require", "replaces")]
        driver = self._driver
        try:
            offer = await self._call.begin_following()
            self._handle = driver.ua.invite(
                self._target,
                offer,
                driver.now(),
                from_uri=from_uri,
                headers=headers,
                via=hop,
                routes=routes,
                ring_limit=ring_limit,
            )
        except (SipError, MediaError):
            self._settle(503)
            raise
        driver.parties[self._handle] = self
        driver.pump()
        try:
            return await asyncio.shield(self._status)
        except asyncio.CancelledError:
            driver.ua.cancel(self._handle, driver.now())
            driver.pump()
            raise

    def hear(self, event: Event) -> None:
        """Events from the user agent."""
        match event:
            case Progress(status=status, reason=reason):
                self._referral.tell(status, reason)
            case Answered(answer=answer):
                self._driver.spawn(self._answered(answer), f"sip-follow-{self._handle}")
            case Rejected(status=status, reason=reason):
                self._driver.parties.pop(self._handle, None)
                self._settle(status, reason)

    async def _answered(self, answer: bytes | None) -> None:
        try:
            if answer is None:
                raise MediaError("the 200 carries no answer")
            await self._call.follow(answer)
        except (MediaError, SipStateError) as error:
            self._driver.parties.pop(self._handle, None)
            self._driver.ua.bye(self._handle, self._driver.now())
            self._driver.pump()
            self._settle(error.status if isinstance(error, MediaError) else 487)
            return
        self._referral.tell(200, "OK")
        self._call.move(self._handle, self._target)
        self._settle(200)

    def _settle(self, status: int, reason: str = "") -> None:
        self._referral.tell(status, reason)
        self._call.end_following()
        if not self._status.done():
            self._status.set_result(status)
