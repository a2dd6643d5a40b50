"""Pronunciations: looked up, given, guessed."""

from __future__ import annotations

from pathlib import Path

import pocketsphinx
import pytest

from ringtrue.streaming.errors import RecognizerError
from ringtrue.streaming.recognizers import lexicon
from ringtrue.streaming.recognizers.lexicon import LETTERS, PHONES, look_up

SHIPPED = Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict"


def test_dictionary_words_keep_their_alternatives() -> None:
    found = look_up(["the", "hello"], SHIPPED)
    assert found.entries["the"] == ("DH AH", "DH IY")
    assert found.guessed == {}
    assert found.dictionary().splitlines() == [
        "hello HH AH L OW",
        "hello(2) HH EH L OW",
        "the DH AH",
        "the(2) DH IY",
    ]


def test_own_pronunciation_wins_and_is_no_guess() -> None:
    found = look_up(["read"], SHIPPED, {"read": "r eh d"})
    assert found.entries == {"read": ("R EH D",)}
    assert found.guessed == {}


def test_own_pronunciations_of_other_words_are_left_out() -> None:
    assert set(look_up(["yes"], SHIPPED, {"kowalczyk": "K OW"}).entries) == {"yes"}


def test_unknown_words_are_guessed_and_reported() -> None:
    found = look_up(["ringtrue", "yes"], SHIPPED)
    assert set(found.guessed) == {"ringtrue"}
    assert found.entries["ringtrue"] == (found.guessed["ringtrue"],)
    assert PHONES.issuperset(found.guessed["ringtrue"].split())


def test_without_flite_words_are_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(lexicon.ctypes, "CDLL", absent)
    assert look_up(["abqx"], SHIPPED).guessed == {"abqx": "EY B IY K Y UW EH K S"}


def test_letters_use_the_models_phones() -> None:
    assert set(LETTERS) == set("abcdefghijklmnopqrstuvwxyz")
    assert all(PHONES.issuperset(phones.split()) for phones in LETTERS.values())


@pytest.mark.parametrize("word", ["", "Hello", "two words", "x" * 41, "a\0b", "1st", "'", "naïve"])
def test_what_is_no_word_is_named(word: str) -> None:
    with pytest.raises(RecognizerError, match="can't be a vocabulary word"):
        look_up([word], SHIPPED)


@pytest.mark.parametrize(("phones", "message"), [("K XX", "'XX'"), (" ", "is empty")])
def test_bad_pronunciation_is_named(phones: str, message: str) -> None:
    with pytest.raises(RecognizerError, match=message):
        look_up(["acme"], SHIPPED, {"acme": phones})


def test_missing_dictionary_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecognizerError, match=r"nowhere\.dict"):
        look_up(["acme"], tmp_path / "nowhere.dict")
