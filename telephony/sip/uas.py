"""What a user agent server checks before it looks at a request's meaning (RFC 3261 §8.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ringtrue.telephony.sip.context import ALLOW, EXTENSIONS, SDP
from ringtrue.telephony.sip.message import Request
from ringtrue.telephony.sip.session_timer import FLOOR, too_short
from ringtrue.telephony.sip.uri import SipUri

SUPPORTED: Final[frozenset[str]] = frozenset(EXTENSIONS.split(", "))
"""Option tags we understand in Require (§8.2.2.3)."""

_ALLOWED: Final = frozenset(ALLOW.split(", "))
_KNOWN: Final = frozenset(("MESSAGE", "PUBLISH", "REGISTER", "SUBSCRIBE"))
_TAKES_SDP: Final = frozenset(("*/*", "application/*", SDP))


@dataclass(frozen=True, slots=True)
class Refusal:
    """The final response a request gets unheard."""

    status: int
    extra: tuple[tuple[str, str], ...] = ()


def examine(request: Request, *, least: int = FLOOR) -> Refusal | None:
    """Why the request can't be served, in the order of §8.2; None where it can.

    ``least`` is the shortest session interval we take, in seconds (RFC 4028 §9).

    A body of another type than SDP that is marked ``handling=optional`` (§20.11) is dropped.
    """
    if request.method not in _ALLOWED:
        return Refusal(405 if request.method in _KNOWN else 501, (("allow", ALLOW),))
    if not isinstance(request.uri, SipUri):
        return Refusal(416)
    if request.uri.scheme == "sips" and request.via.transport != "TLS":
        return Refusal(416)
    unknown = [tag for tag in request.tokens("require") if tag.lower() not in SUPPORTED]
    if unknown:
        return Refusal(420, (("unsupported", ", ".join(unknown)),))
    if request.method not in ("INVITE", "UPDATE", "PRACK"):
        return None
    refusal = _examine_content(request)
    if refusal is None and request.method != "PRACK":
        short = too_short(request, least)
        refusal = None if short is None else Refusal(422, short)
    return refusal


def _examine_content(request: Request) -> Refusal | None:
    accepted = request.headers.get("accept")
    if accepted is not None and not _TAKES_SDP.intersection(
        kind.lower().replace(" ", "") for kind in request.tokens("accept")
    ):
        return Refusal(406, (("warning", '399 ringtrue "only application/sdp is offered"'),))
    if not request.body:
        return None
    disposition = (request.headers.get("content-disposition") or "").lower().replace(" ", "")
    encoding = (request.headers.get("content-encoding") or "identity").lower()
    kind = request.content_type
    if kind == SDP and encoding == "identity" and disposition.partition(";")[0] in ("", "session"):
        return None
    if "handling=optional" in disposition:
        request.body = b""
        return None
    if kind is None:
        return Refusal(400, (("warning", '399 ringtrue "body without Content-Type"'),))
    return Refusal(415, (("accept", SDP), ("accept-encoding", "identity")))
