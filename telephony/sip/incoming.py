"""An incoming call until its final answer (RFC 3261 §13.3, §9.2)."""

from __future__ import annotations

from typing import Final

from ringtrue.telephony.sip.call import MAX_RETRY_AFTER, Call
from ringtrue.telephony.sip.context import Context
from ringtrue.telephony.sip.dialog import Dialog
from ringtrue.telephony.sip.errors import SipStateError
from ringtrue.telephony.sip.events import CancelCause, Cancelled, IncomingInvite
from ringtrue.telephony.sip.message import Request
from ringtrue.telephony.sip.reliable import Provisionals, wants
from ringtrue.telephony.sip.server_transaction import ServerTransaction
from ringtrue.telephony.sip.transport import Hop
from ringtrue.telephony.sip.uri import SipUri

REFRESH: Final = 60.0
"""Seconds between provisional responses, so that proxies don't give up (§13.3.1.1)."""


class IncomingCall:
    """The INVITE is unanswered; the dialog is early."""

    def __init__(
        self,
        context: Context,
        handle: str,
        transaction: ServerTransaction,
        request: Request,
        source: Hop,
        now: float,
        *,
        replaces: str | None = None,
    ) -> None:
        """Make the dialog and send 100. Raises :class:`SipParseError` on an unusable Contact."""
        self._context = context
        self._handle = handle
        self.transaction = transaction
        self._request = request
        self._dialog = Dialog.from_request(request, handle, source)
        self._user = request.uri.user if isinstance(request.uri, SipUri) else None
        self._open = True
        self._refresh_at: float | None = None
        self._expires_at = now + min(_expires(request), context.core.policy.ring_limit)
        self._source = source
        self._replaces = replaces
        self._reliably = (
            Provisionals(context, transaction, request) if wants(request, "require") else None
        )

    def start(self, now: float) -> None:
        """Send 100 Trying and announce the call."""
        self._respond(100, now)
        self._context.core.schedule.track(self)
        offer = self._request.body or None
        self._context.emit(
            IncomingInvite(self._handle, self._request, self._source, offer, self._replaces)
        )

    def ring(self, now: float) -> None:
        """Send 180 Ringing. Raises :class:`SipStateError` once answered or gone."""
        self._check()
        self._ring(now)

    def accept(self, body: bytes, now: float) -> None:
        """Answer with 200 and ``body``; the call is then a :class:`Call`."""
        self._check()
        self._close()
        call = Call(self._context, self._handle, self._dialog, self._user, caller=False)
        self._context.adopt(self._handle, call)
        call.send_success(self.transaction, self._request, body, now)

    def reject(
        self, status: int, reason: str | None, extra: tuple[tuple[str, str], ...], now: float
    ) -> None:
        """Refuse with a final 3xx to 6xx. Raises :class:`SipStateError` once answered or gone."""
        self._check()
        self._close()
        self._respond(status, now, reason, extra)

    def cancel(self, now: float, cause: CancelCause = CancelCause.CANCEL) -> None:
        """The caller gave up, or time is up: 487. Nothing happens once it is answered."""
        if not self._open:
            return
        self._close()
        self._respond(487, now)
        self._context.emit(Cancelled(self._handle, cause))

    # -- what comes in meanwhile -------------------------------------------------------------

    def matches(self, request: Request) -> bool:
        """Whether the request belongs to the early dialog."""
        return self._dialog.matches(request)

    def receive(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """BYE ends it like CANCEL (§15.1.2); a second INVITE or an offer must wait (§14.2)."""
        respond = self._context.core.respond
        if not self._dialog.in_order(request):
            respond(transaction, self._context.response(request, 500), now)
        elif request.method == "BYE":
            respond(transaction, self._context.response(request, 200), now)
            self.cancel(now)
        elif request.method == "PRACK":
            respond(transaction, self._context.response(request, self._acknowledge(request)), now)
            self._context.core.schedule.track(self)
        elif request.method == "UPDATE" and not request.body:
            contact = (("contact", self._context.contact_in(self._dialog, self._user)),)
            respond(transaction, self._context.response(request, 200, extra=contact), now)
        else:
            wait = (("retry-after", str(self._context.random.randint(0, MAX_RETRY_AFTER))),)
            respond(transaction, self._context.response(request, 500, extra=wait), now)

    def receive_ack(self, request: Request, now: float) -> None:
        """Nothing to acknowledge yet."""

    # -- time --------------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """The 180's refresh, and the end of patience."""
        if not self._open:
            return None
        times = [self._expires_at, self._refresh_at]
        if self._reliably is not None:
            times.append(self._reliably.next_timer())
        return min(time for time in times if time is not None)

    def handle_timer(self, now: float) -> None:
        """Send 180 again, or give up."""
        if not self._open:
            return
        if self._expires_at <= now:
            self.cancel(now, CancelCause.EXPIRED)
        elif self._reliably is not None and self._reliably.handle_timer(now):
            self._unacknowledged(now)
        elif self._refresh_at is not None and self._refresh_at <= now:
            self._ring(now)

    def _acknowledge(self, prack: Request) -> int:
        """Status of a PRACK; we have answered no offer yet, so it may not bring another."""
        if prack.body:
            return 488
        return 200 if self._reliably is not None and self._reliably.acknowledge(prack) else 481

    def _unacknowledged(self, now: float) -> None:
        """A reliable response was never acknowledged (RFC 3262 §3)."""
        self._close()
        self._respond(504, now)
        self._context.emit(Cancelled(self._handle, CancelCause.EXPIRED))

    # -- inside ------------------------------------------------------------------------------

    def _check(self) -> None:
        if not self._open:
            raise SipStateError("the call is already answered, refused or cancelled")

    def _close(self) -> None:
        self._open = False
        self._context.release(self._handle)
        self._context.core.schedule.track(self)

    def _ring(self, now: float) -> None:
        extra = (("contact", self._context.contact_in(self._dialog, self._user)),)
        if self._reliably is None:
            self._respond(180, now, extra=extra)
        elif self._request.body:  # without an offer, the first reliable response had to make one
            self._reliably.send(180, self._handle, extra, now)
        self._refresh_at = now + REFRESH
        self._context.core.schedule.track(self)

    def _respond(
        self,
        status: int,
        now: float,
        reason: str | None = None,
        extra: tuple[tuple[str, str], ...] = (),
    ) -> None:
        response = self._context.response(
            self._request, status, reason, to_tag=self._handle, extra=extra
        )
        self._context.core.respond(self.transaction, response, now)


def _expires(request: Request) -> float:
    """Expires of an INVITE in seconds (§13.3.1); infinity where absent or unreadable."""
    value = request.headers.get("expires") or ""
    return float(value) if value.isascii() and value.isdigit() and len(value) < 10 else float("inf")
