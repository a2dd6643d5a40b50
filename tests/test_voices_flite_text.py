"""What may reach Flite."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ringtrue.voices.flite.text import MAX_LETTERS, MAX_WORD, fold, spoken_tokens

ALLOWED = re.compile(r"[a-z]+(?:'[a-z]*)?-?[.?!,;:]?")


@pytest.mark.parametrize(
    ("spoken", "tokens"),
    [
        ("hello, world.", ["hello,", "world."]),
        ("it's twenty-one", ["it's", "twenty", "one"]),
        ("F B I.", ["f-", "b-", "i-."]),
        ("T V's", ["t-", "v's"]),
        ("i am a", ["i", "am", "a"]),
        ("e-mail", ["e-", "mail"]),
        ("café naïve Straße", ["cafe", "naive", "strasse"]),
        ("don’t", ["don't"]),
        ("rock'n'roll", ["rock'n", "roll"]),
        ("nine o'clock", ["nine", "o'clock"]),
        ("wait… what?!", ["wait.", "what!"]),
        ("", []),
        ("... --- 123 🙂", []),
        ("\0\x01\x7f", []),
    ],
)
def test_tokens(spoken: str, tokens: list[str]) -> None:
    assert spoken_tokens(spoken) == tokens


def test_a_long_word_is_spoken_in_parts_and_not_for_ever() -> None:
    tokens = spoken_tokens("x" * 10_000)
    assert [len(token) for token in tokens] == [MAX_LETTERS] * (MAX_WORD // MAX_LETTERS)


@given(st.text())
@example("A'B'C")
@example("'''''s")
@example("a" * 31 + "'s.")
@example("-a-,")
def test_only_plain_words_come_out(text: str) -> None:
    for token in spoken_tokens(text):
        assert ALLOWED.fullmatch(token), token
        assert len(token) <= MAX_LETTERS + 2


@given(st.text())
def test_folding_leaves_ascii(text: str) -> None:
    assert fold(text).isascii()
