"""What a playout buffer holds and gives: utterances that wait, a tick's step, what a cut left."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from ringtrue.streaming.drafts import Draft, Ticket
from ringtrue.streaming.provenance import Chunk

MarkT = TypeVar("MarkT")

# Written out: mypyc can't compile a dataclass that is generic.


class Utterance(Generic[MarkT]):
    """What waits in the buffer of one utterance."""

    __slots__ = (
        "base", "chunks", "finished", "label", "licensed", "marks", "offset", "pending",
        "starved", "taken", "ticket", "written",
    )  # fmt: skip

    def __init__(self, label: str) -> None:
        """Nothing was written yet, and nothing taken."""
        self.label = label
        self.chunks: deque[Chunk] = deque()
        self.offset = 0
        """Bytes of the first chunk already taken."""

        self.pending = 0
        """Bytes waiting."""

        self.written = 0
        """Samples written since it began."""

        self.taken = 0
        """Samples taken since it began."""

        self.starved = 0
        """Ticks in a row that found nothing since it began."""

        self.finished = False
        self.ticket: Ticket | None = None
        self.marks: deque[tuple[int, MarkT]] = deque()
        self.base = 0
        """Samples written of it before digits divided it."""

        self.licensed = False
        """Whether a cloned voice spoke in it."""


class Step(Generic[MarkT]):
    """What one tick took from the buffer."""

    __slots__ = ("began", "draft", "ended", "heard", "underrun")

    def __init__(
        self,
        draft: Draft,
        heard: list[MarkT],
        began: str | None = None,
        ended: str | None = None,
        underrun: bool = False,
    ) -> None:
        """``draft`` is for the gate."""
        self.draft = draft
        self.heard = heard
        """Marks whose audio has been heard by now, in order."""

        self.began = began
        """Label of the utterance whose first sample is in this frame."""

        self.ended = ended
        """Label of the utterance whose last sample is in this frame, or went out before it was
        known to be the last."""

        self.underrun = underrun
        """True where an unfinished utterance had nothing ready after it had begun."""


class Cut(Generic[MarkT]):
    """What a barge-in threw away."""

    __slots__ = ("dropped_samples", "heard", "heard_samples", "label", "paused_at", "unheard")

    def __init__(
        self,
        heard: tuple[MarkT, ...],
        unheard: tuple[MarkT, ...],
        heard_samples: int,
        dropped_samples: int,
        label: str | None,
        paused_at: float | None = None,
    ) -> None:
        """``label`` is that of the utterance that was playing, if any."""
        self.heard = heard
        """Marks that were heard before the cut and not yet released."""

        self.unheard = unheard
        self.heard_samples = heard_samples
        """Samples of the utterance in progress that were heard: those that went out, less those
        the far end, where it can tell, had not confirmed."""

        self.dropped_samples = dropped_samples
        self.label = label
        self.paused_at = paused_at
        """Since when it was paused, if it was."""
