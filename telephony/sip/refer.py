"""Asking a call's far end to call somebody else: REFER in its dialog (RFC 3515).

:class:`Referral` is the request and the subscription that comes with it: what the far end tells
by NOTIFY of the call it then places. A far end's own REFER is in ``referred``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from ringtrue.telephony.sip.context import Context
from ringtrue.telephony.sip.dialog import Dialog
from ringtrue.telephony.sip.errors import SipParseError, SipStateError
from ringtrue.telephony.sip.events import ReferEnded, ReferProgress
from ringtrue.telephony.sip.headers import NameAddr, param, parse_params
from ringtrue.telephony.sip.message import Request, Response, parse_target
from ringtrue.telephony.sip.responses import REASONS
from ringtrue.telephony.sip.uri import SipUri, Uri, parse_uri

FRAGMENT: Final = "message/sipfrag"
"""Type of a NOTIFY's body (RFC 3420)."""

MAX_FRAGMENT: Final = 1024
"""Bytes of it that are looked at: its first line is what counts."""

GRACE: Final = 4.0
"""Seconds that a subscription's last NOTIFY may be behind its end."""

_STATUS: Final = re.compile(
    rb"\s*SIP/2\.0[ \t]+([1-6][0-9]{2})(?![0-9])[ \t]*([^\r\n]{0,128})", re.I
)
_SEPARATORS: Final = str.maketrans("", "", "-.()")


def refer_target(text: str, peer: Uri) -> NameAddr:
    """What Refer-To says of ``sip:…``, ``tel:…`` or a number with ``+``.

    A number is one of the domain that the far end, ``peer``, called from or was called at
    (RFC 3261 §19.1.6). Raises :class:`SipParseError` on anything else.
    """
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() != "tel":
        return NameAddr(parse_target(text).bare())
    number = (rest if colon else text).translate(_SEPARATORS)
    digits = number.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        raise SipParseError("can't transfer there; allowed: a sip, sips or tel URI, or +NUMBER")
    if not isinstance(peer, SipUri):
        return NameAddr(parse_uri(f"tel:{number}"))
    where = SipUri(peer.host, peer.port, number, params=(("user", "phone"),), scheme=peer.scheme)
    return NameAddr(where)


def told(request: Request) -> tuple[int, str] | None:
    """Status and reason in a NOTIFY's fragment; None where it has none. Never raises."""
    if request.content_type != FRAGMENT:
        return None
    found = _STATUS.match(request.body[:MAX_FRAGMENT])
    if found is None:
        return None
    return int(found[1]), found[2].decode("utf-8", "replace").strip()


def subscription_state(request: Request) -> tuple[bool, int | None]:
    """Whether a NOTIFY ends its subscription, and else the seconds left (RFC 6665 §4.1.3).

    A NOTIFY that doesn't say leaves it as it is. Never raises.
    """
    state, _, rest = (request.headers.get("subscription-state") or "").partition(";")
    if state.strip().lower() == "terminated":
        return True, None
    try:
        text = param(parse_params(f";{rest}" if rest else ""), "expires") or ""
    except SipParseError:
        return False, None
    return False, int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


class Referrals:
    """The REFERs that we send in one call's dialog: one at a time."""

    def __init__(self, context: Context, handle: str, dialog: Dialog, user: str | None) -> None:
        """``user`` is the user part of our Contact."""
        self._context = context
        self._handle = handle
        self._dialog = dialog
        self._user = user
        self._latest: Referral | None = None

    def start(
        self,
        to: str | NameAddr,
        limit: float,
        now: float,
        allowed: frozenset[str],
        *,
        lost: Callable[[float], None],
    ) -> None:
        """Ask the far end to call ``to``; :class:`ReferEnded` follows within ``limit`` seconds.

        ``to`` is what :func:`refer_target` takes, or Refer-To's value itself.

        ``allowed`` is what the far end says it takes, empty where it doesn't say. One that takes
        no REFER is not asked: the event has 405 then. ``lost`` is called where the far end doesn't
        know the dialog (481). Raises :class:`SipParseError` on a bad
        ``to``, :class:`SipStateError` while another REFER is under way, :class:`SipCapacityError`.
        """
        before = self._latest
        if before is not None and before.pending:
            raise SipStateError("another REFER is under way on this call")
        target = to if isinstance(to, NameAddr) else refer_target(to, self._dialog.remote.uri)
        if allowed and "REFER" not in allowed:
            ended = ReferEnded(self._handle, 405, REASONS[405], accepted=False, heard=False)
            self._context.emit(ended)
            return
        hop = self._context.hop_for(self._dialog)
        request = self._dialog.request("REFER")
        request.headers.add("contact", self._context.contact_in(self._dialog, self._user, hop))
        request.headers.add("refer-to", str(target))
        request.headers.add("referred-by", str(NameAddr(self._dialog.local.uri)))  # RFC 3892
        latest = Referral(
            self._context,
            self._handle,
            request,
            now + limit,
            alone=before is None or before.finished,
            lost=lost,
        )
        self._context.core.request(request, hop, latest, now)
        self._latest = latest
        self._context.core.schedule.track(latest)

    def notify(self, request: Request, now: float) -> tuple[int, tuple[tuple[str, str], ...]]:
        """Take a NOTIFY of the dialog; returns the answer's status and further headers."""
        event = (request.headers.get("event") or "").partition(";")[0].strip().lower()
        if event != "refer":
            return 489, (("allow-events", "refer"),)
        return 481 if self._latest is None else self._latest.notify(request, now), ()

    def stop(self) -> None:
        """The call is over: nothing more comes of any."""
        latest, self._latest = self._latest, None
        if latest is not None:
            latest.stop()


class Referral:
    """One REFER of ours, until its far end has told how it went.

    Ends with exactly one :class:`ReferEnded`, unless :meth:`stop` comes first.
    """

    def __init__(
        self,
        context: Context,
        handle: str,
        request: Request,
        limit_at: float,
        *,
        alone: bool,
        lost: Callable[[float], None],
    ) -> None:
        """Made by :class:`Referrals`; ``alone``: the far end tells of no other in the dialog."""
        self._context = context
        self._handle = handle
        self._request = request
        self._limit_at = limit_at
        self._alone = alone
        self._lost = lost
        self._accepted = False
        self._status, self._reason = 100, REASONS[100]
        self._expires_at: float | None = None
        self._settled = False
        self._closed = self._finished = False

    @property
    def pending(self) -> bool:
        """Whether its outcome is still to come."""
        return not self._settled

    @property
    def finished(self) -> bool:
        """Whether the far end tells nothing more of it, by its own word."""
        return self._finished

    def stop(self) -> None:
        """The call is over: nothing more comes of it."""
        self._settled = self._closed = True
        self._context.core.schedule.track(self)

    # -- answers to the REFER ----------------------------------------------------------------

    def on_response(self, request: Request, response: Response, now: float) -> None:
        """200 or 202: the subscription stands (RFC 3515 §2.4.2, RFC 7647); else it is refused."""
        if response.provisional:
            return
        if response.success:
            self._accepted = True
        else:
            self._refused(response.status, response.reason, heard=True)
        if response.status == 481:
            self._lost(now)

    def on_failure(self, request: Request, status: int, now: float) -> None:
        """Nothing came back, or it could not be sent."""
        if not self._accepted:
            self._refused(status, REASONS[status], heard=False)

    def _refused(self, status: int, reason: str, *, heard: bool) -> None:
        self._closed = True
        self._finished = heard
        self._settle(status, reason, heard=heard)

    # -- the subscription --------------------------------------------------------------------

    def notify(self, request: Request, now: float) -> int:
        """Take a NOTIFY of the dialog, and say with which status to answer it.

        It may come before the answer to the REFER (RFC 3515 §2.4.4). A NOTIFY of no subscription
        of ours gets 481, and so does whatever comes after we gave up: that ends it.
        """
        if self._closed or not self._is_ours(request):
            return 481
        self._accepted = True
        over, seconds = subscription_state(request)
        news = told(request)
        if news is not None and news[0] >= 200:
            self._settle(*news, heard=True)
        elif news is not None and not self._settled and news[0] != self._status:
            self._status, self._reason = news
            self._context.emit(ReferProgress(self._handle, *news))
        if over:
            self._closed = self._finished = True
            self._settle(self._status, self._reason, heard=False)
        elif seconds is not None:
            self._expires_at = now + seconds + GRACE
            self._context.core.schedule.track(self)
        return 200

    def _is_ours(self, request: Request) -> bool:
        """By the event's id, the REFER's CSeq. The first of a dialog may go without (§2.4.6), and
        who leaves it away for later ones is understood while there is nothing to mix up."""
        _, _, rest = (request.headers.get("event") or "").partition(";")
        try:
            number = param(parse_params(f";{rest}" if rest else ""), "id")
        except SipParseError:
            return False
        if number is None:
            return self._alone
        return number.strip() == str(self._request.cseq)

    # -- time and the end --------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """When we stop waiting."""
        if self._settled:
            return None
        if self._expires_at is None:
            return self._limit_at
        return min(self._limit_at, self._expires_at)

    def handle_timer(self, now: float) -> None:
        """Give up: how it went will not be known."""
        self._closed = True
        self._settle(self._status, self._reason, heard=False)

    def _settle(self, status: int, reason: str, *, heard: bool) -> None:
        if self._settled:
            return
        self._settled = True
        self._context.core.schedule.track(self)
        self._context.emit(
            ReferEnded(self._handle, status, reason, accepted=self._accepted, heard=heard)
        )
