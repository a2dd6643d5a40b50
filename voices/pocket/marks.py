"""Where words end, estimated: pocket-tts doesn't say.

The time a phrase takes is shared out among its words by their lengths. While a phrase is being made
its length is unknown, so the voice's own pace so far stands in, taken a little too slow: a word
counts as heard late rather than early.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ringtrue.streaming.ports import WordMark

FIRST_PACE: Final = 0.075
"""Seconds per letter before anything was heard of a voice; read English takes about 0.065."""

_CAUTION: Final = 1.1
_MEMORY: Final = 0.7
_BOUNDS: Final = (0.03, 0.2)
_PAUSE_LETTERS: Final = {",": 3, ";": 3, ":": 3, ".": 4, "!": 4, "?": 4}


def _weight(word: str) -> int:
    return len(word) + 1 + _PAUSE_LETTERS.get(word[-1], 0)


class Pace:
    """How fast one voice speaks, learnt from its phrases."""

    def __init__(self) -> None:
        """Start with :data:`FIRST_PACE`."""
        self.seconds_per_letter = FIRST_PACE

    def learn(self, letters: int, seconds: float) -> None:
        """A phrase of ``letters`` took ``seconds``."""
        if letters > 0:
            heard = min(max(seconds / letters, _BOUNDS[0]), _BOUNDS[1])
            self.seconds_per_letter += (1 - _MEMORY) * (heard - self.seconds_per_letter)


class PhraseMarks:
    """The words of one phrase that have not ended yet."""

    def __init__(self, phrase: str, start: int, rate: int, pace: Pace) -> None:
        """``phrase`` begins at sample ``start`` of its utterance, at ``rate`` Hz."""
        words = phrase.split()
        self._left = deque(words)
        self._weights = deque(_weight(word) for word in words)
        self._letters = sum(self._weights)
        self._start = start
        self._rate = rate
        self._pace = pace
        self._seconds = _CAUTION * pace.seconds_per_letter
        self._end = float(start)

    def reached(self, position: int) -> tuple[WordMark, ...]:
        """Words that have ended by sample ``position``, the last one excepted."""
        marks = []
        while len(self._left) > 1:
            end = self._end + self._weights[0] * self._seconds * self._rate
            if end > position:
                break
            self._end = end
            self._weights.popleft()
            marks.append(WordMark(self._left.popleft(), int(end)))
        return tuple(marks)

    def finish(self, position: int) -> tuple[WordMark, ...]:
        """The rest, now that the phrase has ended at ``position``."""
        self._pace.learn(self._letters, (position - self._start) / self._rate)
        marks = tuple(WordMark(word, position) for word in self._left)
        self._left.clear()
        return marks
