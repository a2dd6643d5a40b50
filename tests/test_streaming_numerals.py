"""Numbers as words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.streaming import numerals


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("0", "zero"),
        ("21", "twenty one"),
        ("1,234", "one thousand two hundred and thirty four"),
        ("-5", "minus five"),
        ("3.14", "three point one four"),
        (".5", "zero point five"),
        ("007", "zero zero seven"),
        (
            "1234567890123456",
            "one two three four five six seven eight nine zero one two three four five six",
        ),
    ],
)
def test_cardinal(number: str, words: str) -> None:
    assert numerals.cardinal(number) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("1999", "nineteen ninety nine"),
        ("2007", "two thousand and seven"),
        ("1500", "fifteen hundred"),
    ],
)
def test_year(number: str, words: str) -> None:
    assert numerals.year(number) == words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("$", "1"), "one dollar"),
        (("$", "5.20"), "five dollars and twenty cents"),
        (("$", "0.01"), "one cent"),
        (("$", "5.00"), "five dollars"),
        (("£", "1.01"), "one pound and one penny"),
        (("€", "2,500"), "two thousand five hundred euros"),
        (("$", "1.5", "million"), "one point five million dollars"),
        (("$", "0"), "zero dollars"),
    ],
)
def test_money(arguments: tuple[str, ...], words: str) -> None:
    assert numerals.money(*arguments) == words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("5", "30", "p"), "five thirty P M"),
        (("05", "05", ""), "five oh five"),
        (("9", "00", ""), "nine o'clock"),
        (("9", "00", "a"), "nine A M"),
        (("17", "00", ""), "seventeen hundred"),
        (("17", "45", ""), "seventeen forty five"),
    ],
)
def test_clock(arguments: tuple[str, str, str], words: str) -> None:
    assert numerals.clock(*arguments) == words


@pytest.mark.parametrize(
    ("run", "groups"),
    [
        ("1234", ["1234"]),
        ("12345", ["123", "45"]),
        ("5551234", ["555", "1234"]),
        ("5551234567", ["555", "123", "4567"]),
        ("12345678", ["1234", "5678"]),
    ],
)
def test_regroup(run: str, groups: list[str]) -> None:
    assert numerals.regroup(run) == groups


@given(st.text("0123456789", max_size=40))
def test_regrouping_keeps_every_digit(run: str) -> None:
    assert "".join(numerals.regroup(run)) == run
    assert len(numerals.digits(run).split()) == len(run)


@pytest.mark.parametrize(
    ("number", "words"),
    [("1990", "nineteen nineties"), ("80", "eighties"), ("1900", "nineteen hundreds")],
)
def test_decade(number: str, words: str) -> None:
    assert numerals.decade(number) == words


def test_ordinal() -> None:
    assert numerals.ordinal("21") == "twenty first"
    assert numerals.ordinal("1,000") == "one thousandth"
