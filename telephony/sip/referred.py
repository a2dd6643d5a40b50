"""A far end asks us to call somebody else: REFER from its side, and what we tell of it.

RFC 3515 §2.4 and RFC 4488 (a REFER without subscription). Nothing is called here: the owner is
asked, and says no unless its own rules name the place.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from ringtrue.telephony.sip.context import Context
from ringtrue.telephony.sip.dialog import Dialog
from ringtrue.telephony.sip.errors import SipCapacityError, SipParseError, SipStateError
from ringtrue.telephony.sip.events import Referred
from ringtrue.telephony.sip.headers import parse_name_addr
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.replaces import replaced_by
from ringtrue.telephony.sip.responses import REASONS
from ringtrue.telephony.sip.server_transaction import ServerTransaction
from ringtrue.telephony.sip.uri import SipUri

SUBSCRIPTION: Final = 180
"""Seconds a subscription of a referral is said to last; longer than we let anything ring."""


class Referees:
    """The REFERs that the far end of one call sends: one at a time."""

    def __init__(self, context: Context, handle: str, dialog: Dialog, user: str | None) -> None:
        """``user`` is the user part of our Contact."""
        self._context = context
        self._handle = handle
        self._dialog = dialog
        self._user = user
        self._asked: tuple[ServerTransaction, Request] | None = None
        self._telling: int | None = None
        """CSeq of the REFER whose progress the far end is told."""

        self._busy = False

    def receive(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """Take a REFER of the dialog: a bad one is refused, a good one is for the owner."""
        if self._busy:
            self._respond(transaction, request, 491, now)
            return
        try:
            event = self._read(request)
        except SipParseError as error:
            self._respond(transaction, request, error.status, now)
            return
        self._asked, self._busy = (transaction, request), True
        self._context.emit(event)

    def _read(self, request: Request) -> Referred:
        values = request.headers.get_all("refer-to")
        if len(values) != 1:
            raise SipParseError("exactly one Refer-To is needed")  # RFC 3515 §2.4.2
        uri = parse_name_addr(values[0]).uri
        if not isinstance(uri, SipUri):
            raise SipParseError(f"can't call a {uri.scheme!r} URI", status=416)
        if (uri.param("method") or "INVITE") != "INVITE":
            raise SipParseError("only INVITE is sent for others", status=403)
        return Referred(self._handle, str(uri.bare()), replaced_by(uri))

    def refuse(self, status: int, now: float) -> None:
        """Refuse the REFER that waits. Raises :class:`SipStateError` where none does."""
        transaction, request = self._pending()
        self._busy = False
        self._respond(transaction, request, status, now)

    def accept(self, now: float) -> None:
        """Take it: 202, and the far end is told how it goes unless it wants not to be."""
        transaction, request = self._pending()
        if (request.headers.get("refer-sub") or "").strip().lower() == "false":
            self._respond(transaction, request, 202, now, (("refer-sub", "false"),))
            return
        self._respond(transaction, request, 202, now)
        self._telling = request.cseq
        self._notify(100, REASONS[100], now)

    def tell(self, status: int, reason: str, now: float) -> None:
        """The call that was placed for it has got ``status``; a final one ends it."""
        if not self._busy or self._asked is not None:
            return
        if self._telling is not None:
            self._notify(status, reason, now)
        if status >= 200:
            self._busy, self._telling = False, None

    def stop(self, now: float) -> None:
        """The call is over: a REFER that still waits is refused."""
        if self._asked is not None:
            self._respond(*self._asked, 487, now)
        self._asked, self._telling, self._busy = None, None, False

    def _pending(self) -> tuple[ServerTransaction, Request]:
        asked, self._asked = self._asked, None
        if asked is None:
            raise SipStateError("there is no REFER to answer")
        return asked

    def _notify(self, status: int, reason: str, now: float) -> None:
        request = self._dialog.request("NOTIFY")
        over = status >= 200
        headers = request.headers
        headers.add("contact", self._context.contact_in(self._dialog, self._user))
        headers.add("event", f"refer;id={self._telling}")
        state = "terminated;reason=noresource" if over else f"active;expires={SUBSCRIPTION}"
        headers.add("subscription-state", state)
        headers.add("content-type", "message/sipfrag;version=2.0")
        request.body = f"SIP/2.0 {status} {reason}\r\n".encode()
        hop = self._context.hop_for(self._dialog)
        # Where the table is full the far end learns it from the BYE, or from its own timer.
        with suppress(SipCapacityError):
            self._context.core.request(request, hop, self, now)

    def on_response(self, request: Request, response: Response, now: float) -> None:
        """A far end that doesn't know the subscription any more is told nothing further."""
        if response.status in (481, 489):
            self._telling = None

    def on_failure(self, request: Request, status: int, now: float) -> None:
        """It was not heard; whoever is told nothing asks nothing."""
        self._telling = None

    def _respond(
        self,
        transaction: ServerTransaction,
        request: Request,
        status: int,
        now: float,
        extra: tuple[tuple[str, str], ...] = (),
    ) -> None:
        contact: tuple[tuple[str, str], ...] = ()
        if status < 300:
            contact = (("contact", self._context.contact_in(self._dialog, self._user)),)
        response = self._context.response(request, status, extra=(*contact, *extra))
        self._context.core.respond(transaction, response, now)
