"""Which intent an utterance means, robust to a recognizer's errors.

Words are compared one by one with ``rapidfuzz`` and weighted by how much they tell intents
apart; an example counts as found by the share of its weight that the utterance contains, and a
little by how much else the utterance contains.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from rapidfuzz import fuzz

_STOP_WORDS: Final = (
    "a an the i you he she it we they me my your our to of for in on at by and or so with from is "
    "am are was be been do does did have has had can could would will shall should may might "
    "want like need get got please just um uh er well okay ok yes yeah no not this that there "
    "some any about hi hello id im ive youre its lets let what who how thats whats theres dont cant"
)
_STOP: Final = frozenset(_STOP_WORDS.split())
_STOP_WEIGHT: Final = 0.25
_PRECISION_SHARE: Final = 0.2
_PRECISION_SHARE_BARE: Final = 0.8
"""The same for examples of nothing but stop words."""

_MIN_SIMILAR: Final = 72.0
"""Ratio (0-100) below which two words have nothing to do with each other."""

MAX_WORDS: Final = 60
"""Words of an utterance that are looked at."""


def tokens(text: str) -> list[str]:
    """Lower-case words without accents, apostrophes and punctuation; ``3:30`` is two words."""
    folded = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(c for c in folded if not unicodedata.combining(c))
    return re.findall(r"[^\W_]+", plain.replace("'", "").replace("’", ""))


@dataclass(frozen=True, slots=True)
class Match:
    """One candidate."""

    name: str
    score: float
    """0 to 1; 1 is an example word for word."""


class Matcher:
    """Ranks names by their example phrases."""

    def __init__(self, examples: Mapping[str, Iterable[str]]) -> None:
        """``examples``: name → phrases. Placeholders in braces are left out of account."""
        self._examples = {
            name: [words for phrase in phrases if (words := tokens(_unfilled(phrase)))]
            for name, phrases in examples.items()
        }
        names_with: dict[str, set[str]] = {}
        for name, phrases in self._examples.items():
            for words in phrases:
                for word in words:
                    names_with.setdefault(word, set()).add(name)
        count = max(1, len(self._examples))
        self._weights = {
            word: (_STOP_WEIGHT if word in _STOP else 1.0) * math.log(1 + count / len(names))
            for word, names in names_with.items()
        }
        self._unknown = math.log(1 + count)

    def rank(self, text: str, names: Iterable[str] | None = None) -> list[Match]:
        """Candidates among ``names`` (default: all), best first; scores of zero are left out."""
        heard = tokens(text)[:MAX_WORDS]
        if not heard:
            return []
        # A recognizer may have cut one word in two.
        parts = heard + [a + b for a, b in zip(heard, heard[1:], strict=False)]
        similar: dict[tuple[str, str], float] = {}
        matches = []
        for name in self._examples if names is None else names:
            phrases = self._examples.get(name, ())
            score = max((self._score(heard, parts, e, similar) for e in phrases), default=0.0)
            if score > 0:
                matches.append(Match(name, score))
        return sorted(matches, key=lambda match: -match.score)

    def _score(
        self,
        heard: list[str],
        parts: list[str],
        example: list[str],
        similar: dict[tuple[str, str], float],
    ) -> float:
        found = {word: max(_similar(word, part, similar) for part in parts) for word in example}
        weight = sum(self._weight(word) for word in example)
        recall = sum(self._weight(word) * found[word] for word in example) / weight
        if recall == 0:
            return 0.0
        explained = extra = 0.0
        for word in heard:
            best = max(_similar(e, word, similar) for e in example)
            explained += self._weight(word) * best
            extra += self._weight(word) * (1 - best)
        precision = explained / (explained + extra)
        # A bare "no" or "bye" means itself only where little else was said.
        share = _PRECISION_SHARE_BARE if all(w in _STOP for w in example) else _PRECISION_SHARE
        return recall * (1 - share + share * precision)

    def _weight(self, word: str) -> float:
        if word in self._weights:
            return self._weights[word]
        return self._unknown * (_STOP_WEIGHT if word in _STOP else 0.5)


def _unfilled(phrase: str) -> str:
    return re.sub(r"\{[^}]*\}", " ", phrase)


def _similar(a: str, b: str, known: dict[tuple[str, str], float]) -> float:
    if a == b:
        return 1.0
    if min(len(a), len(b)) <= 3:
        return 0.0
    key = (a, b)
    if key not in known:
        ratio = fuzz.ratio(a, b, score_cutoff=_MIN_SIMILAR)
        known[key] = ratio / 100
    return known[key]
