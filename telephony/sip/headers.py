"""Header fields: the ordered container, and the values an endpoint must understand.

Grammar is RFC 3261 §25.1. Readers raise :class:`SipParseError`; names compare without case and
compact forms (§7.3.3) are expanded on entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.uri import Uri, host_port, is_ip6, parse_host_port, parse_uri

COMPACT: Final = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
_SPELLING: Final = {
    "call-id": "Call-ID",
    "cseq": "CSeq",
    "min-se": "Min-SE",
    "rack": "RAck",
    "rseq": "RSeq",
    "www-authenticate": "WWW-Authenticate",
}

_TOKEN_CHARS = r"[A-Za-z0-9\-.!%*_+`'~]"
TOKEN: Final = re.compile(rf"{_TOKEN_CHARS}+\Z")
_PARAM_NAME: Final = re.compile(rf"\s*({_TOKEN_CHARS}+)\s*")
_PARAM_VALUE: Final = re.compile(
    rf"\s*((?:{_TOKEN_CHARS}|[\[\]:])+|\"(?:[^\"\\\r\n]|\\[^\r\n])*\")\s*", re.DOTALL
)
_QUOTED: Final = re.compile(r'"((?:[^"\\\r\n]|\\[^\r\n])*)"', re.DOTALL)
_SENT_PROTOCOL: Final = re.compile(
    rf"\s*SIP\s*/\s*({_TOKEN_CHARS}+)\s*/\s*({_TOKEN_CHARS}+)\s+", re.IGNORECASE
)
_SENT_BY: Final = re.compile(r"(\[[^\]]*\]|[^\s;:\[\]]+)\s*(?::\s*([^\s;]*))?\s*")
_CALL_ID: Final = re.compile(
    r"[A-Za-z0-9\-.!%*_+`'~()<>:\\\"/\[\]?{}]+(@[A-Za-z0-9\-.!%*_+`'~()<>:\\\"/\[\]?{}]+)?\Z"
)
_CSEQ: Final = re.compile(rf"([0-9]+)\s+({_TOKEN_CHARS}+)\Z")
MAX_CSEQ: Final = 2**31 - 1

Params = tuple[tuple[str, str | None], ...]


class Headers:
    """Header fields in order; one entry per header line, values trimmed and unfolded."""

    __slots__ = ("_lines",)

    def __init__(self, lines: Iterable[tuple[str, str]] = ()) -> None:
        """Copy ``lines`` of (name, value)."""
        self._lines = [(canonical(name), value) for name, value in lines]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """(canonical lower-case name, value) in wire order."""
        return iter(self._lines)

    def __contains__(self, name: str) -> bool:
        """Whether there is such a header."""
        return self.get(name) is not None

    def get(self, name: str) -> str | None:
        """The first value, or None."""
        name = canonical(name)
        return next((value for key, value in self._lines if key == name), None)

    def get_all(self, name: str) -> list[str]:
        """Every value in order, comma-joined ones still joined."""
        name = canonical(name)
        return [value for key, value in self._lines if key == name]

    def add(self, name: str, value: str) -> None:
        """Append a header."""
        self._lines.append((canonical(name), value))

    def prepend(self, name: str, value: str) -> None:
        """Put a header before all others."""
        self._lines.insert(0, (canonical(name), value))

    def set(self, name: str, values: Iterable[str]) -> None:
        """Replace every header of this name by ``values``, in place of the first."""
        name = canonical(name)
        at = next((i for i, (key, _) in enumerate(self._lines) if key == name), len(self._lines))
        kept = [line for line in self._lines if line[0] != name]
        kept[at:at] = [(name, value) for value in values]
        self._lines = kept

    def copy(self) -> Headers:
        """An independent copy."""
        return Headers(self._lines)


def canonical(name: str) -> str:
    """Lower case, compact form expanded."""
    name = name.lower()
    return COMPACT.get(name, name)


def spelling(name: str) -> str:
    """How a canonical name is written on the wire."""
    return _SPELLING.get(name) or "-".join(part.capitalize() for part in name.split("-"))


def split_list(value: str) -> list[str]:
    """Split at commas outside quotes and angle brackets; elements are trimmed.

    Raises on an unterminated quote or bracket and on an empty element.
    """
    parts: list[str] = []
    start = i = 0
    bracket = False
    while i < len(value):
        char = value[i]
        if char == '"' and not bracket:
            quoted = _QUOTED.match(value, i)
            if not quoted:
                raise SipParseError(f"unterminated quoted string: {value[i : i + 60]!r}")
            i = quoted.end()
            continue
        if char == "<":
            bracket = True
        elif char == ">":
            bracket = False
        elif char == "," and not bracket:
            parts.append(value[start:i].strip())
            start = i + 1
        i += 1
    parts.append(value[start:].strip())
    if bracket:
        raise SipParseError(f"unterminated '<': {value[:60]!r}")
    if "" in parts:
        raise SipParseError(f"empty element in list: {value[:60]!r}")
    return parts


def parse_params(text: str) -> Params:
    """Read ``;name[=value]…``; quoted values keep their quotes."""
    params: list[tuple[str, str | None]] = []
    at = 0
    text = text.strip()
    while at < len(text):
        if text[at] != ";":
            raise SipParseError(f"expected ';' in parameters: {text[at : at + 60]!r}")
        name = _PARAM_NAME.match(text, at + 1)
        if not name:
            raise SipParseError(f"bad parameter: {text[at : at + 60]!r}")
        at = name.end()
        value = None
        if at < len(text) and text[at] == "=":
            match = _PARAM_VALUE.match(text, at + 1)
            if not match:
                raise SipParseError(f"bad parameter value: {text[at : at + 60]!r}")
            value, at = match[1], match.end()
        params.append((name[1], value))
    return tuple(params)


def param(params: Params, name: str) -> str | None:
    """The parameter's value; empty where it has none, None where absent."""
    for key, value in params:
        if key.lower() == name:
            return value or ""
    return None


def format_params(params: Params) -> str:
    """Parameters as they go on the wire."""
    return "".join(f";{k}" if v is None else f";{k}={v}" for k, v in params)


@dataclass(frozen=True, slots=True)
class NameAddr:
    """A From, To, Contact, Route or Record-Route value (§20.10)."""

    uri: Uri
    display: str = ""
    """Display name as written, quotes included; empty if none."""

    params: Params = ()

    @property
    def tag(self) -> str | None:
        """The ``tag`` parameter; None where absent or empty."""
        return param(self.params, "tag") or None

    def with_tag(self, tag: str) -> NameAddr:
        """This address with its tag replaced."""
        kept = tuple(p for p in self.params if p[0].lower() != "tag")
        return replace(self, params=(*kept, ("tag", tag)))

    def __str__(self) -> str:
        """The value as it goes on the wire, always with angle brackets."""
        display = f"{self.display} " if self.display else ""
        return f"{display}<{self.uri}>{format_params(self.params)}"


def parse_name_addr(text: str) -> NameAddr:
    """Read ``[display] <uri> params`` or ``uri params``."""
    text = text.strip()
    display, rest = "", text
    if text.startswith('"'):
        quoted = _QUOTED.match(text)
        if not quoted:
            raise SipParseError(f"unterminated quoted string: {text[:60]!r}")
        display, rest = quoted[0], text[quoted.end() :].lstrip()
        if not rest.startswith("<"):
            raise SipParseError(f"expected '<' after display name: {text[:60]!r}")
    elif "<" in text:
        words, _, _ = text.partition("<")
        display, rest = words.strip(), text[len(words) :]
        if not all(TOKEN.match(word) for word in display.split()):
            raise SipParseError(f"display name needs quotes: {display[:60]!r}")
    if rest.startswith("<"):
        inner, closing, after = rest[1:].partition(">")
        if not closing:
            raise SipParseError(f"unterminated '<': {text[:60]!r}")
        return NameAddr(parse_uri(inner), display, parse_params(after))
    uri, semicolon, after = rest.partition(";")
    uri = uri.rstrip()
    if "?" in uri or "," in uri:
        raise SipParseError(f"URI needs angle brackets: {text[:60]!r}")
    return NameAddr(parse_uri(uri), "", parse_params(semicolon + after))


@dataclass(frozen=True, slots=True)
class Via:
    """One Via value (§20.42)."""

    transport: str
    host: str
    """Sent-by host; IPv6 without brackets."""

    port: int | None = None
    params: Params = ()
    version: str = "2.0"

    @property
    def branch(self) -> str | None:
        """The transaction's identifier; None where absent or empty."""
        return param(self.params, "branch") or None

    @property
    def rport(self) -> str | None:
        """RFC 3581: empty when asked for, the port when filled in, None when absent."""
        return param(self.params, "rport")

    def seen_from(self, host: str, port: int) -> Via:
        """This value with ``received`` and ``rport`` as a server adds them.

        RFC 3261 §18.2.1, RFC 3581 §4: ``rport`` is filled only where the client asked for it.
        """
        asked = self.rport is not None
        if host == self.host and not asked:
            return self
        params = [p for p in self.params if p[0].lower() not in ("received", "rport")]
        params.append(("received", host))
        if asked:
            params.append(("rport", str(port)))
        return replace(self, params=tuple(params))

    def __str__(self) -> str:
        """The value as it goes on the wire."""
        sent_by = host_port(self.host, self.port)
        return f"SIP/{self.version}/{self.transport} {sent_by}{format_params(self.params)}"


def parse_via(text: str) -> Via:
    """Read one Via value."""
    start, via = _parse_via_start(text)
    params = parse_params(text[start:])
    received = param(params, "received")
    if received and ":" in received and not is_ip6(received.strip("[]")):
        raise SipParseError(f"bad received address: {received[:60]!r}")
    return replace(via, params=params)


def recover_via(text: str) -> Via | None:
    """The readable start of a broken Via value, without parameters; None if there is none."""
    try:
        return _parse_via_start(text)[1]
    except SipParseError:
        return None


def _parse_via_start(text: str) -> tuple[int, Via]:
    protocol = _SENT_PROTOCOL.match(text)
    sent_by = _SENT_BY.match(text, protocol.end()) if protocol else None
    if not protocol or not sent_by:
        raise SipParseError(f"bad Via: {text[:80]!r}")
    where = sent_by[1] if sent_by[2] is None else f"{sent_by[1]}:{sent_by[2]}"
    host, port = parse_host_port(where)
    return sent_by.end(), Via(protocol[2].upper(), host, port, version=protocol[1])


def parse_cseq(text: str) -> tuple[int, str]:
    """Read CSeq: number (at most 2**31 - 1, §8.1.1.5) and method."""
    match = _CSEQ.match(text)
    if not match:
        raise SipParseError(f"bad CSeq: {text[:60]!r}")
    if len(match[1]) > 20 or int(match[1]) > MAX_CSEQ:
        raise SipParseError(f"CSeq number {match[1][:40]} is over {MAX_CSEQ}")
    return int(match[1]), match[2]


def parse_call_id(text: str) -> str:
    """Read Call-ID: ``word ["@" word]``."""
    if not _CALL_ID.match(text):
        raise SipParseError(f"bad Call-ID: {text[:60]!r}")
    return text


def parse_number(name: str, text: str, highest: int) -> int:
    """Read a decimal header value from 0 to ``highest``."""
    if not (text.isascii() and text.isdigit()):
        raise SipParseError(f"bad {name}: {text[:40]!r}; it must be a number")
    if len(text) > 20 or int(text) > highest:
        raise SipParseError(f"{name} {text[:40]} is over {highest}")
    return int(text)
