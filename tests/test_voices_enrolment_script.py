from __future__ import annotations

import pytest
from enrolment_audio import challenge

from ringtrue.voices.enrolment.script import check_readable, script_for


def said(name: str, purpose: str = "tests") -> list[list[str]]:
    """Every way each word of a name may be said, after the "I"."""
    part = script_for(challenge(name, purpose)).parts[0]
    return [[" ".join(reading) for reading in word] for word in part.readings][1:]


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        ("Ada", [["ada"]]),
        ("Anna-Maria O'Neil", [["anna"], ["maria"], ["o'neil"]]),
        ("Jürgen Größe", [["jurgen"], ["grosse"]]),
        ("Søren Łukasz", [["soren"], ["lukasz"]]),
        ("Example Ltd.", [["example"], ["ltd", "limited"]]),
        ("Dr. Who & Co", [["dr", "doctor"], ["who"], ["and"], ["co", "company"]]),
        ("BBC", [["bbc", "b b c"]]),
        ("J.R.R. Smith", [["j r r"], ["smith"]]),
        ("Studio 54", [["studio"], ["fifty four"]]),
        ("Class of 1984", [["class"], ["of"], ["one nine eight four", "nineteen eighty four"]]),
    ],
)
def test_names_may_be_said_in_the_ways_they_are_written(name: str, ways: list[list[str]]) -> None:
    assert said(name) == ways


def test_the_script_is_the_statement_and_the_drawn_words() -> None:
    script = script_for(challenge())
    assert [part.name for part in script.parts] == ["name", "consent", "cloning", "purpose"]
    assert script.drawn == ("seven", "four", "nine", "amber", "river")
    assert all(word in choice for word, choice in zip(script.drawn, script.choices, strict=True))
    assert len(script.choices[0]) == 9
    assert len(script.choices[-1]) > 100


@pytest.mark.parametrize(
    ("name", "purpose", "message"),
    [
        ("Ольга", "tests", "name holds .* Latin letters"),
        ("Ada", "客服", "purpose holds .* Latin letters"),
        ("!!!", "tests", "name holds no word"),
        ("A" * 41, "tests", "name holds a word of more than 40 letters"),
    ],
)
def test_what_cannot_be_heard_is_refused_by_name(name: str, purpose: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_readable(name, purpose)
    with pytest.raises(ValueError, match=message):
        script_for(challenge(name, purpose))
