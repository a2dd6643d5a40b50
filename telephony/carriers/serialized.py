"""A carrier's stream through its Pipecat serializer.

The serializer makes and reads the messages that carry audio, keys, interruptions and the end;
what it doesn't know (the beginning, marks, the carrier's goodbye) is read here. Every message is
bounded and parsed first, so that nothing hostile reaches it, and its rate is the wire's own, so
that it never resamples.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, cast

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageUrgentFrame,
)
from pipecat.processors.frame_processor import FrameProcessorSetup
from pipecat.serializers.base_serializer import FrameSerializer

from ringtrue.telephony.media_streams.wire import (
    Digit,
    Heard,
    Ignored,
    Message,
    Played,
    Reply,
    StreamError,
    StreamEvent,
)

MAX_TEXT: Final = 64 * 1024
"""Characters of a message; one second of audio has about 45,000."""

MAX_AUDIO_SECONDS: Final = 1.0
MAX_NAME: Final = 256
GOODBYE_SECONDS: Final = 3.0
"""How long a serializer may take to end the call, where it does so over HTTP."""


@dataclass(frozen=True, slots=True)
class _Setup:
    """What serializers read of a pipeline's setup."""

    audio_in_sample_rate: int


class SerializedWire:
    """One stream; see :class:`~ringtrue.telephony.media_streams.wire.StreamWire`.

    Carriers' wires override :meth:`control` and :meth:`marked`.
    """

    confirms = False
    lingers = False
    closing_ends = False
    binary = False
    """Whether audio comes in binary messages."""

    def __init__(self, serializer: FrameSerializer, rate: int, *, frames: int = 1) -> None:
        """Speak at ``rate`` Hz, ``frames`` times 20 ms in a message.

        :meth:`begin` has to be awaited before anything else.
        """
        self._serializer = serializer
        self._rate = rate
        self._frames = frames
        self._gathered: list[bytes] = []
        self._marks: list[str] = []

    @property
    def rate(self) -> int:
        """PCM rate in Hz."""
        return self._rate

    async def begin(self) -> None:
        """Set the serializer up."""
        await self._serializer.setup(cast(FrameProcessorSetup, _Setup(self._rate)))

    def control(self, message: Mapping[str, Any]) -> Sequence[StreamEvent] | None:
        """What a text message says that the serializer doesn't read; None: give it to it."""
        raise StreamError("not a message of this carrier")  # pragma: no cover - all override

    def marked(self, name: str) -> Mapping[str, Any] | None:
        """A mark as this carrier knows it."""
        return None

    def numbers(self, message: Mapping[str, Any]) -> tuple[int | None, int | None]:
        """An audio message's running number and timestamp (ms), where it has any."""
        return None, None

    async def receive(self, message: Message) -> Sequence[StreamEvent]:
        """Read one message. Raises :class:`StreamError`, and nothing else."""
        content: Mapping[str, Any] = {}
        if isinstance(message, str):
            content = load(message)
            events = self.control(content)
            if events is not None:
                return events
        elif not self.binary:
            raise StreamError("binary message; allowed: text")
        elif len(message) > 2 * self._rate * MAX_AUDIO_SECONDS:
            raise StreamError(f"binary message of {len(message)} bytes; allowed: one second")
        return await self.read(message, content)

    async def read(
        self, message: Message, content: Mapping[str, Any] = MappingProxyType({})
    ) -> Sequence[StreamEvent]:
        """What the serializer makes of a message. Raises :class:`StreamError`."""
        try:
            frame = await self._serializer.deserialize(message)
        except Exception as error:  # whatever it makes of a stranger's message
            raise StreamError(f"message can't be read: {type(error).__name__}") from error
        return await self._event(frame, content)

    async def _event(self, frame: Frame | None, content: Mapping[str, Any]) -> list[StreamEvent]:
        match frame:
            case InputAudioRawFrame():
                pcm = frame.audio
                if len(pcm) % 2 or len(pcm) > 2 * self._rate * MAX_AUDIO_SECONDS:
                    raise StreamError(f"audio of {len(pcm)} bytes; allowed: up to one second")
                return [Heard(pcm, *self.numbers(content))]
            case InputDTMFFrame():
                return [Digit(frame.button.value)]
            case OutputTransportMessageUrgentFrame():
                said = await self._serializer.serialize(frame)
                return [] if said is None else [Reply(said)]
        return [Ignored("unread")]

    async def audio(self, pcm: bytes) -> Sequence[Message]:
        """A message with the audio gathered, and the marks behind it, once it is long enough."""
        self._gathered.append(pcm)
        if len(self._gathered) < self._frames:
            return ()
        whole = b"".join(self._gathered)
        self._gathered.clear()
        frame = OutputAudioRawFrame(audio=whole, sample_rate=self._rate, num_channels=1)
        messages = [await self._serializer.serialize(frame)]
        names, self._marks = self._marks, []
        messages += [await self._marked(name) for name in names]
        return [message for message in messages if message is not None]

    async def mark(self, name: str) -> Sequence[Message]:
        """A mark behind all audio so far, which may still be gathered."""
        if self._gathered:
            self._marks.append(name)
            return ()
        message = await self._marked(name)
        return () if message is None else (message,)

    async def clear(self) -> Sequence[Message]:
        """Have the carrier drop what it has not played."""
        self._gathered.clear()
        self._marks.clear()
        message = await self._serializer.serialize(InterruptionFrame())
        return () if message is None else (message,)

    async def goodbye(self) -> Sequence[Message]:
        """End the call as the serializer does: a message, or a request to the carrier."""
        message: Message | None = None
        with contextlib.suppress(TimeoutError):  # closing the websocket is what remains
            async with asyncio.timeout(GOODBYE_SECONDS):
                message = await self._serializer.serialize(EndFrame())
        return () if message is None else (message,)

    async def _marked(self, name: str) -> Message | None:
        message = self.marked(name)
        if message is None:
            return None
        frame = OutputTransportMessageUrgentFrame(message=dict(message))
        return await self._serializer.serialize(frame)


def load(text: str) -> Mapping[str, Any]:
    """A JSON object. Raises :class:`StreamError`."""
    if len(text) > MAX_TEXT:
        raise StreamError(f"message of {len(text)} characters; allowed: {MAX_TEXT}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StreamError("message is not JSON") from error
    if not isinstance(value, dict):
        raise StreamError(f"message is a JSON {type(value).__name__}; allowed: object")
    return value


def part(message: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object inside a message. Raises :class:`StreamError`."""
    value = message.get(key)
    if not isinstance(value, dict):
        raise StreamError(f"{key} is no object")
    return value


def text(message: Mapping[str, Any], key: str) -> str:
    """A string inside a message. Raises :class:`StreamError`."""
    value = message.get(key)
    if not isinstance(value, str) or len(value) > MAX_NAME:
        raise StreamError(f"{key} is no string of up to {MAX_NAME} characters")
    return value


def number(message: Mapping[str, Any], key: str) -> int | None:
    """A number, which some carriers write as a string; None where there is none."""
    value = message.get(key)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**18:
        return value
    return None


def played(message: Mapping[str, Any]) -> list[StreamEvent]:
    """A mark that came back."""
    return [Played(text(message, "name"))]
