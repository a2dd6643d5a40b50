"""Which capitals are spelled, and that the lists hold together."""

from __future__ import annotations

import pytest

from ringtrue.streaming.lexicon import ABBREVIATIONS, MONTHS, UNITS, is_spelled


@pytest.mark.parametrize("word", ["FBI", "US", "ATM", "HTTP", "B", "IBAN", "SMS"])
def test_spelled(word: str) -> None:
    assert is_spelled(word)


@pytest.mark.parametrize("word", ["NASA", "PIN", "UNESCO", "A", "I", "NOT", "OK"])
def test_said(word: str) -> None:
    assert not is_spelled(word)


def test_the_lists_are_sound() -> None:
    assert sorted(set(MONTHS.values())) == list(range(1, 13))
    assert (
        list(MONTHS)[:12]
        == [name for name in MONTHS if len(name) > 4 or name in ("June", "July", "May")][:12]
    )
    for names in UNITS.values():
        assert all(name.islower() and name.replace(" ", "").isalpha() for name in names)
    assert not any(name.endswith(".") for name in ABBREVIATIONS)
