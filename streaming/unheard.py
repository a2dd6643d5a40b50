"""What was sent of late and the far end has not told it played: it can be taken back and sent once
more, from the very sample, where the far end drops it when asked."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from ringtrue.streaming.drafts import Draft, Piece, Ticket
from ringtrue.streaming.ports import FRAMES_PER_SECOND

MAX_FRAMES: Final = 3 * FRAMES_PER_SECOND
"""Frames remembered; what a far end holds beyond three seconds counts as heard."""


@dataclass(frozen=True, slots=True)
class SentFrame:
    """20 ms of an utterance, as they went out."""

    position: int
    """Samples since the call began, before its first."""

    offset: int
    """Samples of the utterance before its first."""

    ticket: Ticket | None
    pieces: tuple[Piece, ...]

    @property
    def samples(self) -> int:
        """How many of the utterance's; its last frame may be short."""
        return sum(piece.stop - piece.start for piece in self.pieces) // 2


class Unheard:
    """The frames sent of late, oldest first."""

    def __init__(self) -> None:
        """None was sent."""
        self._frames: deque[SentFrame] = deque(maxlen=MAX_FRAMES)

    def sent(self, draft: Draft, position: int, offset: int) -> None:
        """``draft`` goes out; ``position`` and ``offset`` as in :class:`SentFrame`."""
        self._frames.append(SentFrame(position, offset, draft.ticket, draft.pieces))

    def played(self, position: int) -> None:
        """The far end has played everything before ``position``."""
        frames = self._frames
        while frames and frames[0].position + frames[0].samples <= position:
            frames.popleft()

    def place(self, position: int) -> int | None:
        """Where in its utterance the sample before ``position`` is; None where it was not noted."""
        for frame in reversed(self._frames):
            if frame.position < position:
                return frame.offset + min(position - frame.position, frame.samples)
        return None

    def pieces(self, ticket: Ticket | None) -> list[Piece]:
        """All of it, in order, each chunk once; nothing unless all is ``ticket``'s."""
        if any(frame.ticket != ticket for frame in self._frames):
            return []
        joined: list[Piece] = []
        for frame in self._frames:
            for piece in frame.pieces:
                last = joined[-1] if joined else None
                if last is not None and last.chunk is piece.chunk and last.stop == piece.start:
                    joined[-1] = last._replace(stop=piece.stop)
                else:
                    joined.append(piece)
        return joined

    @property
    def begins(self) -> int:
        """``position`` of the first frame; there has to be one."""
        return self._frames[0].position

    def clear(self) -> None:
        """Forget all of it."""
        self._frames.clear()


def without_first(pieces: list[Piece], samples: int) -> list[Piece]:
    """``pieces`` from their sample number ``samples`` on."""
    left = 2 * max(0, samples)
    kept: list[Piece] = []
    for piece in pieces:
        size = piece.stop - piece.start
        if left >= size:
            left -= size
            continue
        kept.append(piece._replace(start=piece.start + left))
        left = 0
    return kept
