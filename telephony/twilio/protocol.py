"""The Media Streams wire protocol: JSON text frames in, typed events out, and back.

Sans-IO. Source: Twilio, "Media Streams - WebSocket Messages"
(https://www.twilio.com/docs/voice/media-streams/websocket-messages). Numbers that Twilio writes
as strings (``sequenceNumber``, ``chunk``, ``timestamp``) are accepted as either.

Order on the wire: ``connected``, ``start``, then ``media``, ``mark`` and ``dtmf`` in any order,
``stop`` last. Anything else is a :class:`TwilioProtocolError`, after which the adapter closes
the websocket with 1008 (RFC 6455 §7.4.1).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, TypeAlias

from ringtrue.telephony.media_streams.wire import StreamError

MAX_FRAME: Final = 64 * 1024
"""Characters in one websocket message; a 20 ms ``media`` message has about 350."""

MAX_AUDIO: Final = 8000
"""Bytes of µ-law in one ``media`` message: one second."""

MAX_PARAMETERS: Final = 32
MAX_NAME: Final = 256
DIGITS: Final = frozenset("0123456789*#ABCD")

_SID: Final = re.compile(r"[A-Za-z]{2}[0-9A-Za-z]{1,62}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")


class TwilioProtocolError(StreamError):
    """A websocket message that Media Streams does not define. Says which field and why."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The websocket is up; nothing is known of the call yet."""

    protocol: str
    version: str


@dataclass(frozen=True, slots=True)
class Started:
    """The stream of one call begins."""

    stream_sid: str
    call_sid: str
    account_sid: str
    tracks: tuple[str, ...]
    parameters: Mapping[str, str] = field(repr=False)
    """The ``<Parameter>`` elements of our TwiML; the token is one of them, so never log it."""


@dataclass(frozen=True, slots=True)
class Audio:
    """Caller audio."""

    chunk: int
    """Running number of the track's messages, from 1."""

    timestamp: int
    """Milliseconds since the stream began."""

    payload: bytes = field(repr=False)
    """G.711 µ-law, 8 kHz; 160 bytes are 20 ms."""


@dataclass(frozen=True, slots=True)
class Played:
    """Everything we sent before this mark was played, or was dropped by ``clear``."""

    name: str


@dataclass(frozen=True, slots=True)
class Digit:
    """The caller pressed a key."""

    digit: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The stream or the call ended."""

    call_sid: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message of a kind added to the protocol later; its name, for the counters."""

    event: str


Event: TypeAlias = Connected | Started | Audio | Played | Digit | Stopped | Ignored


class _Phase(Enum):
    NEW = auto()
    CONNECTED = auto()
    STARTED = auto()
    STOPPED = auto()


class MediaStreamProtocol:
    """One websocket connection's state."""

    def __init__(self) -> None:
        """Wait for ``connected``."""
        self._phase = _Phase.NEW
        self._stream_sid = ""
        self._sequence: int | None = None
        self.out_of_order = 0
        """Messages whose ``sequenceNumber`` was not the one after the last."""

    @property
    def stream_sid(self) -> str:
        """The stream; empty before ``start``."""
        return self._stream_sid

    def receive(self, text: str) -> Event:
        """Parse one text frame.

        Raises :class:`TwilioProtocolError` for anything malformed or out of place.
        """
        message = _load(text)
        event = _text(message, "event", "message")
        if self._phase is _Phase.STOPPED:
            raise TwilioProtocolError(f"event {event!r:.40} after stop")
        if event == "connected":
            return self._connected(message)
        if self._phase is _Phase.NEW:
            raise TwilioProtocolError(f"event {event!r:.40} before connected")
        if event == "start":
            return self._start(message)
        if self._phase is _Phase.CONNECTED:
            raise TwilioProtocolError(f"event {event!r:.40} before start")
        if message.get("streamSid", self._stream_sid) != self._stream_sid:
            raise TwilioProtocolError("streamSid is not this stream's")
        if "sequenceNumber" in message:
            self._count(_number(message, "sequenceNumber", "message"))
        match event:
            case "media":
                return _media(_object(message, "media", "message"))
            case "mark":
                return Played(_text(_object(message, "mark", "message"), "name", "mark"))
            case "dtmf":
                return _dtmf(_object(message, "dtmf", "message"))
            case "stop":
                self._phase = _Phase.STOPPED
                stop = message.get("stop")
                sid = stop.get("callSid") if isinstance(stop, dict) else None
                return Stopped(sid if isinstance(sid, str) else "")
        return Ignored(event)

    def media(self, ulaw: bytes) -> str:
        """A ``media`` message with µ-law audio. Raises ``ValueError`` before ``start``."""
        payload = base64.b64encode(ulaw).decode("ascii")
        return f'{{"event":"media","streamSid":"{self._sid()}","media":{{"payload":"{payload}"}}}}'

    def mark(self, name: str) -> str:
        """A ``mark`` message: Twilio returns it once the audio before it was played."""
        message = {"event": "mark", "streamSid": self._sid(), "mark": {"name": name}}
        return json.dumps(message, separators=(",", ":"))

    def clear(self) -> str:
        """A ``clear`` message: Twilio drops its buffer and returns all marks waiting in it."""
        return f'{{"event":"clear","streamSid":"{self._sid()}"}}'

    def _sid(self) -> str:
        if not self._stream_sid:
            raise ValueError("nothing can be sent before start")
        return self._stream_sid

    def _connected(self, message: dict[str, Any]) -> Connected:
        if self._phase is not _Phase.NEW:
            raise TwilioProtocolError("connected twice")
        protocol = _text(message, "protocol", "connected")
        version = _text(message, "version", "connected")
        if protocol != "Call" or version.partition(".")[0] != "1":
            raise TwilioProtocolError(
                f"protocol {protocol!r:.40} version {version!r:.40}; allowed: 'Call' version 1"
            )
        self._phase = _Phase.CONNECTED
        return Connected(protocol, version)

    def _start(self, message: dict[str, Any]) -> Started:
        if self._phase is not _Phase.CONNECTED:
            raise TwilioProtocolError("start twice")
        start = _object(message, "start", "message")
        _format(_object(start, "mediaFormat", "start"))
        started = Started(
            stream_sid=_sid_of(start, "streamSid"),
            call_sid=_sid_of(start, "callSid"),
            account_sid=_sid_of(start, "accountSid"),
            tracks=_tracks(start.get("tracks")),
            parameters=_parameters(start.get("customParameters", {})),
        )
        if message.get("streamSid", started.stream_sid) != started.stream_sid:
            raise TwilioProtocolError("streamSid differs between message and start")
        if "sequenceNumber" in message:
            self._count(_number(message, "sequenceNumber", "message"))
        self._stream_sid = started.stream_sid
        self._phase = _Phase.STARTED
        return started

    def _count(self, sequence: int) -> None:
        if self._sequence is not None and sequence != self._sequence + 1:
            self.out_of_order += 1
        self._sequence = sequence


def _load(text: str) -> dict[str, Any]:
    if len(text) > MAX_FRAME:
        raise TwilioProtocolError(f"message of {len(text)} characters; allowed: {MAX_FRAME}")
    try:
        message = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise TwilioProtocolError("message is not JSON") from error
    if not isinstance(message, dict):
        raise TwilioProtocolError(f"message is a JSON {type(message).__name__}; allowed: object")
    return message


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _object(parent: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = parent.get(key)
    if not isinstance(value, dict):
        raise TwilioProtocolError(f"{where}.{key} is {_kind(value)}; allowed: object")
    return value


def _text(parent: dict[str, Any], key: str, where: str) -> str:
    value = parent.get(key)
    if not isinstance(value, str):
        raise TwilioProtocolError(f"{where}.{key} is {_kind(value)}; allowed: string")
    if len(value) > MAX_NAME:
        raise TwilioProtocolError(f"{where}.{key} has {len(value)} characters; allowed: {MAX_NAME}")
    return value


def _number(parent: dict[str, Any], key: str, where: str) -> int:
    value = parent.get(key)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**18:
        return value
    raise TwilioProtocolError(f"{where}.{key} is {_kind(value)}; allowed: a number from 0")


def _sid_of(start: dict[str, Any], key: str) -> str:
    value = _text(start, key, "start")
    if not _SID.fullmatch(value):
        raise TwilioProtocolError(f"start.{key} is not a Twilio SID")
    return value


def _format(media_format: dict[str, Any]) -> None:
    encoding = media_format.get("encoding")
    rate = media_format.get("sampleRate")
    channels = media_format.get("channels")
    if encoding != "audio/x-mulaw" or str(rate) != "8000" or str(channels) != "1":
        raise TwilioProtocolError(
            f"mediaFormat {str(encoding)[:40]!r} {str(rate)[:10]} Hz {str(channels)[:10]} "
            "channel(s); allowed: 'audio/x-mulaw' 8000 Hz 1 channel"
        )


def _tracks(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(track, str) for track in value):
        raise TwilioProtocolError(f"start.tracks is {_kind(value)}; allowed: list of strings")
    if "inbound" not in value:
        raise TwilioProtocolError("start.tracks lacks 'inbound': nothing would be heard")
    return tuple(track[:MAX_NAME] for track in value[:4])


def _parameters(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_PARAMETERS:
        raise TwilioProtocolError(
            f"start.customParameters is {_kind(value)}; allowed: object of up to "
            f"{MAX_PARAMETERS} strings"
        )
    if not all(isinstance(item, str) and len(item) <= 4096 for item in value.values()):
        raise TwilioProtocolError("start.customParameters: a value is not a short string")
    return value


def _media(media: dict[str, Any]) -> Event:
    track = media.get("track", "inbound")
    if track != "inbound":
        return Ignored("media.outbound")
    text = media.get("payload")
    if not isinstance(text, str):
        raise TwilioProtocolError(f"media.payload is {_kind(text)}; allowed: base64 string")
    try:
        payload = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise TwilioProtocolError("media.payload is not base64") from error
    if not 0 < len(payload) <= MAX_AUDIO:
        raise TwilioProtocolError(
            f"media.payload has {len(payload)} bytes; allowed: 1 to {MAX_AUDIO}"
        )
    return Audio(_number(media, "chunk", "media"), _number(media, "timestamp", "media"), payload)


def _dtmf(dtmf: dict[str, Any]) -> Digit:
    digit = _text(dtmf, "digit", "dtmf").upper()
    if digit not in DIGITS:
        raise TwilioProtocolError("dtmf.digit is none; allowed: one of 0-9*#A-D")
    return Digit(digit)


def _kind(value: object) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"
