"""A call that goes on elsewhere: its far end is sent to others, or others take it over.

REFER both ways (RFC 3515, RFC 5589) and Replaces (RFC 3891), as :class:`~.handles.SipCall` has
them.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress

from ringtrue.streaming.ports import (
    Call,
    Direction,
    EndReason,
    TransferOutcome,
    TransferResult,
)
from ringtrue.telephony.calls import CallHandle
from ringtrue.telephony.sip.driver import Driver
from ringtrue.telephony.sip.errors import CallFailedError, SipStateError
from ringtrue.telephony.sip.events import Event, ReferEnded, Referred
from ringtrue.telephony.sip.headers import NameAddr
from ringtrue.telephony.sip.media import MediaSession
from ringtrue.telephony.sip.reason import reason_of
from ringtrue.telephony.sip.replaces import replacing
from ringtrue.telephony.sip.responses import REASONS


def transfer_result(event: ReferEnded) -> TransferResult:
    """What a far end's last word on our REFER comes to."""
    if not event.accepted and event.status in (405, 501):
        outcome = TransferOutcome.UNSUPPORTED
    elif event.accepted and not event.heard:
        outcome = TransferOutcome.UNCONFIRMED
    elif event.accepted and 200 <= event.status < 300:
        outcome = TransferOutcome.TRANSFERRED
    else:
        outcome = TransferOutcome.FAILED
    return TransferResult(outcome, event.status)


OnReferred = Callable[["Referral"], bool]
"""Whether we let a far end refer us: True where the referral's outcome will be told."""


class Referral:
    """The far end wants us to call somebody else in its place. Ends by :meth:`tell`."""

    def __init__(self, call: MovableCall, event: Referred) -> None:
        """Made by the call for its ``on_referred``."""
        self._call = call
        self.target = event.target
        """SIP URI, as the far end gave it: to be checked, never simply called."""

        self.replaces = event.replaces
        """The Replaces header to send along; None: none."""

    def tell(self, status: int, reason: str = "") -> None:
        """How the call is going that we place for it; a final status ends it."""
        self._call.tell_referral(status, reason)


class MovableCall(CallHandle, ABC):
    """What :class:`~.handles.SipCall` has of it."""

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
        """``handle`` is the call's dialog for now, ``remote`` its far end's URI."""
        super().__init__(
            f"sip-{handle}", transport="sip", remote=remote, local=local, direction=direction
        )
        self._driver = driver
        self._handle = handle
        self._media = media
        self._wants_answer = False
        self._on_hold = False
        self._changing: asyncio.Future[None] | None = None
        self._transfer: asyncio.Future[TransferResult] | None = None
        self._transferred = False
        self._following = False
        self._left: EndReason | None = None
        """How its far end left while we followed its REFER."""

        self.on_referred: OnReferred | None = None
        """Decides on a REFER of the far end; None refuses all."""

    @abstractmethod
    def hear(self, event: Event) -> None:
        """Events from the user agent."""

    @abstractmethod
    def _settle_change(self, error: CallFailedError | None) -> None:
        """A change of the session that is under way is over."""

    async def transfer(
        self, to: str, *, within: float, replaces: Call | None = None
    ) -> TransferResult:
        """Ask the far end by REFER to call ``to`` (RFC 3515); see
        :meth:`ringtrue.streaming.ports.Transferring.transfer`.

        With ``replaces`` it calls that call's far end in our place (RFC 5589 §7); unsupported
        where that is no SIP call, or one of the two far ends has not said that it supports
        Replaces: the place would ring anew, and hear two calls.

        Raises :class:`SipParseError` on a bad ``to``, :class:`SipStateError` while another
        transfer is under way or where a call is over, :class:`SipCapacityError`.
        """
        if self._transfer is not None or self._over.done():
            raise SipStateError("the call is over, or another transfer of it is under way")
        ua = self._driver.ua
        target: str | NameAddr = to
        if replaces is not None:
            other = ua.established(replaces._handle) if isinstance(replaces, MovableCall) else None
            ours = ua.established(self._handle)
            if other is None or not (ours.replaceable and other.replaceable):
                return TransferResult(TransferOutcome.UNSUPPORTED)
            target = replacing(other.dialog)
        transfer: asyncio.Future[TransferResult] = asyncio.get_running_loop().create_future()
        self._transfer = transfer
        try:
            ua.refer(self._handle, target, self._driver.now(), limit=within)
            self._driver.pump()
            return await transfer
        finally:
            self._transfer = None

    def _refer(self, event: Referred) -> None:
        """The far end's REFER: for the owner, who says no unless its own rules allow it."""
        driver = self._driver
        taken = self.on_referred is not None and self.on_referred(Referral(self, event))
        with suppress(SipStateError):
            referees = driver.ua.established(self._handle).referees
            if taken:
                referees.accept(driver.now())
            else:
                referees.refuse(603 if self.on_referred is None else 403, driver.now())
        driver.pump()

    def tell_referral(self, status: int, reason: str = "") -> None:
        """Tell the far end how the call goes that its REFER had us place."""
        with suppress(SipStateError):
            referees = self._driver.ua.established(self._handle).referees
            referees.tell(status, reason or REASONS.get(status, "Unknown"), self._driver.now())
        self._driver.pump()

    async def take_over(self, handle: str, offer: bytes | None, remote: str) -> None:
        """Go on in the dialog ``handle``, whose INVITE replaces this call's (RFC 3891 §3).

        The media stays, described anew; the dialog there was is ended. Raises
        :class:`MediaError` where ``offer`` can't be accepted, :class:`SipStateError` where the
        INVITE is gone; then all stays as it was.
        """
        body = await (self._media.offer() if offer is None else self._media.update(offer))
        self._driver.ua.accept(handle, body, self._driver.now())
        self._wants_answer = offer is None
        self.move(handle, remote)

    def move(self, handle: str, remote: str) -> None:
        """The dialog ``handle`` carries this call from now on; the one before is ended."""
        driver, old = self._driver, self._handle
        driver.parties.pop(old, None)
        driver.parties[handle] = self
        self._handle, self._remote, self._on_hold = handle, remote, False
        self._settle_change(CallFailedError(481, "the call goes on elsewhere"))
        self._settle_transfer(TransferResult(TransferOutcome.UNCONFIRMED))
        driver.ua.bye(old, driver.now(), reason=reason_of(EndReason.TRANSFERRED))
        driver.pump()

    async def begin_following(self) -> bytes:
        """Offer this call's media to somebody else; the far end may leave meanwhile.

        Raises :class:`SipStateError` where the call is over.
        """
        if self._over.done():
            raise SipStateError("the call is over")
        offer = await self._media.offer()
        self._following = True
        return offer

    async def follow(self, answer: bytes) -> None:
        """Somebody else has answered the offer. Raises :class:`MediaError`, and
        :class:`SipStateError` where the call is over."""
        if self._over.done():
            raise SipStateError("the call is over")
        await self._media.set_answer(answer)
        self._left = None

    def end_following(self) -> None:
        """It goes on with the far end it has; where that left, it is over."""
        self._following = False
        left, self._left = self._left, None
        if left is not None:
            self._end(left)

    @abstractmethod
    def _end(self, reason: EndReason) -> None:
        """Nothing more comes for it."""

    def _settle_transfer(self, result: TransferResult) -> None:
        self._transferred |= result.outcome is TransferOutcome.TRANSFERRED
        if self._transfer is not None and not self._transfer.done():
            self._transfer.set_result(result)
