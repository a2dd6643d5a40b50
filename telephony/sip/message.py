"""SIP requests and responses: reading, checking, writing (RFC 3261 §7, §20, §25).

A message that leaves :func:`parse_message` has passed every check an endpoint relies on, so its
typed properties don't raise.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Protocol, TypeVar

from ringtrue.telephony.sip.errors import Fragment, SipParseError
from ringtrue.telephony.sip.headers import (
    TOKEN,
    Headers,
    NameAddr,
    Via,
    canonical,
    parse_call_id,
    parse_cseq,
    parse_name_addr,
    parse_number,
    parse_via,
    recover_via,
    spelling,
    split_list,
)
from ringtrue.telephony.sip.uri import OtherUri, SipUri, Uri, parse_uri

MAX_HEADER_BYTES: Final = 16 * 1024
MAX_HEADER_LINES: Final = 256
MAX_BODY_BYTES: Final = 64 * 1024

_VERSION: Final = re.compile(r"SIP/[0-9]+\.[0-9]+\Z", re.IGNORECASE)
_FOLD: Final = re.compile(r"\r\n[ \t]+")
_STATUS: Final = re.compile(r"SIP/2\.0 ([0-9]{3})(?: (.*))?\Z", re.IGNORECASE | re.DOTALL)
_SINGLE: Final = ("from", "to", "call-id", "cseq", "max-forwards", "content-length", "content-type")
_ANSWERED_RAW: Final = ("from", "to", "call-id", "cseq")

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Message(ABC):
    """What requests and responses share."""

    headers: Headers = field(default_factory=Headers)
    body: bytes = b""

    @property
    def via(self) -> Via:
        """The topmost Via."""
        return _top_via(self.headers.get("via") or "")

    @property
    def from_(self) -> NameAddr:
        """From."""
        return parse_name_addr(self.headers.get("from") or "")

    @property
    def to(self) -> NameAddr:
        """To."""
        return parse_name_addr(self.headers.get("to") or "")

    @property
    def call_id(self) -> str:
        """Call-ID."""
        return self.headers.get("call-id") or ""

    @property
    def cseq(self) -> int:
        """CSeq number."""
        return parse_cseq(self.headers.get("cseq") or "")[0]

    @property
    def cseq_method(self) -> str:
        """CSeq method."""
        return parse_cseq(self.headers.get("cseq") or "")[1]

    @property
    def contact(self) -> NameAddr | None:
        """The only Contact; None where there is none, several, or ``*``."""
        values = self._list("contact")
        if len(values) != 1 or values[0] == "*":
            return None
        return parse_name_addr(values[0])

    @property
    def record_route(self) -> tuple[NameAddr, ...]:
        """Record-Route values in order."""
        return tuple(parse_name_addr(v) for v in self._list("record-route"))

    @property
    def content_type(self) -> str | None:
        """Media type in lower case without parameters."""
        value = self.headers.get("content-type")
        return None if value is None else value.partition(";")[0].replace(" ", "").lower()

    @property
    def retry_after(self) -> int | None:
        """Retry-After in seconds; None where absent or unreadable."""
        match = re.match(r"[0-9]{1,9}(?![0-9])", self.headers.get("retry-after") or "")
        return int(match[0]) if match else None

    def tokens(self, name: str) -> list[str]:
        """Elements of a list header without their parameters."""
        return [value.partition(";")[0].strip() for value in self._list(name)]

    def _list(self, name: str) -> list[str]:
        return [part for value in self.headers.get_all(name) if value for part in split_list(value)]

    @abstractmethod
    def start_line(self) -> str:
        """The first line, without line end."""

    def encode(self) -> bytes:
        """The message as bytes; Content-Length is always written, and last."""
        lines = [self.start_line()]
        lines += [f"{spelling(k)}: {v}" for k, v in self.headers if k != "content-length"]
        lines += [f"Content-Length: {len(self.body)}", "", ""]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body


class Numbered(Protocol):
    """What a request inside a dialog takes its CSeq from, should it have to be sent again."""

    local_seq: int
    credentials: tuple[tuple[str, str], ...]
    """Of the last INVITE, for its ACK (§22.1)."""


@dataclass(slots=True, kw_only=True)
class Request(Message):
    """A request."""

    method: str
    uri: Uri
    dialog: Numbered | None = field(default=None, repr=False, compare=False)
    """Where its number comes from; None outside a dialog and on what was received."""

    def start_line(self) -> str:
        """Request-Line."""
        return f"{self.method} {self.uri} SIP/2.0"

    @property
    def max_forwards(self) -> int:
        """Max-Forwards; 70 where absent."""
        return int(self.headers.get("max-forwards") or 70)


@dataclass(slots=True, kw_only=True)
class Response(Message):
    """A response."""

    status: int
    reason: str = ""

    def start_line(self) -> str:
        """Status-Line."""
        return f"SIP/2.0 {self.status} {self.reason}"

    @property
    def provisional(self) -> bool:
        """1xx."""
        return self.status < 200

    @property
    def success(self) -> bool:
        """2xx."""
        return 200 <= self.status < 300


@lru_cache(maxsize=256)
def _top_via(value: str) -> Via:
    return parse_via(split_list(value)[0])


def split_head(data: bytes) -> tuple[bytes, bytes] | None:
    """Head (start line and headers) and what follows the empty line; None without one."""
    head, separator, body = data.partition(b"\r\n\r\n")
    return (head, body) if separator else None


def read_lines(head: bytes) -> tuple[str, list[tuple[str, str]]]:
    """Start line and unfolded (canonical name, value) lines. Raises :class:`SipParseError`."""
    text = _FOLD.sub(" ", head.decode("utf-8", "surrogateescape"))
    start, *rest = text.split("\r\n")
    if len(rest) > MAX_HEADER_LINES:
        raise SipParseError(f"{len(rest)} header lines; {MAX_HEADER_LINES} are allowed")
    lines = []
    for line in rest:
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t")
        if not colon or not TOKEN.match(name):
            raise SipParseError(f"not a header line: {line[:60]!r}")
        if "\r" in value or "\n" in value:
            raise SipParseError(f"bare line end in header {name[:40]}")
        lines.append((canonical(name), value.strip(" \t")))
    return start, lines


def parse_message(data: bytes, *, stream: bool = False) -> Request | Response:
    """Read one message: a datagram, or exactly one framed message of a stream.

    A datagram's octets past Content-Length are ignored (§18.3); on a stream Content-Length
    must be there. Raises :class:`SipParseError` with the status a request deserves and the
    :class:`Fragment` to answer it with.
    """
    parts = split_head(data.lstrip(b"\r\n"))
    if parts is None:
        raise SipParseError("no empty line after the headers")
    head, body = parts
    if len(head) > MAX_HEADER_BYTES:
        raise SipParseError(f"headers of {len(head)} bytes; {MAX_HEADER_BYTES} are allowed")
    first = head.split(b"\r\n", 1)[0].decode("utf-8", "surrogateescape")
    if first[:4].upper() == "SIP/":
        return _parse_response(head, body, stream)
    fragment = _fragment(first, head)
    try:
        return _parse_request(head, body, stream)
    except SipParseError as error:
        raise SipParseError(error.reason, status=error.status, fragment=fragment) from None


def _parse_request(head: bytes, body: bytes, stream: bool) -> Request:
    start, lines = read_lines(head)
    words = start.split(" ")
    if len(words) != 3 or not TOKEN.match(words[0]) or not _VERSION.match(words[2]):
        raise SipParseError(f"bad request line: {start[:80]!r}")
    method, target, version = words
    if version.upper() != "SIP/2.0":
        raise SipParseError(f"version {version[:20]} is not SIP/2.0", status=505)
    headers = Headers(lines)
    _check(headers)
    cseq_method = parse_cseq(headers.get("cseq") or "")[1]
    if cseq_method != method:
        raise SipParseError(f"CSeq is for {cseq_method[:40]!r}, the request is {method[:40]!r}")
    uri = parse_uri(target)
    if isinstance(uri, SipUri) and uri.headers is not None:
        raise SipParseError("Request-URI carries headers")
    parse_number("Max-Forwards", headers.get("max-forwards") or "0", 255)
    return Request(headers=headers, body=_body(headers, body, stream), method=method, uri=uri)


def _parse_response(head: bytes, body: bytes, stream: bool) -> Response:
    start, lines = read_lines(head)
    match = _STATUS.match(start)
    if not match or not 100 <= int(match[1]) <= 699:
        raise SipParseError(f"bad status line: {start[:80]!r}")
    if "\r" in start or "\n" in start:
        raise SipParseError("bare line end in the status line")
    headers = Headers(lines)
    _check(headers)
    return Response(
        headers=headers,
        body=_body(headers, body, stream),
        status=int(match[1]),
        reason=match[2] or "",
    )


def _check(headers: Headers) -> None:
    """Everything :class:`Message`'s properties rely on."""
    for name in _SINGLE:
        if len(headers.get_all(name)) > 1:
            raise SipParseError(f"more than one {spelling(name)}")
    for name in ("via", "from", "to", "call-id", "cseq"):
        if not headers.get(name):
            raise SipParseError(f"no {spelling(name)}")
    for name, read in _READERS.items():
        for value in headers.get_all(name):
            read(value)


def _each(read: Callable[[str], T]) -> Callable[[str], None]:
    def check(value: str) -> None:
        for part in split_list(value):
            read(part)

    return check


def _addresses(value: str) -> None:
    if value != "*":
        _each(parse_name_addr)(value)


def _optional_list(value: str) -> None:
    if value:
        split_list(value)


def _address(value: str) -> None:
    """One address; a comma between addresses is an error here, not a list."""
    parse_name_addr(value)


_READERS: Final[dict[str, Callable[[str], object]]] = {
    "via": _each(parse_via),
    "from": _address,
    "to": _address,
    "call-id": parse_call_id,
    "cseq": parse_cseq,
    "contact": _addresses,
    "route": _each(parse_name_addr),
    "record-route": _each(parse_name_addr),
    "accept": _optional_list,
    "require": _optional_list,
    "supported": _optional_list,
    "content-length": lambda value: parse_number("Content-Length", value, 10**9),
}


def _body(headers: Headers, body: bytes, stream: bool) -> bytes:
    declared = headers.get("content-length")
    if declared is None:
        if stream:
            raise SipParseError("no Content-Length on a stream")
        length = len(body)
    else:
        length = int(declared)
    if length > MAX_BODY_BYTES and (stream or length <= len(body)):
        raise SipParseError(f"body of {length} bytes; {MAX_BODY_BYTES} are allowed", status=413)
    if length > len(body):
        raise SipParseError(f"Content-Length is {length}, the body has {len(body)} bytes")
    return body[:length]


def _fragment(start: str, head: bytes) -> Fragment | None:
    """What can be used to answer a request, whatever else is wrong with it."""
    method = start.lstrip(" ").partition(" ")[0]
    if not TOKEN.match(method) or method == "ACK" or " " not in start:
        return None
    raw: dict[str, list[str]] = {}
    for line in _FOLD.sub(" ", head.decode("utf-8", "surrogateescape")).split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon and "\n" not in value and "\r" not in value:
            raw.setdefault(canonical(name.rstrip(" \t")), []).append(value.strip(" \t"))
    vias: list[str] = []
    for value in raw.get("via", ())[:MAX_HEADER_LINES]:
        try:
            parts = split_list(value)
            for part in parts:
                parse_via(part)
        except SipParseError:
            start_only = None if vias else recover_via(value)
            if start_only is not None:
                vias.append(str(start_only))
            break
        vias += parts
    values = {name: raw[name][0] for name in _ANSWERED_RAW if raw.get(name)}
    return Fragment(method, tuple(vias), values)


def parse_target(text: str) -> SipUri:
    """Read a URI we are asked to call. Raises :class:`SipParseError` naming what is wrong."""
    uri = parse_uri(text)
    if isinstance(uri, OtherUri):
        raise SipParseError(f"can't call a {uri.scheme!r} URI; only 'sip' and 'sips' are supported")
    if uri.transport not in (None, "udp", "tcp", "tls"):
        raise SipParseError(f"can't call over {uri.transport!r}; udp, tcp and tls are there")
    if uri.scheme == "sips" and uri.transport == "udp":
        raise SipParseError("can't call a 'sips' URI over 'udp'; it asks for TLS")
    return uri
