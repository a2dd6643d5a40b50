"""What turn-taking leaves in the call record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class TurnTaking:
    """Counters of one call; no words in them."""

    speculations: int = 0
    """Answers begun before their turn had ended."""

    confirmed: int = 0
    """Of them, those that were said."""

    dropped: Counter[str] = field(default_factory=Counter)
    """The others, by reason."""

    saved_ms: float = 0.0
    """Work that was done, all confirmed answers together, before their turn had ended."""

    wasted_tokens: int = 0
    """Pieces of text of answers that were dropped."""

    wasted_ms: float = 0.0
    """Speech synthesized for them."""

    cut_short: int = 0
    """Turns that were ended although the caller went on at once."""

    pauses: int = 0
    """Times that the agent paused because the caller spoke, or seemed to."""

    paused_ms: float = 0.0
    resumed: int = 0
    """Times that it went on at its next sample."""

    backchannels: int = 0
    """Of those, times that the caller had said something like ``mm-hm``."""

    false_interruptions: int = 0
    """Of those, times that it was no speech at all, or too little."""

    idle_prompts: int = 0
    """Times that a caller who said nothing was spoken to."""

    @property
    def wasted_rate(self) -> float:
        """Share of the answers begun early that were dropped; 0 where there were none."""
        return self.dropped.total() / self.speculations if self.speculations else 0.0

    def was_cut_short(self) -> None:
        """A turn was ended too early."""
        self.cut_short += 1

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "speculations": self.speculations,
            "confirmed": self.confirmed,
            "dropped": dict(self.dropped),
            "saved_ms": round(self.saved_ms, 1),
            "wasted_tokens": self.wasted_tokens,
            "wasted_ms": round(self.wasted_ms, 1),
            "cut_short": self.cut_short,
            "pauses": self.pauses,
            "paused_ms": round(self.paused_ms, 1),
            "resumed": self.resumed,
            "backchannels": self.backchannels,
            "false_interruptions": self.false_interruptions,
            "idle_prompts": self.idle_prompts,
        }


def total(records: Iterable[TurnTaking]) -> TurnTaking:
    """The counters of several calls, added up."""
    summed = TurnTaking()
    for record in records:
        for each in fields(TurnTaking):
            setattr(summed, each.name, getattr(summed, each.name) + getattr(record, each.name))
    return summed
