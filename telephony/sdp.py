"""Session descriptions: parse and serialize (RFC 8866).

The grammar only: what a description means in an offer or an answer is
:mod:`ringtrue.telephony.offer_answer`. Parsing is bounded in size and lenient where the field
order or an optional line is missing, because telephones are; it is strict in everything an
address, a port or a format is later taken from.

Error tree::

    RingtrueError
    └── SdpError                  bytes that are no session description
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ringtrue.streaming.errors import RingtrueError

MAX_BYTES: Final = 16_384
"""A description longer than this is refused unread."""

MAX_MEDIA: Final = 16
"""More m= sections than this are refused."""

MAX_FORMATS: Final = 64
"""More formats than this in one m= line are refused."""


class SdpError(RingtrueError):
    """The bytes can't be read as a session description; the text names line and value."""


class Direction(StrEnum):
    """Media direction as its sender means it (RFC 8866 §6.7)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        """The side that wrote it sends media."""
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        """The side that wrote it wants media."""
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @staticmethod
    def of(sends: bool, receives: bool) -> Direction:
        """The direction of a side that sends and receives as given."""
        if sends:
            return Direction.SENDRECV if receives else Direction.SENDONLY
        return Direction.RECVONLY if receives else Direction.INACTIVE


_DIRECTIONS: Final = frozenset(direction.value for direction in Direction)


@dataclass(frozen=True, slots=True)
class Origin:
    """The o= line (RFC 8866 §5.2)."""

    username: str
    session_id: int
    version: int
    host: str

    def line(self) -> str:
        """As it stands in a description."""
        family = "IP6" if ":" in self.host else "IP4"
        return f"o={self.username} {self.session_id} {self.version} IN {family} {self.host}"


@dataclass(frozen=True, slots=True)
class Attribute:
    """An a= line: a flag where ``value`` is None."""

    name: str
    value: str | None = None

    def line(self) -> str:
        """As it stands in a description."""
        return f"a={self.name}" if self.value is None else f"a={self.name}:{self.value}"


@dataclass(frozen=True, slots=True)
class RtpMap:
    """One a=rtpmap (RFC 8866 §6.6); encoding names compare without case."""

    name: str
    clock_rate: int
    channels: int = 1


@dataclass(frozen=True, slots=True)
class Media:
    """One m= section."""

    kind: str
    """``audio``, ``video``, …"""

    port: int
    """0 refuses the stream."""

    protocol: str
    formats: tuple[str, ...]
    host: str | None = None
    """Of its own c= line."""

    attributes: tuple[Attribute, ...] = ()

    def lines(self) -> Iterator[str]:
        """Its lines, m= first."""
        yield f"m={self.kind} {self.port} {self.protocol} {' '.join(self.formats)}"
        if self.host is not None:
            yield _connection_line(self.host)
        for attribute in self.attributes:
            yield attribute.line()

    def value(self, name: str) -> str | None:
        """The first attribute called ``name``: its value, ``""`` for a flag, None if absent."""
        return _value(self.attributes, name)

    def rtpmaps(self) -> dict[int, RtpMap]:
        """Payload type → encoding, of the a=rtpmap lines that can be read."""
        maps: dict[int, RtpMap] = {}
        for payload_type, rest in self._per_format("rtpmap"):
            name, *fields = rest.split("/")
            if not name or not fields or not all(_is_number(field) for field in fields):
                continue
            channels = int(fields[1]) if len(fields) > 1 else 1
            maps.setdefault(payload_type, RtpMap(name, int(fields[0]), channels))
        return maps

    def fmtps(self) -> dict[int, str]:
        """Payload type → format parameters."""
        return dict(self._per_format("fmtp"))

    def ssrcs(self) -> frozenset[int]:
        """Sources of the a=ssrc lines (RFC 5576 §4.1) that can be read."""
        values = (
            a.value.partition(" ")[0] for a in self.attributes if a.name == "ssrc" and a.value
        )
        numbers = (int(value) for value in values if _is_number(value))
        return frozenset(number for number in numbers if number < 1 << 32)

    def _per_format(self, name: str) -> Iterator[tuple[int, str]]:
        for attribute in self.attributes:
            if attribute.name != name or not attribute.value:
                continue
            number, _, rest = attribute.value.partition(" ")
            if _is_number(number) and int(number) < 128:
                yield int(number), rest.strip()


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """A whole description."""

    origin: Origin
    host: str | None
    """Of the session-level c= line."""

    media: tuple[Media, ...]
    attributes: tuple[Attribute, ...] = ()
    name: str = "-"

    def serialize(self) -> bytes:
        """The description with CRLF line ends."""
        lines = ["v=0", self.origin.line(), f"s={self.name}"]
        if self.host is not None:
            lines.append(_connection_line(self.host))
        lines.append("t=0 0")
        lines.extend(attribute.line() for attribute in self.attributes)
        for media in self.media:
            lines.extend(media.lines())
        return "".join(f"{line}\r\n" for line in lines).encode()

    def media_host(self, media: Media) -> str | None:
        """Where ``media`` is to be sent: its own c= line or the session's."""
        return media.host if media.host is not None else self.host

    def direction(self, media: Media) -> Direction:
        """The direction of ``media``: its own, else the session's, else sendrecv."""
        for attributes in (media.attributes, self.attributes):
            for attribute in attributes:
                if attribute.value is None and attribute.name in _DIRECTIONS:
                    return Direction(attribute.name)
        return Direction.SENDRECV


def parse(data: bytes) -> SessionDescription:
    """Read a description.

    Raises :class:`SdpError`, and nothing else, on anything that is none.
    """
    if len(data) > MAX_BYTES:
        raise SdpError(f"description of {len(data)} bytes; at most {MAX_BYTES} are read")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise SdpError(f"not UTF-8 at byte {error.start}") from None
    if "\0" in text:
        raise SdpError("NUL in description")
    return _Parser().run(text)


class _Parser:
    """What has been read so far."""

    def __init__(self) -> None:
        self._origin: Origin | None = None
        self._name = "-"
        self._host: str | None = None
        self._attributes: list[Attribute] = []
        self._media: list[tuple[Media, list[Attribute]]] = []
        self._media_hosts: list[str | None] = []

    def run(self, text: str) -> SessionDescription:
        lines = [line.removesuffix("\r") for line in text.split("\n")]
        while lines and not lines[-1]:
            lines.pop()
        if not lines or lines[0] != "v=0":
            raise SdpError(f"must begin with v=0, not {_shown(lines[0] if lines else '')}")
        for number, line in enumerate(lines[1:], 2):
            if len(line) < 2 or line[1] != "=" or not line[0].isascii():
                raise SdpError(f"line {number} is no type=value: {_shown(line)}")
            try:
                self._line(line[0], line[2:])
            except SdpError as error:
                raise SdpError(f"line {number}: {error}") from None
        if self._origin is None:
            raise SdpError("no o= line")
        media = tuple(
            Media(
                kind=media.kind,
                port=media.port,
                protocol=media.protocol,
                formats=media.formats,
                host=host,
                attributes=tuple(attributes),
            )
            for (media, attributes), host in zip(self._media, self._media_hosts, strict=True)
        )
        return SessionDescription(
            origin=self._origin,
            host=self._host,
            media=media,
            attributes=tuple(self._attributes),
            name=self._name,
        )

    def _line(self, kind: str, value: str) -> None:
        if kind == "o":
            self._origin = _origin(value)
        elif kind == "s" and not self._media:
            self._name = value or "-"
        elif kind == "c":
            host = _connection(value)
            if not self._media:
                self._host = host
            elif self._media_hosts[-1] is None:
                self._media_hosts[-1] = host
        elif kind == "m":
            if len(self._media) == MAX_MEDIA:
                raise SdpError(f"more than {MAX_MEDIA} m= sections")
            self._media.append((_media(value), []))
            self._media_hosts.append(None)
        elif kind == "a":
            name, colon, rest = value.partition(":")
            attribute = Attribute(name.strip(), rest.strip() if colon else None)
            (self._media[-1][1] if self._media else self._attributes).append(attribute)
        # every other type (t, b, k, i, u, e, p, r, z) says nothing we act on


def _origin(value: str) -> Origin:
    fields = value.split()
    if len(fields) != 6:
        raise SdpError(f"o= needs six fields: {_shown(value)}")
    if not _is_number(fields[1]) or not _is_number(fields[2]):
        raise SdpError(f"o= session id and version must be digits: {_shown(value)}")
    return Origin(fields[0], int(fields[1]), int(fields[2]), fields[5])


def _connection(value: str) -> str:
    """The host of a c= line; a multicast TTL or address count is dropped (RFC 8866 §5.7)."""
    fields = value.split()
    if len(fields) != 3 or fields[0] != "IN" or fields[1] not in ("IP4", "IP6"):
        raise SdpError(f"c= must be IN IP4|IP6 address: {_shown(value)}")
    host = fields[2].partition("/")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # a host name is legal here; whether it can be used is for the negotiation to say
        if not host or not all(char.isalnum() or char in "-._" for char in host):
            raise SdpError(f"c= has no address: {_shown(value)}") from None
        return host
    if (address.version == 6) != (fields[1] == "IP6"):
        raise SdpError(f"c= says {fields[1]} and gives {_shown(host)}") from None
    return host


def _media(value: str) -> Media:
    fields = value.split()
    if len(fields) < 4:
        raise SdpError(f"m= needs media, port, protocol and formats: {_shown(value)}")
    kind, port, protocol, *formats = fields
    number, slash, count = port.partition("/")
    if not _is_number(number) or int(number) > 65535 or (slash and not _is_number(count)):
        raise SdpError(f"m= port must be 0-65535: {_shown(port)}")
    if len(formats) > MAX_FORMATS:
        raise SdpError(f"{len(formats)} formats in one m= line; at most {MAX_FORMATS}")
    if protocol.startswith("RTP/"):
        for item in formats:
            if not _is_number(item) or int(item) > 127:
                raise SdpError(f"m= RTP format must be 0-127: {_shown(item)}")
    return Media(kind, int(number), protocol, tuple(formats))


def _connection_line(host: str) -> str:
    return f"c=IN {'IP6' if ':' in host else 'IP4'} {host}"


def _value(attributes: tuple[Attribute, ...], name: str) -> str | None:
    for attribute in attributes:
        if attribute.name == name:
            return attribute.value or ""
    return None


def _is_number(text: str) -> bool:
    """Plain ASCII digits, short enough for any number a description holds."""
    return text.isascii() and text.isdigit() and len(text) <= 20


def _shown(text: str) -> str:
    return repr(text[:60])
