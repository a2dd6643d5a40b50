"""How each carrier's stream begins, marks and ends; its serializer does the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipecat.serializers.exotel import ExotelFrameSerializer
from pipecat.serializers.genesys import GenesysAudioHookSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.vonage import VonageFrameSerializer

from ringtrue.streaming.ports import frame_bytes
from ringtrue.telephony.carriers.serialized import (
    SerializedWire,
    load,
    number,
    part,
    played,
    text,
)
from ringtrue.telephony.media_streams.wire import (
    Ignored,
    Message,
    Reply,
    Stopped,
    StreamError,
    StreamEvent,
)

Receive = Callable[[], Awaitable[Message]]
"""The websocket's next message."""

PROBE: Final = "00000000-0000-0000-0000-000000000000"
"""The conversation of an AudioHook session that only tries the connection."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A stream that has begun."""

    wire: SerializedWire
    stream: str
    """The carrier's id of it."""

    remote: str = ""
    local: str = ""
    replies: tuple[Message, ...] = ()
    """To be said first."""

    probe: bool = False
    """Nobody calls: the carrier tries whether we answer."""


async def _first(receive: Receive, event: str) -> Mapping[str, Any]:
    """The ``start`` of a stream, behind ``connected`` where the carrier sends that."""
    for _ in range(2):
        message = await receive()
        if isinstance(message, bytes):
            raise StreamError("binary message before the start; allowed: text")
        content = load(message)
        if content.get("event") == event:
            return content
        if content.get("event") != "connected":
            break
    raise StreamError(f"the stream does not begin with {event!r}")


class CountedWire(SerializedWire):
    """One whose messages are told apart by ``event``, and whose audio is numbered."""

    confirms = True

    def control(self, message: Mapping[str, Any]) -> Sequence[StreamEvent] | None:
        """Marks, the end, errors; the caller's audio and keys are the serializer's."""
        match message.get("event"):
            case "media":
                media = part(message, "media")
                return None if media.get("track", "inbound") == "inbound" else [Ignored("outbound")]
            case "dtmf":
                part(message, "dtmf")
                return None
            case "stop":
                return [Stopped()]
        return self.returned(message)

    def returned(self, message: Mapping[str, Any]) -> Sequence[StreamEvent]:
        """A mark that came back, where ``message`` is one."""
        if message.get("event") == "mark":
            return played(part(message, "mark"))
        return [Ignored(str(message.get("event"))[:40])]

    def numbers(self, message: Mapping[str, Any]) -> tuple[int | None, int | None]:
        """Running number and timestamp."""
        media = part(message, "media")
        return number(media, "chunk"), number(media, "timestamp")


# -- Telnyx ------------------------------------------------------------------------------------


class TelnyxWire(CountedWire):
    """Source: https://developers.telnyx.com/api-reference/websockets/stream-call-media-over-websocket."""

    def marked(self, name: str) -> Mapping[str, Any]:
        """Comes back when played, or cleared."""
        return {"event": "mark", "mark": {"name": name}}


async def begin_telnyx(receive: Receive, *, api_key: str | None) -> Begun:
    """Read ``connected`` and ``start``. Raises :class:`StreamError`."""
    first = await _first(receive, "start")
    start, stream = part(first, "start"), text(first, "stream_id")
    media = part(start, "media_format")
    if media.get("encoding") != "PCMU" or number(media, "sample_rate") != 8000:
        raise StreamError("media_format is not PCMU at 8000 Hz")
    serializer = TelnyxFrameSerializer(
        stream,
        "PCMU",
        "PCMU",
        call_control_id=text(start, "call_control_id"),
        api_key=api_key,
        params=TelnyxFrameSerializer.InputParams(
            sample_rate=8000, auto_hang_up=api_key is not None
        ),
    )
    wire = TelnyxWire(serializer, 8000)
    return Begun(wire, stream, str(start.get("from", "")), str(start.get("to", "")))


# -- Plivo -------------------------------------------------------------------------------------


class PlivoWire(CountedWire):
    """Source: https://www.plivo.com/docs/voice-agents/audio-streaming/concepts/audio-streaming-reference."""

    closing_ends = True

    def __init__(self, serializer: PlivoFrameSerializer, stream: str) -> None:
        """One stream's."""
        super().__init__(serializer, 8000)
        self._stream = stream

    def returned(self, message: Mapping[str, Any]) -> Sequence[StreamEvent]:
        """``playedStream`` names what was reached."""
        if message.get("event") == "playedStream":
            return played(message)
        return [Ignored(str(message.get("event"))[:40])]

    def marked(self, name: str) -> Mapping[str, Any]:
        """``playedStream`` comes back when it is reached."""
        return {"event": "checkpoint", "streamId": self._stream, "name": name}


async def begin_plivo(receive: Receive, *, auth_id: str, auth_token: str) -> Begun:
    """Read ``start``. Raises :class:`StreamError`."""
    start = part(await _first(receive, "start"), "start")
    stream = text(start, "streamId")
    media = part(start, "mediaFormat")
    if media.get("encoding") != "audio/x-mulaw" or number(media, "sampleRate") != 8000:
        raise StreamError("mediaFormat is not audio/x-mulaw at 8000 Hz")
    serializer = PlivoFrameSerializer(
        stream,
        call_id=text(start, "callId"),
        auth_id=auth_id,
        auth_token=auth_token,
        params=PlivoFrameSerializer.InputParams(sample_rate=8000),
    )
    return Begun(PlivoWire(serializer, stream), stream)


# -- Exotel ------------------------------------------------------------------------------------

EXOTEL_BYTES: Final = 3200
"""Least audio in one message; shorter ones are distorted."""


class ExotelWire(CountedWire):
    """Source: https://developer.exotel.com/docs/agentstream/websocket-protocol."""

    closing_ends = True

    def __init__(self, serializer: ExotelFrameSerializer, stream: str, rate: int) -> None:
        """One stream's."""
        super().__init__(serializer, rate, frames=EXOTEL_BYTES // frame_bytes(rate))
        self._stream = stream

    def marked(self, name: str) -> Mapping[str, Any]:
        """Comes back when played."""
        return {"event": "mark", "stream_sid": self._stream, "mark": {"name": name}}


async def begin_exotel(receive: Receive, *, rate: int) -> Begun:
    """Read ``connected`` and ``start``. Raises :class:`StreamError`."""
    start = part(await _first(receive, "start"), "start")
    stream = text(start, "stream_sid")
    told = number(part(start, "media_format"), "sample_rate")
    if told != rate:
        raise StreamError(f"sample_rate is {told}; allowed: {rate}, as carriers.exotel.rate says")
    serializer = ExotelFrameSerializer(
        stream,
        params=ExotelFrameSerializer.InputParams(exotel_sample_rate=rate, sample_rate=rate),
    )
    wire = ExotelWire(serializer, stream, rate)
    return Begun(wire, stream, str(start.get("from", "")), str(start.get("to", "")))


# -- Vonage ------------------------------------------------------------------------------------


class VonageWire(SerializedWire):
    """Source: https://developer.vonage.com/en/voice/voice-api/guides/websockets."""

    confirms = True
    closing_ends = True
    binary = True

    def control(self, message: Mapping[str, Any]) -> Sequence[StreamEvent] | None:
        """Notifications that what was sent has been played."""
        match message.get("event"):
            case "websocket:notify":
                return played(part(message, "payload"))
            case "websocket:dtmf":
                if not isinstance(message.get("digit"), str):
                    part(message, "dtmf")
                return None
        return [Ignored(str(message.get("event"))[:40])]

    def marked(self, name: str) -> Mapping[str, Any]:
        """``websocket:notify`` comes back when it is reached."""
        return {"action": "notify", "payload": {"name": name}}


async def begin_vonage(receive: Receive, *, rate: int) -> Begun:
    """Read ``websocket:connected``. Raises :class:`StreamError`."""
    first = await _first(receive, "websocket:connected")
    wanted = f"audio/l16;rate={rate}"
    if text(first, "content-type").replace(" ", "") != wanted:
        raise StreamError(f"content-type is not {wanted}")
    params = VonageFrameSerializer.InputParams(vonage_sample_rate=rate, sample_rate=rate)
    return Begun(VonageWire(VonageFrameSerializer(params=params), rate), "")


# -- Genesys -----------------------------------------------------------------------------------

GENESYS_FRAMES: Final = 10
"""200 ms a message: Genesys limits how many it takes (429)."""


class GenesysWire(SerializedWire):
    """Source: https://developer.genesys.cloud/devapps/audiohook (protocol version 2)."""

    lingers = True
    binary = True

    def control(self, message: Mapping[str, Any]) -> Sequence[StreamEvent] | None:
        """All but what the serializer answers, and keys."""
        match message.get("type"):
            case "ping" | "close":
                return None
            case "dtmf":
                part(message, "parameters")
                return None
            case "open":
                raise StreamError("open twice")
        return [Ignored(str(message.get("type"))[:40])]

    async def receive(self, message: Message) -> Sequence[StreamEvent]:
        """Read one message; after ``close`` was answered the session is over."""
        events = await super().receive(message)
        if isinstance(message, str) and load(message).get("type") == "close":
            return [*events, Stopped()]
        return events


async def begin_genesys(receive: Receive) -> Begun:
    """Read ``open``; ``opened`` is in the replies. Raises :class:`StreamError`."""
    message = await receive()
    if isinstance(message, bytes):
        raise StreamError("binary message before open; allowed: text")
    content = load(message)
    if content.get("type") != "open":
        raise StreamError("the session does not begin with open")
    parameters, session = part(content, "parameters"), text(content, "id")
    media = parameters.get("media")
    if not isinstance(media, list) or not media or not isinstance(media[0], dict):
        raise StreamError("media is no list of objects")
    if media[0].get("format") != "PCMU" or media[0].get("rate") != 8000:
        raise StreamError("media is not PCMU at 8000 Hz first")
    participant = parameters.get("participant")
    who = participant if isinstance(participant, dict) else {}
    params = GenesysAudioHookSerializer.InputParams(sample_rate=8000)
    serializer = GenesysAudioHookSerializer(params=params)
    wire = GenesysWire(serializer, 8000, frames=GENESYS_FRAMES)
    await wire.begin()
    opened = [event.message for event in await wire.read(message) if isinstance(event, Reply)]
    return Begun(
        wire,
        session,
        str(who.get("ani", "")),
        str(who.get("dnis", "")),
        tuple(opened),
        probe=parameters.get("conversationId") == PROBE,
    )


async def answer_probe(begun: Begun, receive: Receive) -> list[Message]:
    """Go on with a session that only tries the connection; what to say to its next message."""
    events = await begun.wire.receive(await receive())
    return [event.message for event in events if isinstance(event, Reply)]
