"""LocalAgreement-2: what two successive hypotheses agree on is final.

Whole-utterance models rewrite their text as audio grows. Macháček, Dabre & Bojar, "Turning Whisper
into Real-Time Transcription System" (2023), confirm the longest common prefix of the last two
hypotheses, and never take it back. Sans-IO: timed words in, confirmed words out.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TimedWord:
    """One word of a hypothesis."""

    text: str
    """As the model wrote it, with its leading space where it has one."""

    start: float
    """Seconds from the start of the utterance."""

    end: float
    """Seconds from the start of the utterance."""

    probability: float = 1.0
    """The model's own, 0 to 1."""


def _same(first: TimedWord, second: TimedWord) -> bool:
    return _folded(first.text) == _folded(second.text)


def _folded(text: str) -> str:
    """Punctuation and case waver from one hypothesis to the next; they don't count."""
    kept = "".join(c for c in text.casefold() if unicodedata.category(c)[0] in "LNM")
    return kept or text.strip()


class LocalAgreement:
    """Confirmed words of one utterance and the tail that may still change."""

    def __init__(self, *, slack: float = 0.1, overlap: int = 5) -> None:
        """``slack``: seconds a word may start before the last confirmed end and still be new.

        ``overlap``: up to this many leading words are dropped if they repeat the confirmed end.
        """
        self._slack = slack
        self._overlap = overlap
        self.confirmed: list[TimedWord] = []
        """Words that won't change any more."""

        self.tail: list[TimedWord] = []
        """Unconfirmed words of the last hypothesis."""

    @property
    def confirmed_until(self) -> float:
        """Seconds up to which audio is confirmed."""
        return self.confirmed[-1].end if self.confirmed else 0.0

    def add(self, hypothesis: Sequence[TimedWord]) -> list[TimedWord]:
        """Take a new hypothesis of the audio still held; returns the words it confirmed."""
        fresh = self._beyond_confirmed(hypothesis)
        agreed = 0
        while (
            agreed < min(len(fresh), len(self.tail)) and _same(fresh[agreed], self.tail[agreed])
        ):  # fmt: skip
            agreed += 1
        newly = fresh[:agreed]
        self.confirmed += newly
        self.tail = fresh[agreed:]
        return newly

    def close(self, hypothesis: Sequence[TimedWord] | None = None) -> None:
        """End the utterance: the last hypothesis (``hypothesis``, or the tail) is confirmed."""
        self.confirmed += self.tail if hypothesis is None else self._beyond_confirmed(hypothesis)
        self.tail = []

    def confirm_until(self, end: float) -> None:
        """Confirm tail words that end by ``end`` seconds: their audio is about to be dropped."""
        while self.tail and self.tail[0].end <= end:
            self.confirmed.append(self.tail.pop(0))

    def _beyond_confirmed(self, hypothesis: Sequence[TimedWord]) -> list[TimedWord]:
        if not self.confirmed:
            return list(hypothesis)
        until = self.confirmed_until
        fresh = [word for word in hypothesis if word.start > until - self._slack]
        # Times waver too: a word confirmed already may come again at the seam.
        if fresh and fresh[0].start < until + 1.0:
            for length in range(min(self._overlap, len(fresh), len(self.confirmed)), 0, -1):
                seam = zip(self.confirmed[-length:], fresh[:length], strict=True)
                if all(_same(old, new) for old, new in seam):
                    return fresh[length:]
        return fresh

    def text(self) -> str:
        """Confirmed words and tail."""
        return "".join(word.text for word in (*self.confirmed, *self.tail)).strip()
