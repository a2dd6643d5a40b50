"""What a carrier's media stream says and is told, whichever carrier's it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from ringtrue.streaming.errors import RingtrueError

DIGITS: Final = frozenset("0123456789*#ABCD")

Message: TypeAlias = str | bytes
"""A websocket message: text or binary."""


class StreamError(RingtrueError):
    """A message that the carrier's protocol does not define. Says which field and why."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Caller audio."""

    pcm: bytes = field(repr=False)
    """16-bit mono at the wire's rate, any whole number of samples."""

    chunk: int | None = None
    """Running number, where the carrier counts."""

    timestamp: int | None = None
    """Milliseconds since the stream began, where the carrier says."""


@dataclass(frozen=True, slots=True)
class Played:
    """Everything sent before this mark was played, or was dropped by a clear."""

    name: str


@dataclass(frozen=True, slots=True)
class Digit:
    """The caller pressed a key: one of :data:`DIGITS`."""

    digit: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The stream or the call ended."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The protocol wants this said at once."""

    message: Message = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message of no use here; its kind, for the counters."""

    event: str


StreamEvent: TypeAlias = Heard | Played | Digit | Stopped | Reply | Ignored


class StreamWire(Protocol):
    """One stream's protocol, once the stream has begun. Does no I/O on the media path."""

    @property
    def rate(self) -> int:
        """PCM rate in Hz both ways: 8000 or 16000."""
        ...

    @property
    def confirms(self) -> bool:
        """Whether the carrier tells what it has played (:meth:`mark`)."""
        ...

    @property
    def closing_ends(self) -> bool:
        """Whether the caller has hung up where the carrier closes the websocket (1000, 1001)."""
        ...

    @property
    def lingers(self) -> bool:
        """Whether the carrier answers our goodbye, and wants that answered, before the end."""
        ...

    async def receive(self, message: Message) -> Sequence[StreamEvent]:
        """Read one message. Raises :class:`StreamError`, and nothing else."""
        ...

    async def audio(self, pcm: bytes) -> Sequence[Message]:
        """What to send for 20 ms of audio; nothing while it is gathered for a longer message."""
        ...

    async def mark(self, name: str) -> Sequence[Message]:
        """A mark behind the audio so far; nothing where the carrier knows none."""
        ...

    async def clear(self) -> Sequence[Message]:
        """Have the carrier drop what it has not played; nothing where it can't."""
        ...

    async def goodbye(self) -> Sequence[Message]:
        """End the call the protocol's own way; nothing where closing the websocket does."""
        ...
