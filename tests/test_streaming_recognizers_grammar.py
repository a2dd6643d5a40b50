"""Grammar definitions: exclusive sources, files, the trip to a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringtrue.streaming.errors import RecognizerError
from ringtrue.streaming.recognizers.grammar import Grammar
from ringtrue.streaming.recognizers.vocabulary import Vocabulary

WORDS = Vocabulary(("to {city}",), {"city": ("Rome", "Oslo")}, {"oslo": "AA Z L OW"}, digits=False)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "menu.jsgf"
    path.write_text("x")
    for grammar in (
        Grammar(),
        Grammar(vocabulary=WORDS),
        Grammar(jsgf=path, pronunciations={"a": "AH"}),
    ):
        again = Grammar.from_json(grammar.to_json())
        assert again == grammar
        assert again.key == grammar.key


def test_keys_tell_grammars_apart() -> None:
    keys = {
        Grammar().key,
        Grammar(vocabulary=WORDS).key,
        Grammar(vocabulary=Vocabulary(WORDS.phrases, WORDS.slots)).key,
    }
    assert len(keys) == 3


def test_two_sources_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.lm"
    path.write_text("x")
    with pytest.raises(RecognizerError, match="vocabulary and lm"):
        Grammar(vocabulary=WORDS, lm=path)


@pytest.mark.parametrize("name", ["jsgf", "lm", "dictionary"])
def test_missing_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecognizerError, match=rf"{name} '.*absent' is not a file"):
        Grammar(**{name: tmp_path / "absent"})


@pytest.mark.parametrize(("name", "kind"), [("jsgf", "jsgf"), ("lm", "lm"), (None, "general")])
def test_kind(name: str | None, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("x")
    assert (Grammar(**{name: path}) if name else Grammar()).kind == kind
