"""Making responses (RFC 3261 §8.2.6)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ringtrue.telephony.sip.errors import Fragment
from ringtrue.telephony.sip.headers import Headers, parse_via, split_list
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.transport import Hop

REASONS: Final = {
    100: "Trying",
    180: "Ringing",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    422: "Session Interval Too Small",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    603: "Decline",
}


def make_response(
    request: Request,
    status: int,
    reason: str | None = None,
    *,
    to_tag: str | None = None,
    extra: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> Response:
    """A response that copies what must be copied.

    ``to_tag`` is added where the request's To has none and ``status`` is not 100. Record-Route
    is copied into responses that can make a dialog (§12.1.1).
    """
    headers = Headers()
    for value in request.headers.get_all("via"):
        headers.add("via", value)
    if 100 < status < 300:
        for value in request.headers.get_all("record-route"):
            headers.add("record-route", value)
    headers.add("from", request.headers.get("from") or "")
    to = request.headers.get("to") or ""
    if to_tag and status != 100 and request.to.tag is None:
        to += f";tag={to_tag}"
    headers.add("to", to)
    headers.add("call-id", request.call_id)
    headers.add("cseq", request.headers.get("cseq") or "")
    if status == 100 and (stamp := request.headers.get("timestamp")):
        headers.add("timestamp", stamp)
    for name, value in extra:
        headers.add(name, value)
    return Response(
        status=status, reason=reason or REASONS.get(status, "Unknown"), headers=headers, body=body
    )


def make_fragment_response(
    fragment: Fragment, status: int, source: Hop, *, to_tag: str, detail: str
) -> Response | None:
    """The response to a request that can't be parsed; None where there is no Via to answer to."""
    if not fragment.vias:
        return None
    headers = Headers()
    top = parse_via(fragment.vias[0]).seen_from(source.host, source.port)
    for value in (str(top), *fragment.vias[1:]):
        headers.add("via", value)
    for name in ("from", "to", "call-id", "cseq"):
        raw = fragment.headers.get(name)
        if raw is None:
            continue
        if name == "to" and "tag=" not in raw.lower():
            raw += f";tag={to_tag}"
        headers.add(name, raw)
    headers.add("warning", f'399 ringtrue "{printable(detail)}"')
    return Response(status=status, reason=REASONS[status], headers=headers)


def printable(text: str) -> str:
    """``text`` as it can stand in a quoted string and in a log, shortened."""
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in text[:120])


def mark_source(request: Request, source: Hop) -> None:
    """Put ``received`` and ``rport`` into the top Via (§18.2.1, RFC 3581 §4)."""
    marked = request.via.seen_from(source.host, source.port)
    if marked == request.via:
        return
    values = [v for line in request.headers.get_all("via") for v in split_list(line)]
    request.headers.set("via", [str(marked), *values[1:]])
