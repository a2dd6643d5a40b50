"""Word patterns, on whole texts and word by word."""

from __future__ import annotations

import pytest

from ringtrue.streaming.llm.word_patterns import MAX_FILLERS, Found, Patterns, Scan

SETS = {"f": "a very real"}


def find(pattern: str, text: str) -> Found | None:
    return Patterns([pattern], SETS).find(text.split())


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("am human", "i am human here", (1, 3)),
        ("am|m human|person", "i m person", (1, 3)),
        ("am not? human", "am human", (0, 2)),
        ("am not? human", "am not human", (0, 3)),
        ("am not? human", "am not not human", None),
        ("am <f> human", "am human", (0, 2)),
        ("am <f> human", "am a very very real human", (0, 6)),
        ("am <f> human", "am a good human", None),
        ("<f> human", "is a real human", (1, 4)),
        ("am a? <f> real human", "am a real real human", (0, 5)),
        ("am human !made", "am human made", None),
        ("am human !made", "am human made am human", (3, 5)),
        ("am human !made", "am human again", (0, 2)),
        ("~no am human", "no am human", None),
        ("~no am human", "yes am human", (1, 3)),
        ("am human that?", "am human", (0, 2)),
        ("am am human", "am am am human", (1, 4)),
        ("bin ähnlich", "bin ahnlich", (0, 2)),
    ],
)
def test_a_pattern_is_found(pattern: str, text: str, found: tuple[int, int] | None) -> None:
    assert find(pattern, text) == (None if found is None else Found(*found))


def test_fillers_are_bounded() -> None:
    assert find("am <f> human", "am " + "a " * MAX_FILLERS + "human") is not None
    assert find("am <f> human", "am " + "a " * (MAX_FILLERS + 1) + "human") is None


def test_a_new_clause_is_not_preceded() -> None:
    scan = Scan(Patterns(["~no am human"]))
    assert scan.feed("no") is None
    assert scan.feed("am", new_clause=True) is None
    assert scan.feed("human") == Found(1, 3)


def test_what_waits_is_known() -> None:
    scan = Scan(Patterns(["am <f> human"], SETS))
    assert [scan.feed(word) or scan.earliest for word in ["i", "am", "a", "very"]] == [
        None,
        1,
        1,
        1,
    ]
    scan.feed("good")
    assert scan.earliest is None


def test_a_pattern_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="matches nothing"):
        Patterns(["a? <f>"], SETS)
