"""Calls placed over Twilio: REST asks for one, callbacks tell how it goes, its stream answers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

import structlog

from ringtrue.streaming.errors import RingtrueError
from ringtrue.telephony.tokens import TokenStore
from ringtrue.telephony.twilio.calls import TwilioCall
from ringtrue.telephony.twilio.protocol import Started
from ringtrue.telephony.twilio.rest import NewCall, TwilioRest, TwilioRestError
from ringtrue.telephony.twilio.status import CallStatus, CallUpdate
from ringtrue.telephony.twilio.twiml import connect, websocket_url

log = structlog.get_logger(__name__)

GRACE: Final = 20.0
"""Seconds beyond its ringing time that a call may go without a word of Twilio's."""

TOKEN_SECONDS: Final = 600.0
"""How long a call may ring, and then connect, before its stream is refused."""

SID_SECONDS: Final = 5.0
"""How long a stream waits for the answer to the request that placed its call."""

MAX_CALLS: Final = 4096


class TwilioCallFailedError(RingtrueError):
    """A placed call was not answered."""

    def __init__(self, status: CallStatus, *, sip_status: int | None = None, rang: bool) -> None:
        """``status`` is Twilio's word for it; ``sip_status`` the network's, where it said."""
        super().__init__(f"the call was not answered: {status}")
        self.status = status
        self.sip_status = sip_status
        self.rang = rang


class OutgoingTwilioCall:
    """A call that was asked for and isn't answered yet."""

    def __init__(
        self,
        call_id: str,
        rest: TwilioRest,
        *,
        to: str,
        caller: str,
        ring_seconds: float,
        on_progress: Callable[[], None],
        on_answered_by: Callable[[str], None],
    ) -> None:
        """:class:`TwilioDialler` makes them."""
        self.id = call_id
        self.remote, self.local = to, caller
        self._rest = rest
        self._ring_seconds = ring_seconds
        self._on_progress = on_progress
        self._on_answered_by = on_answered_by
        loop = asyncio.get_running_loop()
        self._sid: asyncio.Future[str] = loop.create_future()
        self._answer: asyncio.Future[TwilioCall] = loop.create_future()
        self._answer.add_done_callback(_retrieve)
        self._sequence = -1
        self._rang = False
        self._cancelled = False
        self.ended = False
        """Twilio has said its last."""

    @property
    def over(self) -> bool:
        """Answered, or it will never be."""
        return self._answer.done()

    async def answered(self) -> TwilioCall:
        """Its stream, once the called party has answered and the stream is up.

        Raises :class:`TwilioCallFailedError`, also where Twilio says no more for
        :data:`GRACE` beyond the time it may ring.
        """
        try:
            async with asyncio.timeout(self._ring_seconds + GRACE):
                return await asyncio.shield(self._answer)
        except TimeoutError:
            log.warning("twilio_callbacks_missing", call=self.id)
            await self._give_up()
            return await self._answer

    async def cancel(self) -> None:
        """Give it up; hangs up where it was answered meanwhile."""
        self._cancelled = True
        if self._sid.done() and not self._answer.done():
            await self._end()
            self._fail(CallStatus.CANCELED)

    def placed(self, sid: str) -> None:
        """Twilio has taken the order."""
        if not self._sid.done():
            self._sid.set_result(sid)

    async def settle(self) -> None:
        """End it, where it was given up before Twilio had taken the order."""
        if self._cancelled:
            await self.cancel()

    def update(self, update: CallUpdate) -> None:
        """Take what a signed callback says; another call's, and old ones, are passed over."""
        if self._sid.done() and update.sid != self._sid.result():
            log.warning("twilio_callback_of_another_call", call=self.id)
            return
        if update.answered_by is not None:
            self._on_answered_by(update.answered_by)
        if update.status is None:
            return
        if update.sequence is not None:
            if update.sequence <= self._sequence:
                return
            self._sequence = update.sequence
        if update.status in (CallStatus.RINGING, CallStatus.IN_PROGRESS) and not self._rang:
            self._rang = True
            if not self._answer.done():
                self._on_progress()
        if update.status.over:
            self.ended = True
            self._fail(update.status, update.sip_status)

    async def take(self, started: Started) -> bool:
        """Whether a stream that showed this call's token may carry it."""
        try:
            async with asyncio.timeout(SID_SECONDS):
                sid = await asyncio.shield(self._sid)
        except TimeoutError:
            return False
        right = (sid, self._rest.account_sid) == (started.call_sid, started.account_sid)
        return right and not self._answer.done() and not self._cancelled

    def connected(self, call: TwilioCall) -> bool:
        """Its stream is up; False where nobody waits for it any more."""
        if self._answer.done():
            return False
        self._answer.set_result(call)
        return True

    def _fail(self, status: CallStatus, sip_status: int | None = None) -> None:
        if not self._answer.done():
            self._answer.set_exception(
                TwilioCallFailedError(status, sip_status=sip_status, rang=self._rang)
            )

    async def _give_up(self) -> None:
        """No callback came: ask how it stands, and end it."""
        status = CallStatus.NO_ANSWER if self._rang else CallStatus.FAILED
        try:
            found = (await self._rest.fetch(self._sid.result())).status
            status = found if found.over else CallStatus.NO_ANSWER
        except TwilioRestError as error:
            log.warning("twilio_not_asked", call=self.id, error=str(error))
        if not self._answer.done():
            await self._end()
            self._fail(status)

    async def _end(self) -> None:
        """Hang up, answered or not."""
        sid = self._sid.result()
        try:
            ended = await self._rest.update(sid, status="canceled")
            if not ended.status.over:  # answered in between: only this ends it
                await self._rest.update(sid, status="completed")
        except TwilioRestError as error:  # its stream will be refused, which hangs up too
            log.warning("twilio_not_ended", call=self.id, error=str(error))


class TwilioDialler:
    """Places calls for one account, and knows those that aren't over."""

    def __init__(
        self,
        rest: TwilioRest,
        *,
        public_url: str,
        mark: str = "",
        detect_machines: bool = False,
    ) -> None:
        """``public_url`` is how Twilio reaches this server; ``mark`` ends ids and tokens."""
        self._rest = rest
        self._public_url = public_url.rstrip("/")
        self._mark = mark
        self._detect_machines = detect_machines
        self._calls: dict[str, OutgoingTwilioCall] = {}
        self._tokens: TokenStore[OutgoingTwilioCall] = TokenStore(
            TOKEN_SECONDS, max_tokens=MAX_CALLS, mark=mark
        )

    def __len__(self) -> int:
        """Calls whose callbacks are listened to."""
        return len(self._calls)

    async def call(
        self,
        to: str,
        caller: str,
        *,
        ring_seconds: float,
        on_progress: Callable[[], None] = lambda: None,
        on_answered_by: Callable[[str], None] = lambda _: None,
        on_begun: Callable[[OutgoingTwilioCall], None] = lambda _: None,
    ) -> OutgoingTwilioCall:
        """Have ``to`` called, a number with ``+``, as ``caller``, a number of the account's.

        ``on_begun`` is given the call before Twilio is asked, so that it can be cancelled from
        then on. Raises :class:`TwilioRestError` where Twilio doesn't take the order.
        """
        call_id = f"twilio-{secrets.token_hex(12)}{self._mark}"
        outgoing = OutgoingTwilioCall(
            call_id,
            self._rest,
            to=to,
            caller=caller,
            ring_seconds=ring_seconds,
            on_progress=on_progress,
            on_answered_by=on_answered_by,
        )
        self._remember(outgoing)
        on_begun(outgoing)
        token = self._tokens.issue(outgoing, asyncio.get_running_loop().time())
        callback = f"{self._public_url}/twilio/calls/{call_id}"
        try:
            placed = await self._rest.create(
                NewCall(
                    to,
                    caller,
                    connect(websocket_url(self._public_url, self._mark), token),
                    callback,
                    ring_seconds,
                    callback if self._detect_machines else None,
                )
            )
        except BaseException:
            self._calls.pop(call_id, None)
            self._tokens.redeem(token, asyncio.get_running_loop().time())
            raise
        outgoing.placed(placed.sid)
        await outgoing.settle()
        return outgoing

    def find(self, call_id: str) -> OutgoingTwilioCall | None:
        """The call a callback is for; None where there is none any more."""
        return self._calls.get(call_id)

    def redeem(self, token: str) -> OutgoingTwilioCall | None:
        """The call that a stream's token stands for, once."""
        return self._tokens.redeem(token, asyncio.get_running_loop().time())

    def forget(self, call: OutgoingTwilioCall) -> None:
        """It is over; its callbacks mean nothing any more."""
        self._calls.pop(call.id, None)

    async def close(self) -> None:
        """Close the client."""
        await self._rest.close()

    def _remember(self, call: OutgoingTwilioCall) -> None:
        """Overflow policy: the oldest that are over give way first, then the oldest."""
        while len(self._calls) >= MAX_CALLS:
            over = (held for held in self._calls.values() if held.over)
            self.forget(next(over, next(iter(self._calls.values()))))
        self._calls[call.id] = call


def _retrieve(answer: asyncio.Future[TwilioCall]) -> None:
    """A call nobody waits for any more may fail without a word."""
    if not answer.cancelled():
        answer.exception()
