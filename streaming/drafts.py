"""What is offered to the gate: 20 ms, and where every sample of it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from ringtrue.streaming.ports import Licence
from ringtrue.streaming.provenance import Chunk, DigitEvent, FrameKind


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to speak one utterance in one call; drafts of any other are refused."""

    session: str
    utterance: int


class Piece(NamedTuple):
    """Samples of a chunk that go into one frame."""

    chunk: Chunk
    start: int
    """First byte of the chunk's PCM."""

    stop: int


_make: Final[Callable[[type[Piece], tuple[Chunk, int, int]], Piece]] = tuple.__new__


def piece_of(chunk: Chunk, start: int, stop: int) -> Piece:
    """A piece, made without its own constructor: that one is never compiled."""
    return _make(Piece, (chunk, start, stop))


class Draft:
    """A frame as playout offers it, not yet allowed on a wire."""

    __slots__ = ("pieces", "ticket")

    def __init__(self, ticket: Ticket | None = None, pieces: tuple[Piece, ...] = ()) -> None:
        """``ticket`` is None only for silence, which belongs to no utterance."""
        self.ticket = ticket
        self.pieces = pieces
        """What the frame is put together from; none: silence. What is short is filled up with it.
        """

    @classmethod
    def whole(cls, ticket: Ticket | None, chunk: Chunk) -> Draft:
        """A frame that is one chunk."""
        return cls(ticket, (Piece(chunk, 0, len(chunk.pcm)),))

    @property
    def kind(self) -> FrameKind:
        """What it carries."""
        return self.pieces[0].chunk.kind if self.pieces else FrameKind.SILENCE

    @property
    def digit(self) -> DigitEvent | None:
        """The step of a digit that it is, if it is one."""
        return self.pieces[0].chunk.digit if self.pieces else None

    @property
    def licence(self) -> Licence | None:
        """What its cloned voice speaks by; None for everything else."""
        return self.pieces[0].chunk.licence if self.pieces else None

    @property
    def made_at(self) -> float | None:
        """When its first sample was made, in loop time; None for silence."""
        return self.pieces[0].chunk.made_at if self.pieces else None

    def pcm(self, size: int) -> bytes:
        """Its samples, filled up to ``size`` bytes."""
        return samples(self.pieces, size)


def samples(pieces: tuple[Piece, ...], size: int) -> bytes:
    """The PCM of ``pieces``, filled up to ``size`` bytes."""
    if len(pieces) == 1:
        chunk, start, stop = pieces[0]
        joined = chunk.pcm[start:stop]
    else:
        joined = b"".join([chunk.pcm[start:stop] for chunk, start, stop in pieces])
    return joined if len(joined) >= size else joined + bytes(size - len(joined))
