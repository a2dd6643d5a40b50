"""A call we place until its final answer: progress, forks, CANCEL (RFC 3261 §13.2, §9.1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from ringtrue.telephony.sip.call import MAX_RETRY_AFTER, Call
from ringtrue.telephony.sip.context import ALLOW, Context, Discard
from ringtrue.telephony.sip.dialog import Dialog
from ringtrue.telephony.sip.errors import SipCapacityError, SipParseError, SipStateError
from ringtrue.telephony.sip.events import Answered, Progress, ReInvite, Rejected
from ringtrue.telephony.sip.headers import Headers
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.reliable import rseq_of
from ringtrue.telephony.sip.responses import REASONS
from ringtrue.telephony.sip.resting import SILENT_REST
from ringtrue.telephony.sip.server_transaction import ServerTransaction
from ringtrue.telephony.sip.session_timer import agreed, least_of, request_lines
from ringtrue.telephony.sip.transport import Hop
from ringtrue.telephony.sip.uri import is_secure

MAX_FORKS = 16
"""Early dialogs of one INVITE that we keep; further forks are heard once they answer."""

MAX_RELIABLE = 32
"""Reliable provisional responses of one fork that we acknowledge."""

MAX_DROPPED = 64
"""Unwanted answers that we acknowledge and end; a far end that sends more is left to it."""

MAX_LENGTHENED = 2
"""Times we ask again for a longer session interval."""


@dataclass(slots=True, eq=False)
class _Fork:
    """One early dialog."""

    dialog: Dialog
    rseq: int | None = None
    """The last reliable provisional response that was acknowledged."""

    reliable: int = 0
    """How many there were."""

    answer: bytes | None = None
    """From a reliable response: the answer to our offer, for good (RFC 3262 §5)."""

    changed: bool = False
    """An UPDATE has changed the session since."""


class OutgoingCall:
    """Our INVITE and everything that answers it, until its transaction ends.

    The first 2xx makes the call; any other fork's 2xx is acknowledged and ended with BYE.
    """

    def __init__(
        self,
        context: Context,
        handle: str,
        request: Request,
        hop: Hop,
        user: str | None,
        *,
        ring_limit: float | None = None,
        others: Iterable[Hop] = (),
    ) -> None:
        """``request`` is complete but for Via and session timer; ``handle`` is its From tag.

        ``ring_limit`` is how many seconds it may stay unanswered; None: the policy's. ``others``
        are tried one after the other where a hop doesn't answer or is out of service.
        """
        self._context = context
        self._handle = handle
        self._request = request
        self._hop = hop
        self._others = deque(others)
        self._user = user
        policy = context.core.policy
        self._ring_limit = policy.ring_limit if ring_limit is None else ring_limit
        self._settled = False
        self._proceeding: str | None = None  # branch of the INVITE that is being worked on
        self._cancelled = False
        self._cancel_sent = False
        self._rang_out = False
        self._limit_at: float | None = None
        self._call: Call | None = None
        self._forks: dict[str, _Fork] = {}
        self._dropped: dict[str, tuple[bytes, Hop] | None] = {}
        self._change: tuple[ServerTransaction, Request, _Fork] | None = None
        self._seconds = max(policy.session_seconds, policy.session_least)
        self._least = policy.session_least
        self._lengthened = 0

    def start(self, now: float) -> None:
        """Send the INVITE. Raises :class:`SipCapacityError`."""
        self._limit_at = now + self._ring_limit
        self._send(now)
        self._context.core.schedule.track(self)

    def _send(self, now: float) -> None:
        for name, value in request_lines(self._seconds, self._least):
            self._request.headers.set(name, [value])
        self._context.core.request(self._request, self._hop, self, now)

    def cancel(self, now: float) -> None:
        """Give up: CANCEL goes out once a provisional response came (§9.1). Idempotent.

        The outcome is still an event: ``Rejected`` with 487, or with 408 where nothing comes.
        """
        if self._settled or self._cancelled:
            return
        self._cancelled = True
        self._limit_at = now + self._context.core.policy.timers.timeout
        self._context.core.schedule.track(self)
        if self._proceeding is not None and self._proceeding == self._request.via.branch:
            self._send_cancel(now)

    def _send_cancel(self, now: float) -> None:
        self._cancel_sent = True
        source = self._request.headers
        headers = Headers([("via", str(self._request.via))])
        for value in source.get_all("route"):
            headers.add("route", value)
        headers.add("max-forwards", "70")
        for name in ("from", "to", "call-id"):
            headers.add(name, source.get(name) or "")
        headers.add("cseq", f"{self._request.cseq} CANCEL")
        cancel = Request(method="CANCEL", uri=self._request.uri, headers=headers)
        # Where the table is full, the limit timer still ends the call on our side.
        with suppress(SipCapacityError):
            self._context.core.request(cancel, self._hop, Discard(), now)

    # -- answers -----------------------------------------------------------------------------

    def on_response(self, request: Request, response: Response, now: float) -> None:
        """Every response to the INVITE; 2xx ones come again until acknowledged."""
        self._request = request
        if response.provisional:
            self._provisional(response, now)
        elif response.success:
            self._success(response, now)
        elif response.status == 422 and self._lengthen(response, now):
            return
        else:
            if response.status == 503 and response.retry_after is not None:
                self._context.core.resting.note(self._hop, response.retry_after, now)
            if response.status != 503 or not self._elsewhere(now):
                self._settle(response.status, response.reason, response.retry_after)

    def on_failure(self, request: Request, status: int, now: float) -> None:
        """Nobody answered, or it could not be sent."""
        self._context.core.resting.note(self._hop, SILENT_REST, now)
        if not self._elsewhere(now):
            self._settle(status, REASONS[status], None, heard=False)

    def _elsewhere(self, now: float) -> bool:
        """Send it to the next server, where nobody has rung yet (RFC 3263 §4.3)."""
        if self._settled or self._cancelled or self._forks or not self._others:
            return False
        self._hop = self._others.popleft()
        contact = self._context.contact(self._hop, self._user, secure=is_secure(self._request.uri))
        return self._again(now, ("contact", contact))

    def _lengthen(self, response: Response, now: float) -> bool:
        """Ask again for the session interval that a 422 demands (RFC 4028 §7.3)."""
        least = least_of(response)
        if self._settled or self._cancelled or least <= self._least:
            return False
        if self._lengthened >= MAX_LENGTHENED:
            return False
        self._lengthened += 1
        self._least, self._seconds = least, max(self._seconds, least)
        return self._again(now)

    def _again(self, now: float, *changed: tuple[str, str]) -> bool:
        """Send it anew, with the lines of ``changed`` in place of what they were."""
        self._proceeding = None
        old = self._request
        anew = {"via", "cseq", *(name for name, _ in changed)}
        lines = Headers([*(line for line in old.headers if line[0] not in anew), *changed])
        lines.add("cseq", f"{old.cseq + 1} INVITE")
        self._request = Request(method="INVITE", uri=old.uri, headers=lines, body=old.body)
        try:
            self._send(now)
        except SipCapacityError:
            return False
        return True

    def _provisional(self, response: Response, now: float) -> None:
        self._proceeding = response.via.branch
        fork = self._fork(response) if response.status > 100 and response.to.tag else None
        number = rseq_of(response)
        if fork is not None and number is not None:
            if fork.rseq is not None and number != fork.rseq + 1:
                return  # came again, or before one that is still to come (RFC 3262 §4)
            if fork.reliable >= MAX_RELIABLE:
                return
            fork.rseq, fork.reliable = number, fork.reliable + 1
            self._acknowledge(fork, response, number, now)
            if fork.answer is None:
                fork.answer = response.body or None
        if self._cancelled:
            if not self._cancel_sent and not self._settled:
                self._send_cancel(now)
        elif response.status > 100 and not self._settled:
            sdp = response.body or None
            if fork is not None and fork.answer is not None and response.body != fork.answer:
                sdp = None  # what was agreed stays
            self._context.emit(Progress(self._handle, response.status, response.reason, sdp))

    def _fork(self, response: Response) -> _Fork | None:
        """The early dialog of a provisional response; None where it makes none."""
        tag = response.to.tag or ""
        fork = self._forks.get(tag)
        if fork is None and len(self._forks) < MAX_FORKS:
            with suppress(SipParseError):
                dialog = Dialog.from_response(self._request, response, self._hop)
                fork = self._forks[tag] = _Fork(dialog)
        return fork

    def _acknowledge(self, fork: _Fork, response: Response, number: int, now: float) -> None:
        prack = fork.dialog.request("PRACK")
        prack.headers.add("rack", f"{number} {response.cseq} INVITE")
        # Where the table is full the far end sends again, or gives up.
        with suppress(SipCapacityError):
            hop = self._context.hop_for(fork.dialog)
            self._context.core.request(prack, hop, Discard(), now)

    def _success(self, response: Response, now: float) -> None:
        tag = response.to.tag or ""
        if self._call is not None and tag == (self._call.dialog.remote.tag or ""):
            self._call.acknowledge(self._request.cseq)
            return
        dropped = self._dropped.get(tag)
        if dropped is not None:
            self._context.core.send(*dropped)
            return
        fork = self._forks.get(tag)
        try:
            dialog = self._confirm(response, fork)
        except SipParseError as error:
            # Without a Contact there is no address for an ACK: the far end gives up by itself.
            self._settle(502, f"unusable answer: {error.reason}", None)
            return
        if self._settled or self._cancelled or tag in self._dropped:
            if len(self._dropped) >= MAX_DROPPED:
                return
            self._dropped[tag] = _drop(self._context, dialog, self._request.cseq, now)
            self._settle(487, REASONS[487], None)
            return
        self._settled = True
        self._limit_at = None
        self._context.core.schedule.track(self)
        timer = agreed(response, now)
        call = Call(self._context, self._handle, dialog, self._user, caller=True, timer=timer)
        call.note_peer(response)
        self._call = call
        self._context.adopt(self._handle, call)
        self._context.core.schedule.track(call)
        call.acknowledge(self._request.cseq)
        answer = response.body or None
        if fork is not None and fork.answer is not None:
            answer = fork.answer
        changed = fork is not None and fork.changed
        self._context.emit(Answered(self._handle, answer, changed))
        self._refuse_change(now)

    def _confirm(self, response: Response, fork: _Fork | None) -> Dialog:
        """The confirmed dialog: its route set anew from the 2xx, its numbers as they stand."""
        dialog = Dialog.from_response(self._request, response, self._hop)
        if fork is not None:
            dialog.local_seq = max(dialog.local_seq, fork.dialog.local_seq)
            dialog.remote_seq = fork.dialog.remote_seq
        return dialog

    def _settle(
        self, status: int, reason: str, retry_after: int | None, *, heard: bool = True
    ) -> None:
        if self._settled:
            return
        self._settled = True
        self._limit_at = None
        if self._rang_out and status == 487:
            status, reason = 408, REASONS[408]
        self._context.core.schedule.track(self)
        self._context.release(self._handle)
        self._context.emit(Rejected(self._handle, status, reason, retry_after, heard))

    def forks(self, call_id: str, tag: str) -> bool:
        """Whether ``tag`` is that of a far end that rings."""
        return not self._settled and call_id == self._request.call_id and tag in self._forks

    # -- what comes in meanwhile -------------------------------------------------------------

    def matches(self, request: Request) -> bool:
        """Whether the request belongs to any of the INVITE's early dialogs."""
        return request.call_id == self._request.call_id and request.to.tag == self._handle

    def receive(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """A BYE may overtake its 2xx: that fork is then ended as soon as it answers.

        An UPDATE may change what a reliable response agreed on (RFC 3311 §5.2).
        """
        tag = request.from_.tag or ""
        fork = self._forks.get(tag)
        if request.method == "BYE":
            if len(self._dropped) < MAX_DROPPED:
                self._dropped.setdefault(tag, None)
            self._respond(transaction, request, 200, now)
        elif request.method != "UPDATE" or self._settled:
            self._respond(transaction, request, 491, now)
        elif fork is None or not fork.dialog.in_order(request):
            self._respond(transaction, request, 500 if fork else 481, now)
        elif not request.body:
            self._respond(transaction, request, 200, now)
        elif self._change is not None:
            wait = str(self._context.random.randint(0, MAX_RETRY_AFTER))
            self._respond(transaction, request, 500, now, (("retry-after", wait),))
        elif fork.answer is None:
            self._respond(transaction, request, 491, now)
        else:
            self._change = (transaction, request, fork)
            self._context.emit(ReInvite(self._handle, request.body))

    def accept(self, body: bytes, now: float) -> None:
        """Accept the pending UPDATE with ``body``. Raises :class:`SipStateError`."""
        transaction, request, fork = self._pending()
        fork.changed = True
        self._respond(transaction, request, 200, now, body=body)

    def reject(
        self, status: int, reason: str | None, extra: tuple[tuple[str, str], ...], now: float
    ) -> None:
        """Refuse the pending UPDATE; the session stays. Raises :class:`SipStateError`."""
        transaction, request, _ = self._pending()
        self._respond(transaction, request, status, now, extra, reason)

    def _pending(self) -> tuple[ServerTransaction, Request, _Fork]:
        change, self._change = self._change, None
        if change is None:
            raise SipStateError("there is no change of the session to answer")
        return change

    def _refuse_change(self, now: float) -> None:
        """The call was answered before its owner had answered an UPDATE."""
        if self._change is not None:
            self.reject(500, None, (("retry-after", "0"),), now)

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
        lines = extra
        if request.method == "UPDATE" and 200 <= status < 300:
            contact = (
                "contact",
                self._context.contact(self._hop, self._user, secure=is_secure(self._request.uri)),
            )
            lines = (contact, ("allow", ALLOW), *extra)
        response = self._context.response(request, status, reason, extra=lines, body=body)
        self._context.core.respond(transaction, response, now)

    def receive_ack(self, request: Request, now: float) -> None:
        """Nothing of ours waits for an ACK."""

    # -- time --------------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """The end of patience."""
        return self._limit_at

    def handle_timer(self, now: float) -> None:
        """Cancel an INVITE that rings too long; give up on one that does not even end then."""
        if self._limit_at is None or self._limit_at > now:
            return
        self._limit_at = None
        if self._cancelled:
            self._context.core.abandon(self._request, now)
            self._settle(408, REASONS[408], None, heard=False)
        else:
            self._rang_out = True
            self.cancel(now)


def _drop(context: Context, dialog: Dialog, cseq: int, now: float) -> tuple[bytes, Hop]:
    """Acknowledge and at once end a dialog nobody wants (an extra fork, a crossed CANCEL).

    Returns the ACK, to be sent again when the 2xx comes again.
    """
    hop = context.hop_for(dialog)
    ack = dialog.request("ACK", cseq=cseq)
    ack.headers.prepend("via", context.core.via(hop))
    data = ack.encode()
    context.core.send(data, hop)
    bye = dialog.request("BYE")
    # Where the table is full the far end's session ends by its own means; ours never began.
    with suppress(SipCapacityError):
        context.core.request(bye, hop, Discard(), now)
    return data, hop
