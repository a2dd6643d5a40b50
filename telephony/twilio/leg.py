"""Twilio's stream as a media leg: µ-law 8 kHz, one message each 20 ms, confirmed by ``mark``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ringtrue.streaming.ports import LegStats
from ringtrue.telephony.codecs.g711 import UlawCodec
from ringtrue.telephony.media_streams import wire as streams
from ringtrue.telephony.media_streams.leg import StreamLeg
from ringtrue.telephony.media_streams.wire import Heard, Message, StreamEvent
from ringtrue.telephony.twilio.protocol import (
    Audio,
    Digit,
    Ignored,
    MediaStreamProtocol,
    Played,
    Stopped,
    TwilioProtocolError,
)

RATE: Final = 8000


class TwilioWire:
    """Media Streams as a :class:`~ringtrue.telephony.media_streams.wire.StreamWire`."""

    rate: Final = RATE
    confirms: Final = True
    closing_ends: Final = False
    lingers: Final = False

    def __init__(self, protocol: MediaStreamProtocol) -> None:
        """``protocol`` has seen ``start``."""
        self._protocol = protocol
        self._codec = UlawCodec()

    @property
    def out_of_order(self) -> int:
        """Messages whose number was not the one after the last."""
        return self._protocol.out_of_order

    async def receive(self, message: Message) -> Sequence[StreamEvent]:
        """Read one message. Raises :class:`TwilioProtocolError`."""
        if isinstance(message, bytes):
            raise TwilioProtocolError("binary message; allowed: text")
        event = self._protocol.receive(message)
        match event:
            case Audio():
                return (self.heard(event),)
            case Played(name):
                return (streams.Played(name),)
            case Digit(digit):
                return (streams.Digit(digit),)
            case Stopped():
                return (streams.Stopped(),)
            case Ignored(name):
                return (streams.Ignored(name),)
        return (streams.Ignored(type(event).__name__),)

    def heard(self, audio: Audio) -> Heard:
        """One message's audio as PCM."""
        return Heard(self._codec.decode(audio.payload), audio.chunk, audio.timestamp)

    async def audio(self, pcm: bytes) -> Sequence[Message]:
        """One ``media`` message."""
        return (self._protocol.media(self._codec.encode(pcm)),)

    async def mark(self, name: str) -> Sequence[Message]:
        """One ``mark`` message."""
        return (self._protocol.mark(name),)

    async def clear(self) -> Sequence[Message]:
        """A ``clear`` message."""
        return (self._protocol.clear(),)

    async def goodbye(self) -> Sequence[Message]:
        """Nothing: the TwiML after the stream hangs up once the websocket is closed."""
        return ()


class TwilioLeg(StreamLeg):
    """One stream's audio; implements :class:`~ringtrue.streaming.ports.MediaLeg`."""

    def __init__(self, protocol: MediaStreamProtocol) -> None:
        """``protocol`` has seen ``start``."""
        self.wire = TwilioWire(protocol)
        super().__init__(self.wire)

    @property
    def stats(self) -> LegStats:
        """Live counters; ``extra`` has ``out_of_order`` besides what every stream's has."""
        stats = super().stats
        stats.extra["out_of_order"] = self.wire.out_of_order
        return stats

    def receive(self, audio: Audio, now: float) -> None:
        """Take one ``media`` message."""
        self.hear(self.wire.heard(audio), now)
