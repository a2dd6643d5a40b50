"""An established call, whoever placed it: ACKs, changes, refreshes, BYE.

RFC 3261 §13.3, §14 and §15, with UPDATE (RFC 3311), session timers (RFC 4028) and REFER.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from ringtrue.telephony.sip.context import ALLOW, EXTENSIONS, SDP, Context
from ringtrue.telephony.sip.dialog import Dialog, remote_target
from ringtrue.telephony.sip.errors import SipCapacityError, SipParseError, SipStateError
from ringtrue.telephony.sip.events import (
    Confirmed,
    EndCause,
    Ended,
    Pressed,
    RefreshDue,
    ReInvite,
    ReInviteAnswered,
    ReInviteRejected,
    ReOfferDue,
)
from ringtrue.telephony.sip.exchanges import Change, Unacknowledged
from ringtrue.telephony.sip.headers import NameAddr
from ringtrue.telephony.sip.info import ACCEPT as KEY_TYPES
from ringtrue.telephony.sip.info import key_told
from ringtrue.telephony.sip.message import Message, Request, Response
from ringtrue.telephony.sip.refer import Referrals
from ringtrue.telephony.sip.referred import Referees
from ringtrue.telephony.sip.replaces import OPTION
from ringtrue.telephony.sip.server_transaction import ServerTransaction
from ringtrue.telephony.sip.session_timer import (
    Lines,
    SessionTimer,
    agreed,
    answered,
    least_of,
    request_lines,
)
from ringtrue.telephony.sip.transport import Hop

MAX_RETRY_AFTER: Final = 10
MAX_ACKS: Final = 4
"""ACKs kept for 2xx that come again; older INVITEs are long acknowledged."""


class Call:
    """The INVITE usage of one confirmed dialog."""

    def __init__(
        self,
        context: Context,
        handle: str,
        dialog: Dialog,
        user: str | None,
        *,
        caller: bool,
        timer: SessionTimer | None = None,
    ) -> None:
        """``user`` is the user part of our Contact; ``caller`` whether the Call-ID is ours.

        ``timer`` is the session's, where one was agreed.
        """
        self._context = context
        self._handle = handle
        self.dialog = dialog
        self._user = user
        self._caller = caller
        self._over = False
        self._unacknowledged: dict[int, Unacknowledged] = {}
        self._incoming: tuple[ServerTransaction, Request] | None = None
        self._outgoing: Change | None = None
        self._retry_at: float | None = None
        self._timer = timer
        self._allowed: frozenset[str] = frozenset()
        self.replaceable = False
        """The far end supports Replaces (RFC 3891)."""

        self._referrals = Referrals(context, handle, dialog, user)
        self.referees = Referees(context, handle, dialog, user)
        self._acks: dict[int, tuple[bytes, Hop]] = {}
        self._bye_wanted = False
        self._bye_sent = False
        self._reason: str | None = None
        self._cause = EndCause.LOCAL_BYE

    # -- our 2xx -----------------------------------------------------------------------------

    def send_success(
        self, transaction: ServerTransaction, request: Request, body: bytes, now: float
    ) -> None:
        """Answer an INVITE with 200 and keep at it until its ACK comes (§13.3.1.4)."""
        timers = self._context.core.policy.timers
        response = self._context.response(
            request,
            200,
            to_tag=self.dialog.local.tag,
            extra=(
                ("contact", self._context.contact_in(self.dialog, self._user)),
                ("allow", ALLOW),
                ("supported", EXTENSIONS),
                ("accept", SDP),
                *self._answer_timer(request, now),
            ),
            body=body,
        )
        self._unacknowledged[request.cseq] = Unacknowledged(
            transaction,
            response,
            timers.t1,
            now + timers.t1,
            now + timers.timeout,
            offered=not request.body,
        )
        self._context.core.respond(transaction, response, now)
        self._context.core.schedule.track(self)

    def receive_ack(self, request: Request, now: float) -> None:
        """Stop sending the 2xx; take the answer where the 2xx offered."""
        waiting = self._unacknowledged.pop(request.cseq, None)
        if waiting is None or self._over:
            return
        self._context.core.schedule.track(self)
        answer = request.body or None if waiting.offered else None
        self._context.emit(Confirmed(self._handle, answer))
        if self._bye_wanted:
            self._send_bye(now)

    # -- requests from the far end -----------------------------------------------------------

    def matches(self, request: Request) -> bool:
        """Whether the request belongs to this dialog."""
        return self.dialog.matches(request)

    def receive(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """What comes inside the dialog; a PRACK has nothing left to acknowledge."""
        if not self.dialog.in_order(request):
            self._respond(transaction, request, 500, now)
        elif request.method == "BYE":
            self._receive_bye(transaction, request, now)
        elif self._bye_sent or self._bye_wanted or request.method == "PRACK":
            self._respond(transaction, request, 481, now)
        elif request.method == "INFO":
            self._receive_info(transaction, request, now)
        elif request.method == "NOTIFY":
            status, extra = self._referrals.notify(request, now)
            self._respond(transaction, request, status, now, extra)
        elif request.method == "REFER":
            self.referees.receive(transaction, request, now)
        else:
            self._receive_change(transaction, request, now)

    def _receive_info(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        key = key_told(request)
        if key is None:
            self._respond(transaction, request, 415, now, (("accept", KEY_TYPES),))
            return
        self._respond(transaction, request, 200, now)
        if key:
            self._context.emit(Pressed(self._handle, key))

    def _receive_bye(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        self._respond(transaction, request, 200, now)
        self.referees.stop(now)
        if self._incoming is not None:
            self._respond(*self._incoming, 487, now)
            self._incoming = None
        self._finish(self._cause if self._bye_sent else EndCause.REMOTE_BYE)

    def _receive_change(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """A re-INVITE (§14.2) or UPDATE (RFC 3311 §5.2)."""
        if request.method == "UPDATE" and not request.body:
            self._take_refresh(transaction, request, now)
            return
        if self._incoming is not None:
            wait = str(self._context.random.randint(0, MAX_RETRY_AFTER))
            self._respond(transaction, request, 500, now, (("retry-after", wait),))
            return
        if self._outgoing is not None or any(w.offered for w in self._unacknowledged.values()):
            self._respond(transaction, request, 491, now)
            return
        try:
            remote_target(request)
        except SipParseError as error:
            self._respond(transaction, request, error.status, now)
            return
        self._incoming = (transaction, request)
        if request.method == "INVITE":
            self._respond(transaction, request, 100, now)
        self._context.emit(ReInvite(self._handle, request.body or None))

    def _take_refresh(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """An UPDATE without an offer: the session goes on, perhaps at another Contact."""
        with suppress(SipParseError):
            self.dialog.target = remote_target(request)
        self._respond(transaction, request, 200, now, self._update_lines(request, now))

    def _update_lines(self, request: Request, now: float) -> Lines:
        contact = ("contact", self._context.contact_in(self.dialog, self._user))
        return (contact, ("allow", ALLOW), *self._answer_timer(request, now))

    def accept(self, body: bytes, now: float) -> None:
        """Accept the pending re-INVITE or UPDATE with ``body``. Raises :class:`SipStateError`."""
        transaction, request = self._pending()
        self._incoming = None
        self.dialog.target = remote_target(request)
        if request.method == "INVITE":
            self.send_success(transaction, request, body, now)
            return
        lines = self._update_lines(request, now)
        self._respond(transaction, request, 200, now, lines, body=body)

    def reject(
        self, status: int, reason: str | None, extra: tuple[tuple[str, str], ...], now: float
    ) -> None:
        """Refuse the pending change; the session stays. Raises :class:`SipStateError`."""
        transaction, request = self._pending()
        self._incoming = None
        self._respond(transaction, request, status, now, extra, reason)

    def cancel_incoming(self, transaction: ServerTransaction, now: float) -> None:
        """A CANCEL came for the pending re-INVITE: 487, the session stays."""
        if self._incoming is not None and self._incoming[0] is transaction:
            self._respond(*self._incoming, 487, now)
            self._incoming = None

    def _pending(self) -> tuple[ServerTransaction, Request]:
        if self._incoming is None:
            raise SipStateError("there is no change of the session to answer")
        return self._incoming

    # -- requests of ours --------------------------------------------------------------------

    def acknowledge(self, cseq: int) -> None:
        """Send the ACK to a 2xx, or the same one again (§13.2.2.4)."""
        core = self._context.core
        if cseq not in self._acks:
            ack = self.dialog.request("ACK", cseq=cseq)
            hop = self._context.hop_for(self.dialog)
            ack.headers.prepend("via", core.via(hop))
            self._acks[cseq] = (ack.encode(), hop)
            while len(self._acks) > MAX_ACKS:
                del self._acks[next(iter(self._acks))]
        core.send(*self._acks[cseq])

    def reinvite(self, offer: bytes, now: float, *, after_glare: bool = False) -> None:
        """Offer a change of the session (§14.1); ``after_glare``: because of ``ReOfferDue``.

        Raises :class:`SipStateError` while another exchange or a BYE is under way.
        """
        if self.ending:
            raise SipStateError("the call is over")
        if self._busy:
            raise SipStateError("another INVITE is under way on this call")
        self._send_change(Change("INVITE", offer, after_glare), now)

    @property
    def _busy(self) -> bool:
        """An exchange is under way, or one of ours waits to be tried again."""
        waits = self._retry_at is not None
        return waits or bool(self._incoming or self._outgoing or self._unacknowledged)

    def _send_change(self, change: Change, now: float) -> None:
        hop = self._context.hop_for(self.dialog)
        request = self.dialog.request(change.method)
        headers = request.headers
        headers.add("contact", self._context.contact_in(self.dialog, self._user, hop))
        headers.add("allow", ALLOW)
        headers.add("supported", EXTENSIONS)
        if self._timer is not None:
            if change.least is not None:
                self._timer.seconds = max(self._timer.seconds, change.least)
            refresher = "uac" if self._timer.ours else "uas"
            least = change.least or self._context.core.policy.session_least
            for name, value in request_lines(self._timer.seconds, least, refresher=refresher):
                headers.add(name, value)
        if change.offer:
            headers.add("content-type", SDP)
        request.body = change.offer
        self._outgoing = change
        try:
            self._context.core.request(request, hop, self, now)
        except SipCapacityError:
            self._outgoing = None
            raise

    def _refresh(self, now: float) -> None:
        """Keep the session alive, by UPDATE where the far end takes it (RFC 4028 §7.4)."""
        timer = self._timer
        if timer is None or not timer.ours:
            return
        timer.refresh_at = now + max(5.0, timer.seconds / 20)  # unless this attempt succeeds
        if self._busy:
            return
        if "UPDATE" not in self._allowed:
            self._context.emit(RefreshDue(self._handle))
            return
        with suppress(SipCapacityError):
            self._send_change(Change("UPDATE", b""), now)

    def note_peer(self, message: Message) -> None:
        """Remember what the far end's INVITE, or its 2xx to ours, says it takes."""
        allowed = message.tokens("allow")
        if allowed:
            self._allowed = frozenset(method.upper() for method in allowed)
        self.replaceable |= OPTION in (tag.lower() for tag in message.tokens("supported"))

    @property
    def ending(self) -> bool:
        """It is over, or a BYE of ours is on its way."""
        return self._over or self._bye_sent or self._bye_wanted

    def refer(self, to: str | NameAddr, limit: float, now: float) -> None:
        """As :meth:`Referrals.start`. Raises :class:`SipStateError`, too, where it is over."""
        if self.ending:
            raise SipStateError("the call is over")
        self._referrals.start(to, limit, now, self._allowed, lost=self._dialog_lost)

    def _answer_timer(self, request: Request, now: float) -> Lines:
        """What our 2xx says of the session's timer, which is set by it."""
        self.note_peer(request)
        said = answered(request, self._context.core.policy.session_seconds, now)
        self._timer = None if said is None else said[1]
        self._context.core.schedule.track(self)
        return () if said is None else said[0]

    def bye(self, now: float, reason: str | None = None) -> None:
        """End the call; waits for the ACK to our 2xx first (§15). Idempotent.

        ``reason`` is the value of the Reason header (RFC 3326).
        """
        if self.ending:
            return
        self._reason = reason
        if self._unacknowledged and not self._caller:
            self._bye_wanted = True
        else:
            self._send_bye(now)

    def _send_bye(self, now: float) -> None:
        if self._bye_sent or self._over:
            return
        self._bye_sent = True
        self.referees.stop(now)
        self._retry_at = self._timer = None
        self._unacknowledged.clear()
        if self._incoming is not None:
            self._respond(*self._incoming, 487, now)
            self._incoming = None
        try:
            hop = self._context.hop_for(self.dialog)
            bye = self.dialog.request("BYE")
            if self._reason is not None:
                bye.headers.add("reason", self._reason)
            self._context.core.request(bye, hop, self, now)
        except SipCapacityError:
            self._finish(self._cause)

    def on_response(self, request: Request, response: Response, now: float) -> None:
        """Answers to our BYE, re-INVITE and UPDATE."""
        if response.provisional:
            return
        if request.method == "BYE":
            self._finish(self._cause)
        elif response.success:
            self._change_accepted(request, response, now)
        elif not self._over and not self._change_again(response, now):
            lost = response.status in (408, 481)  # any other leaves the call as it is (§14.1)
            self._change_refused(response.status, response.reason, now, lost=lost)

    def _change_again(self, response: Response, now: float) -> bool:
        """Try once more with the session interval that a 422 asks for (RFC 4028 §7.4)."""
        change = self._outgoing
        if change is None or change.least is not None or response.status != 422:
            return False
        if self._timer is None or self._bye_sent:
            return False
        change.least = least_of(response)
        try:
            self._send_change(change, now)
        except SipCapacityError:
            return False
        return True

    def on_failure(self, request: Request, status: int, now: float) -> None:
        """Our BYE, re-INVITE or UPDATE got no answer."""
        if request.method == "BYE":
            self._finish(self._cause)
        elif not self._over:
            self._change_refused(status, "no answer", now, lost=True)

    def _change_accepted(self, request: Request, response: Response, now: float) -> None:
        if request.cseq in self._acks:
            self.acknowledge(request.cseq)
            return
        self._outgoing = None
        with suppress(SipParseError):
            self.dialog.target = remote_target(response)
        if request.method == "INVITE":
            self.acknowledge(request.cseq)
        if self._over or self._bye_sent:
            return
        if self._timer is not None:
            self._timer = agreed(response, now)
            self._context.core.schedule.track(self)
        if request.method == "INVITE":
            self._context.emit(ReInviteAnswered(self._handle, response.body or None))

    def _change_refused(self, status: int, reason: str, now: float, *, lost: bool) -> None:
        pending, self._outgoing = self._outgoing, None
        if pending is None or pending.method == "INVITE":
            glare = status == 491 and pending is not None and not pending.after_glare
            if glare and not self._bye_sent:
                self._retry_at = now + self._backoff()
                self._context.core.schedule.track(self)
                return
            self._context.emit(ReInviteRejected(self._handle, status, reason))
        if lost:
            self._dialog_lost(now)

    def _dialog_lost(self, now: float) -> None:
        self._cause = EndCause.LOST
        self._send_bye(now)

    def _backoff(self) -> float:
        """Seconds until a change is tried again after a glare, in units of 10 ms (§14.1)."""
        low, high = (210, 400) if self._caller else (0, 200)
        return self._context.random.randint(low, high) / 100

    # -- time --------------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """2xx retransmissions and their end, the retry after a glare, the session's timer."""
        times = [min(w.again, w.deadline) for w in self._unacknowledged.values()]
        if self._retry_at is not None:
            times.append(self._retry_at)
        if self._timer is not None:
            times.append(self._timer.due())
        return min(times, default=None)

    def handle_timer(self, now: float) -> None:
        """Send 2xx again, give up on their ACK, retry after a glare, refresh or let end."""
        timers = self._context.core.policy.timers
        for waiting in list(self._unacknowledged.values()):
            if waiting.deadline <= now:
                if not self._bye_wanted:
                    self._cause = EndCause.NO_ACK
                self._send_bye(now)
                return
            if waiting.again <= now:
                waiting.interval = min(2 * waiting.interval, timers.t2)
                waiting.again = now + waiting.interval
                self._context.core.respond(waiting.transaction, waiting.response, now)
        if self._retry_at is not None and self._retry_at <= now:
            self._retry_at = None
            if self._busy:
                self._retry_at = now + self._backoff()
            else:
                self._context.emit(ReOfferDue(self._handle))
        if self._timer is not None and self._timer.expires_at <= now:
            self._cause = EndCause.LOST
            self._send_bye(now)
        elif self._timer is not None and self._timer.ours and self._timer.refresh_at <= now:
            self._refresh(now)

    # -- the end -----------------------------------------------------------------------------

    def _finish(self, cause: EndCause) -> None:
        if self._over:
            return
        self._over = True
        self._referrals.stop()
        self._unacknowledged.clear()
        self._retry_at = self._timer = None
        self._context.core.schedule.track(self)
        self._context.release(self._handle)
        self._context.emit(Ended(self._handle, cause))

    def _respond(
        self,
        transaction: ServerTransaction,
        request: Request,
        status: int,
        now: float,
        extra: tuple[tuple[str, str], ...] = (),
        reason: str | None = None,
        body: bytes = b"",
    ) -> None:
        response = self._context.response(request, status, reason, extra=extra, body=body)
        self._context.core.respond(transaction, response, now)
