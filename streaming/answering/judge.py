"""Person or machine, by how the far end talks: cadence, telling words, a beep. Sans-IO.

People say a word or two and wait; machines talk on, whatever the agent says meanwhile. That is
all an audio-only judgement has (Asterisk's ``app_amd`` works alike); a recognizer that
understands the greeting adds the words, and the beep is a machine's own. Nothing waits for the
verdict: the agent speaks from the first moment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from ringtrue.streaming.answering.beep import BeepDetector
from ringtrue.streaming.ports import FRAME_MS


class AnsweredBy(StrEnum):
    """Who answered."""

    HUMAN = "human"
    MACHINE = "machine"
    UNKNOWN = "unknown"


class Telltale(StrEnum):
    """What showed it."""

    SHORT_GREETING = "short_greeting"
    LONG_GREETING = "long_greeting"
    WORDS = "words"
    BEEP = "beep"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who answered, as far as can be told."""

    by: AnsweredBy
    telltale: Telltale
    seconds: float
    """Of what the far end sent until then."""


@dataclass(frozen=True, slots=True)
class AnswerPolicy:
    """When a greeting is a machine's."""

    long_seconds: float = 3.2
    """A greeting that has lasted so long is a machine's."""

    pause_seconds: float = 0.8
    """Silence that ends a greeting; a person waits then."""

    silent_seconds: float = 5.0
    """Silence from the answer on after which nothing can be told."""

    ready_seconds: float = 3.0
    """Silence after a machine's greeting that stands for a beep that was not heard."""

    overrule_seconds: float = 15.0
    """How long a beep, and words that only machines say, may overrule a verdict."""


LOUD_DB: Final = 12.0
"""Above the line's noise, from which a frame is speech."""

LEAST_RMS: Final = 60.0

_WORDS: Final = re.compile(
    r"\b(?:leave (?:me |us |your |a )*(?:brief )?(?:message|name|number)"
    r"|(?:after|at) the (?:tone|beep|signal)|voice ?mail|answering machine|mailbox"
    r"|(?:is|are|am|'m|not) (?:not |currently )*(?:available|unavailable) (?:to|right|at)"
    r"|can ?(?:no|')t (?:come|take|answer) (?:to )?(?:the|your|my) (?:phone|call)"
    r"|nach dem (?:ton|signalton|piep)\w*|hinterlassen sie|anrufbeantworter|mailbox"
    r"|apr[eè]s le (?:bip|signal)|laisse[rz] (?:un|votre) message|messagerie|r[eé]pondeur"
    r"|despu[eé]s de(?:l tono| la se[nñ]al)|deje (?:su|un) mensaje|buz[oó]n de voz|contestador"
    r"|dopo il (?:segnale|bip)|lasci(?:ate|a|are)? un messaggio|segreteria telefonica)\b",
    re.IGNORECASE,
)


class AnswerJudge:
    """Follows the first seconds of one call; feed it all the far end sends."""

    def __init__(self, rate: int, policy: AnswerPolicy | None = None) -> None:
        """For 20 ms frames at ``rate`` Hz."""
        self.policy = policy or AnswerPolicy()
        self.verdict: Verdict | None = None
        self._beeps = BeepDetector(rate)
        self._floor = LEAST_RMS
        self._now = 0.0
        self._began: float | None = None
        self._last = 0.0
        self._voiced = 0
        self._beeped = False

    def push(self, pcm: bytes) -> None:
        """The next 20 ms; :attr:`verdict` may be there afterwards."""
        self._now += FRAME_MS / 1000
        beep = self._beeps.push(pcm)
        self._beeped |= beep
        if self._speech(pcm):
            self._began = self._now if self._began is None else self._began
            self._last, self._voiced = self._now, self._voiced + 1
        policy = self.policy
        if beep:
            self._overrule(Telltale.BEEP)
        if self.verdict is not None:
            return
        if self._began is None:
            if self._now >= policy.silent_seconds:
                self._decide(AnsweredBy.UNKNOWN, Telltale.SILENCE)
        elif self._last - self._began >= policy.long_seconds:
            self._decide(AnsweredBy.MACHINE, Telltale.LONG_GREETING)
        elif self._now - self._last >= policy.pause_seconds:
            if self._voiced < 5:  # a click
                self._began, self._voiced = None, 0
            else:
                self._decide(AnsweredBy.HUMAN, Telltale.SHORT_GREETING)

    def words(self, text: str) -> None:
        """What was recognized so far; may overrule an early verdict."""
        if _WORDS.search(text):
            self._overrule(Telltale.WORDS)

    @property
    def settled(self) -> bool:
        """Nothing can change any more, and no machine's beep is waited for."""
        machine = self.verdict is not None and self.verdict.by is AnsweredBy.MACHINE
        return not machine and self._now > self.policy.overrule_seconds

    @property
    def ready(self) -> bool:
        """A machine records now: its beep has sounded, or it has been silent for long."""
        return self._beeped or self._now - self._last >= self.policy.ready_seconds

    def _overrule(self, telltale: Telltale) -> None:
        """Only a machine has this, whatever was thought."""
        machine = self.verdict is not None and self.verdict.by is AnsweredBy.MACHINE
        if not machine and self._now <= self.policy.overrule_seconds:
            self._decide(AnsweredBy.MACHINE, telltale)

    def _decide(self, by: AnsweredBy, telltale: Telltale) -> None:
        self.verdict = Verdict(by, telltale, round(self._now, 2))

    def _speech(self, pcm: bytes) -> bool:
        samples = np.frombuffer(pcm, np.int16).astype(np.float32)
        rms = float(np.sqrt(samples @ samples / max(1, len(samples))))
        # Falls to silence at once, rises 3 dB a second: a voice is no floor.
        self._floor = max(1.0, min(rms, self._floor * 1.007))
        return rms > max(LEAST_RMS, self._floor * 10 ** (LOUD_DB / 20))
