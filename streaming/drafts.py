"""What is offered to the gate: 20 ms, and where every sample of it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

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


class Draft(NamedTuple):
    """A frame as playout offers it, not yet allowed on a wire."""

    ticket: Ticket | None = None
    """None only for silence, which belongs to no utterance."""

    pieces: tuple[Piece, ...] = ()
    """What the frame is put together from; none: silence. What is short is filled up with it."""

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
        if not self.pieces:
            return bytes(size)
        if len(self.pieces) == 1:
            chunk, start, stop = self.pieces[0]
            joined = chunk.pcm[start:stop]
        else:
            joined = b"".join(chunk.pcm[start:stop] for chunk, start, stop in self.pieces)
        return joined if len(joined) >= size else joined + bytes(size - len(joined))
