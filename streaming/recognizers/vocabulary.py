"""What an agent expects to hear, compiled into a language model and a dictionary.

A general language model on telephone audio gets most words wrong with a recognizer this small;
a model of the few hundred things callers really say to one agent makes it useful. Example
phrases may hold slots in braces: ``"a table for {number} on {day}"``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from num2words import num2words

from ringtrue.streaming.errors import RecognizerError
from ringtrue.streaming.recognizers.arpa import NgramModel
from ringtrue.streaming.recognizers.lexicon import Lexicon, look_up

DIGITS: Final = ("zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight",
                 "nine")  # fmt: skip

BUILT_IN_SLOTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "digit": DIGITS,
        "number": tuple(num2words(n).replace("-", " ") for n in range(101)),
        "ordinal": tuple(num2words(n, to="ordinal").replace("-", " ") for n in range(1, 32)),
        "day": ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
        "month": ("january", "february", "march", "april", "may", "june", "july", "august",
                  "september", "october", "november", "december"),
    }
)  # fmt: skip
"""Slots every vocabulary knows; its own of the same name replace them."""

YES_NO: Final = (
    "yes", "yeah", "yes please", "yep", "yes that's right", "that's right", "correct", "sure",
    "okay", "of course", "no", "no thanks", "no thank you", "nope", "no that's wrong",
    "that's wrong", "not really", "i don't know",
)  # fmt: skip
"""Answers to a yes-or-no question."""

COURTESY: Final = (
    "hello", "hi", "good morning", "good afternoon", "thanks", "thank you", "thank you very much",
    "please", "sorry", "excuse me", "can you repeat that", "could you say that again please",
    "goodbye", "bye", "bye bye",
)  # fmt: skip
"""What callers say to any agent."""

MAX_VARIANTS: Final = 400
"""Sentences one phrase is expanded to at most; slot values are cycled, not multiplied out."""

_SLOT: Final = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_NUMBER: Final = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Example phrases and what may fill their slots."""

    phrases: tuple[str, ...]
    """What callers say, written as they say it; digits and accents are allowed."""

    slots: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Values of each slot; a value alone is an expected answer too."""

    pronunciations: Mapping[str, str] = field(default_factory=dict)
    """Own pronunciations in CMU phones, for names the dictionary lacks."""

    yes_no: bool = True
    """Expect :data:`YES_NO` too."""

    courtesy: bool = True
    """Expect :data:`COURTESY` too."""

    digits: bool = True
    """Expect strings of spoken digits too."""


@dataclass(frozen=True, slots=True)
class CompiledVocabulary:
    """What the decoder loads."""

    arpa: str
    """Trigram language model in ARPA format."""

    lexicon: Lexicon
    """Pronunciations of every word in it."""


def normalize(text: str) -> list[str]:
    """Words as they are spoken: lower case, ASCII, numbers spelled out, no punctuation."""
    folded = unicodedata.normalize("NFKD", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    ascii_only = folded.encode("ascii", "ignore").decode().lower()
    spoken = _NUMBER.sub(lambda found: f" {_spoken(found.group())} ", ascii_only)
    words = (word.strip("'") for word in re.findall(r"[a-z']+", spoken))
    return [word for word in words if word]


def _spoken(digits: str) -> str:
    """Up to three digits as a number, longer ones and leading zeros digit by digit."""
    if len(digits) <= 3 and (digits[0] != "0" or digits == "0"):
        return str(num2words(int(digits))).replace("-", " ")
    return " ".join(num2words(int(digit)) for digit in digits)


def sentences(vocabulary: Vocabulary) -> list[tuple[list[str], float]]:
    """The vocabulary expanded to ``(words, weight)`` sentences.

    Raises :class:`~ringtrue.streaming.errors.RecognizerError` naming an unknown or empty slot.
    """
    slots = {**BUILT_IN_SLOTS, **vocabulary.slots}
    texts: list[str] = []
    for phrase in vocabulary.phrases:
        texts += _expand(phrase, slots)
    used = {name for phrase in vocabulary.phrases for name in _SLOT.findall(phrase)}
    for name in sorted(used | set(vocabulary.slots)):
        texts += slots[name]
    if vocabulary.yes_no:
        texts += YES_NO
    if vocabulary.courtesy:
        texts += COURTESY
    weighted = [(words, 1.0) for text in texts if (words := normalize(text))]
    if vocabulary.digits:
        weighted += _digit_strings()
    return weighted


def _expand(phrase: str, slots: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    names = _SLOT.findall(phrase)
    for name in names:
        if not slots.get(name):
            raise RecognizerError(
                f"slot {name!r} of phrase {phrase!r} has no values; "
                f"known slots: {', '.join(sorted(slots))}"
            )
    variants = min(MAX_VARIANTS, max((len(slots[name]) for name in names), default=1))
    for variant in range(variants):
        yield _SLOT.sub(lambda found: slots[found[1]][variant % len(slots[found[1]])], phrase)  # noqa: B023


def _digit_strings() -> Iterable[tuple[list[str], float]]:
    """Every digit alone and every pair, the pairs together weighing as much as the singles."""
    yield from (([digit], 1.0) for digit in DIGITS)
    share = 1.0 / len(DIGITS)
    yield from (([first, second], share) for first in DIGITS for second in DIGITS)


def compile_vocabulary(vocabulary: Vocabulary, dictionary: Path) -> CompiledVocabulary:
    """Estimate the language model and look up every word in ``dictionary`` (CMU format).

    Raises :class:`~ringtrue.streaming.errors.RecognizerError` for an empty vocabulary, an unknown
    slot or a bad pronunciation.
    """
    expanded = sentences(vocabulary)
    if not expanded:
        raise RecognizerError("the vocabulary is empty: give at least one phrase")
    words = {word for sentence, _ in expanded for word in sentence}
    lexicon = look_up(words, dictionary, vocabulary.pronunciations)
    return CompiledVocabulary(NgramModel(expanded).arpa(), lexicon)
