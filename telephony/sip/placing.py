"""A call being placed: what rings, what is played before the answer, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from ringtrue.streaming.ports import Direction, MediaLeg
from ringtrue.telephony.sip.driver import Driver
from ringtrue.telephony.sip.errors import CallFailedError, CallTimeoutError, SipStateError
from ringtrue.telephony.sip.events import Answered, Event, Progress, ReInvite, Rejected
from ringtrue.telephony.sip.handles import SipCall
from ringtrue.telephony.sip.media import MediaError, MediaSession

log = structlog.get_logger(__name__)

OnProgress = Callable[[int, MediaLeg | None], None]
"""Takes the status of a provisional response, and the leg where something can be heard on it.

The leg is to be listened to only; the call's own is the same one.
"""


class OutgoingCall:
    """A call we place."""

    def __init__(
        self,
        driver: Driver,
        handle: str,
        media: MediaSession,
        *,
        target: str,
        sender: str,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Made by the endpoint's ``call``."""
        self._driver = driver
        self._handle = handle
        self._media = media
        self._target = target
        self._sender = sender
        self._on_progress = on_progress
        loop = asyncio.get_running_loop()
        self._ringing: asyncio.Future[int | None] = loop.create_future()
        self._outcome: asyncio.Future[SipCall] = loop.create_future()
        self._outcome.add_done_callback(_retrieved)
        self._early = False
        self._describing = asyncio.Lock()
        driver.parties[handle] = self

    @property
    def id(self) -> str:
        """What :attr:`SipCall.id` will be."""
        return f"sip-{self._handle}"

    @property
    def early_leg(self) -> MediaLeg | None:
        """What the far end plays before it answers, to be listened to only; None: nothing."""
        return self._media.leg if self._early else None

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
        self._fail(CallFailedError(503, "the endpoint closed", heard=False))

    def hear(self, event: Event) -> None:
        """Events from the user agent."""
        match event:
            case Progress(status=status, answer=answer):
                if not self._ringing.done():
                    self._ringing.set_result(status)
                self._driver.spawn(self._progress(status, answer), f"sip-early-{self._handle}")
            case ReInvite(offer=offer) if offer is not None:
                self._driver.spawn(self._change(offer), f"sip-update-{self._handle}")
            case Answered(answer=answer, changed=changed):
                call = SipCall(
                    self._driver,
                    self._handle,
                    self._media,
                    direction=Direction.OUTBOUND,
                    remote=self._target,
                    local=self._sender,
                )
                call.confirmed.set_result(None)
                work = self._complete(call, answer, changed)
                self._driver.spawn(work, f"sip-answer-{self._handle}")
            case Rejected(status=status, reason=reason, retry_after=retry_after, heard=heard):
                self._driver.parties.pop(self._handle, None)
                kind = CallTimeoutError if status == 408 else CallFailedError
                self._fail(kind(status, reason, retry_after=retry_after, heard=heard))

    async def _progress(self, status: int, answer: bytes | None) -> None:
        """Let what is played be heard; a description that can't be used is none."""
        async with self._describing:
            if answer is not None and not self._outcome.done():
                try:
                    await self._media.preview(answer)
                    self._early = True
                except MediaError as error:
                    log.info("sip.early_media_unusable", call=self.id, reason=str(error))
        if self._on_progress is not None and not self._outcome.done():
            self._on_progress(status, self.early_leg)

    async def _change(self, offer: bytes) -> None:
        """The far end changes what it plays before it answers."""
        ua, driver = self._driver.ua, self._driver
        try:
            async with self._describing:
                body = await self._media.update(offer)
            ua.accept(self._handle, body, driver.now())
        except SipStateError:
            log.info("sip.update_gone", call=self.id)
        except MediaError as error:
            try:
                ua.reject(self._handle, error.status, driver.now(), warning=str(error))
            except SipStateError:
                log.info("sip.update_gone", call=self.id)
        finally:
            driver.pump()

    async def _complete(self, call: SipCall, answer: bytes | None, changed: bool) -> None:
        try:
            async with self._describing:
                if answer is None:
                    raise MediaError("the 200 carries no answer")
                if not changed:
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
