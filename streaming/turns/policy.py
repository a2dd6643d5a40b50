"""When a pause ends the caller's turn: by its sound, by what was asked, and by who speaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ringtrue.streaming.turns.expect import Expect

TYPICAL_PAUSE: Final = 0.5
"""Seconds of a pause inside a turn, before anything is known of the caller."""

MAX_PAUSE: Final = 2.0
"""A pause longer than this is no longer one inside a turn."""

_WEIGHT: Final = 0.3
"""Of a new pause in the running estimate."""

LEAST_FACTOR: Final = 0.8
MOST_FACTOR: Final = 1.5


@dataclass(frozen=True, slots=True)
class TurnPolicy:
    """When a pause ends the turn; seconds count from the end of speech's confirmation."""

    complete: float = 0.5
    """Probability from which smart-turn's word is taken at once."""

    doubtful: float = 0.1
    """Probability from which the model, while it holds the turn for unfinished, may be wrong."""

    incomplete_seconds: float = 1.2
    """Silence that ends a turn the model holds for unfinished (probability 0)."""

    sure_seconds: float = 0.2
    """The most silence that is asked for when the words alone are surely a whole answer."""

    sure_yes_no_seconds: float = 0.1
    """The same where that was a yes or no."""

    transcript_seconds: float = 1.5
    """How long a complete turn waits for the recognizer's final text."""

    yes_no_seconds: float = 0.6
    """The most silence that is asked for after an answer to a yes-or-no question."""

    digits_seconds: float = 1.0
    """The least silence that ends digits which are not enough yet, or may not be."""

    enough_digits_seconds: float = 0.4
    """The most silence that is asked for after digits which are enough, where more might come and
    the model is in doubt."""

    spelling_seconds: float = 1.3
    """The least silence that ends what is spelt."""

    anticipate: bool = True
    """Answer what will probably be the turn's end before it is certain; nothing is said before."""

    eager: float = 0.6
    """Probability from which a short pause is answered so."""

    eager_text: float = 0.2
    """Probability from which a turn that has its words is answered so while its end is awaited."""

    max_speculations: int = 2
    """Answers begun so in one turn; a caller who pauses often costs no more."""

    def sure(self, expect: Expect) -> float:
        """The most silence after words that are surely a whole answer."""
        return self.sure_yes_no_seconds if expect is Expect.YES_NO else self.sure_seconds

    def wait(
        self,
        probability: float,
        expect: Expect = Expect.OPEN,
        *,
        suffices: bool | None = None,
        factor: float = 1.0,
    ) -> float:
        """Silence still asked for at smart-turn's ``probability``: none when complete, less the
        surer.

        ``suffices`` says whether the words so far are all that was asked for (None: unknown),
        ``factor`` stretches what isn't certain for callers who pause long.
        """
        wait = 0.0
        if probability < self.complete:
            wait = self.incomplete_seconds * (1.0 - probability / self.complete) * factor
        if expect is Expect.YES_NO:
            return min(wait, self.yes_no_seconds)
        if expect is Expect.DIGITS and suffices and probability >= self.doubtful:
            return min(wait, self.enough_digits_seconds * factor)
        if expect in (Expect.DIGITS, Expect.SPELLING) and not suffices:
            least = self.digits_seconds if expect is Expect.DIGITS else self.spelling_seconds
            return max(wait, least * factor)
        return wait


class Pauses:
    """How long one caller pauses inside turns: a bounded running estimate."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._typical = TYPICAL_PAUSE
        self.seen = 0
        self.cut_short = 0
        """Turns that were ended although the caller went on."""

    def observe(self, seconds: float) -> None:
        """The caller went on after ``seconds`` of silence."""
        if 0 < seconds <= MAX_PAUSE:
            self._typical += _WEIGHT * (seconds - self._typical)
            self.seen += 1

    @property
    def factor(self) -> float:
        """What waiting is stretched by: 1 for a typical caller."""
        return min(MOST_FACTOR, max(LEAST_FACTOR, self._typical / TYPICAL_PAUSE))
