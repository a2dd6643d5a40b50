"""Slot values out of words."""

from __future__ import annotations

from datetime import date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.config.agent_dialogue import (
    ChoiceSlot,
    DateSlot,
    DigitsSlot,
    NumberSlot,
    Slot,
    TextSlot,
    TimeSlot,
)
from ringtrue.streaming.llm.slots import (
    parse_keys,
    parse_slot,
    say_date,
    say_time,
    spoken_date,
    spoken_digits,
    spoken_number,
    spoken_time,
)

SATURDAY = datetime(2026, 11, 21, 10, 5)
DIGITS = DigitsSlot(type="digits", ask=("?",), min_length=4, max_length=6)
NUMBER = NumberSlot(type="number", ask=("?",), min=1, max=100)
COLOUR = ChoiceSlot(
    type="choice", ask=("?",), options={"red": ("crimson",), "light blue": ("sky blue",)}
)


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("one two double three four", ["12334"]),
        ("triple seven oh", ["7770"]),
        ("my number is five five and then six", ["556"]),
        ("forty two fifteen", ["4215"]),
        ("order for two seven", ["27"]),
        ("five for two", ["542"]),
        ("12 34-5", ["12345"]),
        ("one two is not three", ["12", "3"]),
        ("to be or not to be", []),
        ("", []),
    ],
)
def test_digits(text: str, runs: list[str]) -> None:
    assert spoken_digits(text) == runs


def test_digits_slot_wants_its_length() -> None:
    value = parse_slot(DIGITS, "that is one two three four", SATURDAY)
    assert value is not None
    assert (value.value, value.spoken) == ("1234", "1 2 3 4")
    assert parse_slot(DIGITS, "one two", SATURDAY) is None
    assert parse_slot(DIGITS, "1234567", SATURDAY) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("two hundred and five", 205),
        ("three thousand four hundred and one", 3401),
        ("about 25 people", 25),
        ("twenty-five", 25),
        ("1,250", 1250),
        ("a dozen", 12),
        ("none", None),
    ],
)
def test_numbers(text: str, number: int | None) -> None:
    assert spoken_number(text) == number


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("today please", date(2026, 11, 21)),
        ("tomorrow", date(2026, 11, 22)),
        ("the day after tomorrow", date(2026, 11, 23)),
        ("next tuesday", date(2026, 11, 24)),
        ("on saturday", date(2026, 11, 28)),
        ("wendsday", date(2026, 11, 25)),
        ("in three days", date(2026, 11, 24)),
        ("in a week", date(2026, 11, 28)),
        ("the fifth of may", date(2027, 5, 5)),
        ("may 5", date(2027, 5, 5)),
        ("december twenty first", date(2026, 12, 21)),
        ("on the third", date(2026, 12, 3)),
        ("the thirty first", date(2026, 12, 31)),
        ("february twenty ninth", date(2028, 2, 29)),
        ("i may come on monday", date(2026, 11, 23)),
        ("february thirtieth", None),
        ("banana", None),
    ],
)
def test_dates(text: str, day: date | None) -> None:
    assert spoken_date(text, SATURDAY.date()) == day


@pytest.mark.parametrize(
    ("text", "clock"),
    [
        ("half past three", (15, 30)),
        ("quarter to four", (15, 45)),
        ("twenty past nine", (9, 20)),
        ("five to one", (12, 55)),
        ("3:30 pm", (15, 30)),
        ("ten a.m.", (10, 0)),
        ("12 a.m.", (0, 0)),
        ("noon", (12, 0)),
        ("midnight", (0, 0)),
        ("three oh five", (15, 5)),
        ("eight thirty in the evening", (20, 30)),
        ("seven o'clock in the morning", (7, 0)),
        ("fifteen thirty", (15, 30)),
        ("1545", (15, 45)),
        ("25:00", None),
        ("banana", None),
    ],
)
def test_times(text: str, clock: tuple[int, int] | None) -> None:
    expected = None if clock is None else clock[0] * 60 + clock[1]
    assert spoken_time(text) == expected


def test_choice_by_name_synonym_and_mishearing() -> None:
    for text in ("red", "the crimson one", "crimsen"):
        value = parse_slot(COLOUR, text, SATURDAY)
        assert value is not None, text
        assert value.value == "red"
    value = parse_slot(COLOUR, "sky blue please", SATURDAY)
    assert value is not None
    assert value.value == "light blue"
    assert parse_slot(COLOUR, "green", SATURDAY) is None
    assert parse_slot(COLOUR, "", SATURDAY) is None


def test_keys() -> None:
    value = parse_keys(DIGITS, "1234#")
    assert value is not None
    assert value.value == "1234"
    assert parse_keys(DIGITS, "12#") is None
    number = parse_keys(NUMBER, "42")
    assert number is not None
    assert number.value == "42"
    assert parse_keys(NUMBER, "101") is None
    assert parse_keys(NUMBER, "#") is None
    colour = parse_keys(COLOUR, "2")
    assert colour is not None
    assert colour.value == "light blue"
    assert parse_keys(COLOUR, "3") is None
    assert parse_keys(DateSlot(type="date", ask=("?",)), "1") is None


def test_spoken_back() -> None:
    assert say_date(date(2026, 5, 1)) == "Friday, the 1st of May"
    assert say_date(date(2026, 5, 12)) == "Tuesday, the 12th of May"
    assert say_date(date(2026, 5, 23)) == "Saturday, the 23rd of May"
    assert [say_time(h, m) for h, m in ((0, 0), (9, 5), (12, 0), (12, 30), (23, 59))] == [
        "12 AM",
        "9:05 AM",
        "noon",
        "12:30 PM",
        "11:59 PM",
    ]


ALL: list[Slot] = [
    DIGITS,
    NUMBER,
    COLOUR,
    DateSlot(type="date", ask=("?",)),
    TimeSlot(type="time", ask=("?",)),
    TextSlot(type="text", ask=("?",), max_words=3),
]


@given(
    st.text(max_size=80)
    | st.lists(
        st.sampled_from(
            [
                "half",
                "past",
                "to",
                "quarter",
                "three",
                "oh",
                "twenty",
                "first",
                "of",
                "may",
                "10",
                "²",
                "double",
                "hundred",
                "am",
                "p.m.",
                "in",
                "days",
                "next",
                "friday",
                "0",
                "99",
            ]
        )
    ).map(" ".join)
)
def test_no_words_break_a_slot(text: str) -> None:
    for slot in ALL:
        value = parse_slot(slot, text, SATURDAY)
        assert value is None or value.value
        parse_keys(slot, "".join(c for c in text if c in "0123456789*#"))
