"""What the agent said, recognized from what the caller heard, after the call.

A caller can't see the server's texts, so it listens: every utterance of the agent is recognized
with a language model of all that the agent could say, and matched against those texts. An answer
counts as understood only if it is the best match among all of them, not merely similar.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from rapidfuzz.distance import LCSseq

from ringtrue.config.agent_schema import Agent
from ringtrue.loadtest.ear import Span
from ringtrue.streaming.recognizers.grammar import Grammar
from ringtrue.streaming.recognizers.pool import PoolPolicy, WorkerPool
from ringtrue.streaming.recognizers.port import Recognizer
from ringtrue.streaming.recognizers.sphinx import SphinxRecognizer
from ringtrue.streaming.recognizers.vocabulary import DIGITS, Vocabulary, normalize

MIN_SCORE: Final = 0.6
"""Part of a text's words that must be heard in order for it to be taken."""

MIN_WORDS: Final = 4
"""Shorter texts score as if they had this many words: "Sure." alone is no evidence."""

MIN_EXPLAINED: Final = 0.4
"""Part of the heard words that a text must explain."""

FILLINGS: Final = 20
"""Strings of digits tried for each placeholder in the language model."""

PAD_SECONDS: Final = 0.3
"""Silence that the recognizer gets on both sides of an utterance."""

MAX_SECONDS: Final = 50.0
"""Longer utterances are recognized up to here."""

_POLICY: Final = PoolPolicy(max_backlog=60.0, finish_timeout=30.0)
_SENTENCE: Final = re.compile(r"(?<=[.?!])\s+")
_PLACEHOLDER: Final = re.compile(r"\{[a-z_]+\}")


@dataclass(frozen=True, slots=True)
class Understood:
    """One utterance of the agent."""

    text: str
    """Words as recognized."""

    topics: tuple[str, ...]
    """The best-matching topics: several where they share a text; none below the threshold."""

    score: float
    """0 to 1, of the best match."""


def topics_of(agent: Agent) -> dict[str, tuple[str, ...]]:
    """What the agent can say, by topic, with its variables filled in.

    Topics are an intent's name (its answers), ``NAME.confirm`` and ``NAME.declined``,
    ``ask.SLOT``, and ``call.greeting``, ``call.disclosure``, ``call.follow_up``,
    ``call.fallback``, ``call.trouble``.
    """
    texts: dict[str, list[str]] = defaultdict(list)
    texts["call.greeting"] += agent.openings()
    texts["call.disclosure"] += [agent.disclosed().again, agent.disclosed().answer]
    texts["call.trouble"] += [
        *agent.stalls.filler,
        *agent.stalls.apology,
        *agent.stalls.give_up.say,
    ]
    if (dialogue := agent.dialogue) is not None:
        for name, intent in dialogue.intents.items():
            texts[name] += intent.answers
            texts[f"{name}.confirm"] += intent.confirm
            texts[f"{name}.declined"] += intent.declined
            texts["call.follow_up"] += intent.follow_up or ()
        for name, slot in dialogue.slots.items():
            texts[f"ask.{name}"] += [*slot.ask, *slot.retry]
        for state in dialogue.states.values():
            texts["call.follow_up"] += state.prompt
            texts["call.fallback"] += state.fallbacks
        texts["call.follow_up"] += dialogue.follow_up
        texts["call.fallback"] += [*dialogue.fallbacks, *dialogue.unheard]
        texts["call.trouble"] += dialogue.give_up.say

    def filled(text: str) -> str:
        for name, value in agent.variables.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    return {topic: tuple(map(filled, said)) for topic, said in texts.items() if said}


def match(text: str, topics: Mapping[str, Sequence[str]]) -> Understood:
    """Find the topic of recognized words: the one with a text that explains most of them.

    A text counts if enough of its words were heard in order, or enough of the heard words are
    in it where those are fewer (an answer that was cut off), and it explains enough of what was
    heard: an answer and the question that follows it are one utterance. Digits heard may stand
    for a placeholder.
    """
    everything = normalize(text)
    undigited = [word for word in everything if word not in DIGITS]
    explained: dict[str, int] = {}
    scores: dict[str, float] = {}
    for topic, texts in topics.items():
        for said in texts:
            words = normalize(_PLACEHOLDER.sub(" ", said))
            heard = undigited if _PLACEHOLDER.search(said) else everything
            common = LCSseq.similarity(words, heard)
            score = common / max(MIN_WORDS, min(len(words), len(heard)))
            enough = score >= MIN_SCORE and common >= MIN_EXPLAINED * len(heard)
            if enough and common >= explained.get(topic, 0):
                explained[topic], scores[topic] = common, score
    best = max(explained.values(), default=0)
    named = tuple(topic for topic, common in explained.items() if common == best)
    return Understood(text, named, round(max((scores[t] for t in named), default=0.0), 3))


def _phrases(topics: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Every sentence, with digits for what only a call can fill in."""
    chance = random.Random(1)
    phrases = set()
    for sentence in (s for texts in topics.values() for t in texts for s in _SENTENCE.split(t)):
        for _ in range(FILLINGS if _PLACEHOLDER.search(sentence) else 1):
            digits = " ".join(chance.choices("0123456789", k=5))
            phrases.add(_PLACEHOLDER.sub(digits, sentence))
    return tuple(sorted(phrase for phrase in phrases if normalize(phrase)))


async def recognize(
    recognizer: Recognizer, pcm: bytes, rate: int, spoken: Iterable[Span]
) -> list[str]:
    """The words of each utterance in ``spoken``. Raises ``RecognizerError``."""
    texts: list[str] = []
    silence = bytes(2 * round(PAD_SECONDS * rate))
    stream = recognizer.open(rate)
    try:
        for span in spoken:
            end = min(span.end, span.start + round(MAX_SECONDS * rate))
            await stream.start()
            await stream.accept(silence + pcm[2 * span.start : 2 * end] + silence)
            texts.append((await stream.finish()).text)
    finally:
        await stream.close()
    return texts


class Listener:
    """Recognizes an agent's utterances, in a process that ends with it. Use ``async with``."""

    def __init__(self, topics: Mapping[str, Sequence[str]]) -> None:
        """For an agent that can say ``topics``."""
        self._topics = topics
        self._pool = WorkerPool(_POLICY)
        vocabulary = Vocabulary(_phrases(topics), yes_no=False)
        self._recognizer = SphinxRecognizer(
            Grammar(vocabulary=vocabulary), self._pool, min_confidence=0.0
        )

    async def __aenter__(self) -> Self:
        """Start the process. Raises ``RecognizerError``."""
        try:
            await self._pool.open()
            await self._recognizer.load()
        except BaseException:
            await self._pool.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it."""
        await self._pool.close()

    async def understand(self, pcm: bytes, rate: int, spoken: Iterable[Span]) -> list[Understood]:
        """Recognize and match each of the utterances ``spoken``.

        ``pcm`` is 16-bit mono at ``rate`` Hz (8000 or 16000). Raises ``RecognizerError``.
        """
        texts = await recognize(self._recognizer, pcm, rate, spoken)
        return [match(text, self._topics) for text in texts]


async def understand(
    pcm: bytes, rate: int, spoken: Iterable[Span], topics: Mapping[str, Sequence[str]]
) -> list[Understood]:
    """Recognize and match each utterance, in a process that ends afterwards.

    ``pcm`` is 16-bit mono at ``rate`` Hz (8000 or 16000). Raises ``RecognizerError``.
    """
    async with Listener(topics) as listener:
        return await listener.understand(pcm, rate, spoken)
