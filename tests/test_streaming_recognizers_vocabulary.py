"""Vocabularies: spelling out, slots, compiling."""

from __future__ import annotations

from pathlib import Path

import pocketsphinx
import pytest

from ringtrue.streaming.errors import RecognizerError
from ringtrue.streaming.recognizers.vocabulary import (
    DIGITS,
    MAX_VARIANTS,
    Vocabulary,
    compile_vocabulary,
    normalize,
    sentences,
)

SHIPPED = Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict"
BARE = {"yes_no": False, "courtesy": False, "digits": False}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I'd like 2 rooms, please!", "i'd like two rooms please"),
        ("Press 1 or 24.", "press one or twenty four"),
        ("call 5551", "call five five five one"),
        ("007", "zero zero seven"),
        ("follow-up at Café Zoë", "follow up at cafe zoe"),
        ("it\N{RIGHT SINGLE QUOTATION MARK}s 'fine'", "it's fine"),
        ("?!", ""),
    ],
)
def test_normalize(text: str, words: str) -> None:
    assert " ".join(normalize(text)) == words


def spoken(vocabulary: Vocabulary) -> list[str]:
    return [" ".join(words) for words, _ in sentences(vocabulary)]


def test_slots_are_filled_and_expected_alone() -> None:
    found = spoken(Vocabulary(("to {city}",), {"city": ("Rome", "Oslo")}, **BARE))
    assert sorted(found) == ["oslo", "rome", "to oslo", "to rome"]


def test_several_slots_are_cycled_not_multiplied() -> None:
    slots = {"a": tuple("bcd"), "e": ("f", "g")}
    found = spoken(Vocabulary(("{a} then {e}",), slots, **BARE))
    assert [text for text in found if "then" in text] == ["b then f", "c then g", "d then f"]


def test_expansion_is_bounded() -> None:
    values = tuple(f"{first}{second}x" for first in "abcdefghijklmnopqrstuvwxyz" * 10
                   for second in "abcdefghij")  # fmt: skip
    found = spoken(Vocabulary(("say {word}",), {"word": values}, **BARE))
    assert sum(text.startswith("say ") for text in found) == MAX_VARIANTS


def test_built_in_slots() -> None:
    found = spoken(Vocabulary(("on {day}",), **BARE))
    assert "on friday" in found
    assert "friday" in found


def test_digit_strings_hold_every_pair() -> None:
    found = spoken(Vocabulary(("hello",), yes_no=False, courtesy=False))
    assert {f"{a} {b}" for a in DIGITS for b in DIGITS} <= set(found)


@pytest.mark.parametrize("slots", [{}, {"city": ()}])
def test_slot_without_values_is_named(slots: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(RecognizerError, match="'city' of phrase 'to {city}'"):
        sentences(Vocabulary(("to {city}",), slots))


def test_empty_vocabulary_is_refused() -> None:
    with pytest.raises(RecognizerError, match="empty"):
        compile_vocabulary(Vocabulary(("...",), **BARE), SHIPPED)


def test_compiled_words_match_in_model_and_dictionary() -> None:
    compiled = compile_vocabulary(Vocabulary(("reach Ringtrue on {day}",)), SHIPPED)
    unigrams = compiled.arpa.split("\\1-grams:")[1].split("\\2-grams:")[0]
    words = {line.split("\t")[1] for line in unigrams.split("\n") if "\t" in line}
    assert words - {"<s>", "</s>"} == set(compiled.lexicon.entries)
    assert set(compiled.lexicon.guessed) == {"ringtrue"}
