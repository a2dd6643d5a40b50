"""What it is when the caller makes a sound while the agent speaks: sans IO.

An :class:`Overlap` lasts from the first hint of speech until it is known. Words decide where
there are any; else how long it lasted does. Whatever stays unclear is an interruption, for a
caller who speaks is listened to.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What the caller's sound is."""

    INTERRUPTION = "interruption"
    BACKCHANNEL = "backchannel"
    NOISE = "noise"
    """No speech, or too little to mean anything: a cough, a bang, a breath."""


@dataclass(frozen=True, slots=True)
class OverlapPolicy:
    """Times in seconds, of speech unless said otherwise."""

    long: float = 1.15
    """From here on it is an interruption while it lasts, unless its words so far are
    backchannels. Its end is known some 0.25 s late, so this is less of a sound."""

    longest: float = 1.8
    """From here on it is one in any case."""

    wordless: float = 0.85
    """Up to here what holds no credible word is noise, once it has ended."""

    short: float = 0.6
    """The same where the recognizer says nothing at all."""

    text: float = 0.6
    """How long its final text is waited for once it has ended."""

    long_stretch: float = 1.0
    """Speech without a pause that lasted this long is a backchannel only by its final text: what is
    known of it before may be the first word of a question."""

    hint: float = 0.4
    """How long a hint is waited on for what it becomes."""

    most: float = 2.5
    """How long the agent pauses at most, whatever happens."""


class Backchannels:
    """One language's list, and what is on it."""

    def __init__(self, phrases: Iterable[str], answers: Iterable[str] = ()) -> None:
        """``phrases`` are words or a few of them; ``answers`` are those that answer a question."""
        self._phrases = frozenset(tuple(_words(phrase)) for phrase in phrases) - {()}
        self._answers = frozenset(tuple(_words(phrase)) for phrase in answers) - {()}
        self._longest = max(map(len, self._phrases | self._answers), default=0)

    def only(self, text: str) -> bool:
        """Whether ``text`` is nothing but such words; False where it is empty."""
        words = _words(text)
        return bool(words) and not self._others(words, self._phrases)

    def answers(self, text: str) -> bool:
        """Whether ``text``, or part of it, would answer a question."""
        words = _words(text)
        return self._others(words, self._answers) < len(words)

    def _others(self, words: list[str], phrases: frozenset[tuple[str, ...]]) -> int:
        """How many of ``words`` are in none of ``phrases``."""
        rest = at = 0
        while at < len(words):
            for length in range(min(self._longest, len(words) - at), 0, -1):
                if tuple(words[at : at + length]) in phrases:
                    at += length
                    break
            else:
                rest += 1
                at += 1
        return rest


class Overlap:
    """One such sound. Times are loop seconds; each method is told when it happened."""

    def __init__(self, backchannels: Backchannels, policy: OverlapPolicy, now: float) -> None:
        """Speech was hinted at at ``now``."""
        self._backchannels = backchannels
        self._policy = policy
        self.began_at = now
        self._started_at: float | None = None
        self._stopped_at: float | None = None
        self._dismissed = False
        self._going_on_at = now
        """When the latest stretch of speech began."""

        self._stretch = 0.0
        """The longest one so far that has ended, in seconds."""

        self._awaited = 0
        """Stretches that have ended and whose final text has not come."""

        self._words: list[str] = []
        self._partial = ""

    @property
    def text(self) -> str:
        """Its words, as far as they are known."""
        return " ".join((*self._words, self._partial)).strip()

    @property
    def confirmed(self) -> bool:
        """Whether it is speech."""
        return self._started_at is not None

    def started(self, since: float) -> None:
        """It is speech, and began at ``since``; also where it goes on after a pause."""
        if self._started_at is None:
            self._started_at = since
        self._going_on_at = since
        self._stopped_at = None
        self._dismissed = False

    def stopped(self, at: float) -> None:
        """The speech ended at ``at``."""
        if self._stopped_at is None:
            self._awaited += 1
        self._stopped_at = at
        self._stretch = max(self._stretch, at - self._going_on_at)

    def dismissed(self) -> None:
        """It was no speech."""
        self._dismissed = True

    def partial(self, text: str) -> None:
        """Words that may still change."""
        self._partial = text.strip()

    def final(self, text: str) -> None:
        """The recognizer's last word on what was said so far; none where that is not credible."""
        if text.strip():
            self._words.append(text.strip())
        self._partial = ""
        self._awaited = max(0, self._awaited - 1)

    def verdict(self, now: float) -> Verdict | None:
        """What it is; None while that is open."""
        policy = self._policy
        if self._started_at is None:
            lapsed = now - self.began_at >= policy.hint
            return Verdict.NOISE if self._dismissed or lapsed else None
        if now - self.began_at >= policy.most:
            return self._by_words(now) or Verdict.INTERRUPTION
        spoke = (now if self._stopped_at is None else self._stopped_at) - self._started_at
        if self._stopped_at is None:
            return self._while_speaking(spoke)
        if self._words and not self._backchannels.only(" ".join(self._words)):
            return Verdict.INTERRUPTION
        if self._awaited and now - self._stopped_at < policy.text:
            return None
        if self.text:
            return self._by_words(now)
        few = spoke < (policy.short if self._awaited else policy.wordless)
        return Verdict.NOISE if few else Verdict.INTERRUPTION

    def _while_speaking(self, spoke: float) -> Verdict | None:
        """By its length alone: a small recognizer hears words in any hum before it is sure, and
        nothing is lost by waiting, for the agent is silent."""
        policy = self._policy
        if spoke >= policy.longest:
            return Verdict.INTERRUPTION
        if spoke >= policy.long and not self._backchannels.only(self.text):
            return Verdict.INTERRUPTION
        return None

    def _by_words(self, now: float) -> Verdict | None:
        """None where there are none, or those of a long stretch may go on."""
        if not self.text:
            return None
        if not self._backchannels.only(self.text):
            return Verdict.INTERRUPTION
        longest = self._stretch
        if self._stopped_at is None:
            longest = max(longest, now - self._going_on_at)
        whole = self._stopped_at is not None and not self._awaited
        return Verdict.BACKCHANNEL if whole or longest < self._policy.long_stretch else None


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFC", text.lower()).replace("’", "'")
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", plain)
