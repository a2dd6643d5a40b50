"""A call we place until its final answer: progress, forks, CANCEL (RFC 3261 §13.2, §9.1)."""

from __future__ import annotations

from contextlib import suppress

from ringtrue.telephony.sip.call import Call, drop_dialog
from ringtrue.telephony.sip.context import Context, Discard
from ringtrue.telephony.sip.dialog import Dialog
from ringtrue.telephony.sip.errors import SipCapacityError, SipParseError
from ringtrue.telephony.sip.events import Answered, Progress, Rejected
from ringtrue.telephony.sip.headers import Headers
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.responses import REASONS
from ringtrue.telephony.sip.server_transaction import ServerTransaction
from ringtrue.telephony.sip.transport import Hop


class OutgoingCall:
    """Our INVITE and everything that answers it, until its transaction ends.

    The first 2xx makes the call; any other fork's 2xx is acknowledged and ended with BYE.
    """

    def __init__(
        self, context: Context, handle: str, request: Request, hop: Hop, user: str | None
    ) -> None:
        """``request`` is complete but for its Via; ``handle`` is its From tag."""
        self._context = context
        self._handle = handle
        self._request = request
        self._hop = hop
        self._user = user
        self._settled = False
        self._proceeding = False
        self._cancelled = False
        self._cancel_sent = False
        self._rang_out = False
        self._limit_at: float | None = None
        self._call: Call | None = None
        self._dropped: dict[str, tuple[bytes, Hop] | None] = {}

    def start(self, now: float) -> None:
        """Send the INVITE. Raises :class:`SipCapacityError`."""
        self._limit_at = now + self._context.core.policy.ring_limit
        self._context.core.request(self._request, self._hop, self, now)
        self._context.core.schedule.track(self)

    def cancel(self, now: float) -> None:
        """Give up: CANCEL goes out once a provisional response came (§9.1). Idempotent.

        The outcome is still an event: ``Rejected`` with 487, or with 408 where nothing comes.
        """
        if self._settled or self._cancelled:
            return
        self._cancelled = True
        self._limit_at = now + self._context.core.policy.timers.timeout
        self._context.core.schedule.track(self)
        if self._proceeding:
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
        if response.provisional:
            self._provisional(response, now)
        elif response.success:
            self._success(response, now)
        else:
            self._settle(response.status, response.reason, response.retry_after)

    def on_failure(self, request: Request, status: int, now: float) -> None:
        """Nobody answered, or it could not be sent."""
        self._settle(status, REASONS[status], None)

    def _provisional(self, response: Response, now: float) -> None:
        self._proceeding = True
        if self._cancelled:
            if not self._cancel_sent and not self._settled:
                self._send_cancel(now)
        elif response.status > 100 and not self._settled:
            self._context.emit(Progress(self._handle, response.status, response.reason))

    def _success(self, response: Response, now: float) -> None:
        tag = response.to.tag or ""
        if self._call is not None and tag == (self._call.dialog.remote.tag or ""):
            self._call.acknowledge(self._request.cseq)
            return
        dropped = self._dropped.get(tag)
        if dropped is not None:
            self._context.core.send(*dropped)
            return
        try:
            dialog = Dialog.from_response(self._request, response, self._hop)
        except SipParseError as error:
            # Without a Contact there is no address for an ACK: the far end gives up by itself.
            self._settle(502, f"unusable answer: {error.reason}", None)
            return
        if self._settled or self._cancelled or tag in self._dropped:
            self._dropped[tag] = drop_dialog(self._context, dialog, self._request.cseq, now)
            self._settle(487, REASONS[487], None)
            return
        self._settled = True
        self._limit_at = None
        self._context.core.schedule.track(self)
        call = Call(self._context, self._handle, dialog, self._user, caller=True)
        self._call = call
        self._context.adopt(self._handle, call)
        call.acknowledge(self._request.cseq)
        self._context.emit(Answered(self._handle, response.body or None))

    def _settle(self, status: int, reason: str, retry_after: int | None) -> None:
        if self._settled:
            return
        self._settled = True
        self._limit_at = None
        if self._rang_out and status == 487:
            status, reason = 408, REASONS[408]
        self._context.core.schedule.track(self)
        self._context.release(self._handle)
        self._context.emit(Rejected(self._handle, status, reason, retry_after))

    # -- what comes in meanwhile -------------------------------------------------------------

    def matches(self, request: Request) -> bool:
        """Whether the request belongs to any of the INVITE's early dialogs."""
        return request.call_id == self._request.call_id and request.to.tag == self._handle

    def receive(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """A BYE may overtake its 2xx: that fork is then ended as soon as it answers."""
        if request.method == "BYE":
            self._dropped.setdefault(request.from_.tag or "", None)
        status = 200 if request.method == "BYE" else 491
        response = self._context.response(request, status)
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
            self._settle(408, REASONS[408], None)
        else:
            self._rang_out = True
            self.cancel(now)
