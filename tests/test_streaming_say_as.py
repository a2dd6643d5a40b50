"""Texts whose reading is prescribed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.config.speech_markup import DATE_FORMATS, SAY_AS, SayAs
from ringtrue.streaming.normalize import normalize
from ringtrue.streaming.say_as import say_as
from ringtrue.streaming.ssml import Passage, parse


@pytest.mark.parametrize(
    ("kind", "text", "spoken"),
    [
        ("digits", "4821", "four eight two one"),
        ("digits", "48 21", "four eight, two one"),
        ("digits", "1a2", "one A two"),
        ("characters", "AbC-12", "A B C dash one two"),
        ("spell-out", "née x.y", "N E E, X dot Y"),
        ("spell-out", "", None),
        (
            "telephone",
            "+44 20 7946 0958",
            "plus four four, two zero, seven nine four six, zero nine five eight",
        ),
        ("telephone", "5551234567", "five five five, one two three, four five six seven"),
        ("telephone", "911", "nine one one"),
        ("telephone", "1-800-CALL", "one, eight zero zero, C A L L"),
        ("telephone", "?", None),
        ("cardinal", "2024", "two thousand and twenty four"),
        ("cardinal", "-1,234.5", "minus one thousand two hundred and thirty four point five"),
        ("cardinal", "+3", "three"),
        ("cardinal", "many", None),
        ("ordinal", "3", "third"),
        ("ordinal", "21st", "twenty first"),
        ("ordinal", "1.5", None),
        ("ordinal", "-2", None),
        ("date", "3/4/2025", "march fourth, twenty twenty five"),
        ("date", "14/3/2025", "march fourteenth, twenty twenty five"),
        ("date", "2025-03-14", "march fourteenth, twenty twenty five"),
        ("date", "20250314", "march fourteenth, twenty twenty five"),
        ("date", "3.4.25", "march fourth, twenty twenty five"),
        ("date", "3/4", "march fourth"),
        ("date", "99/99", None),
        ("date", "March 3rd", None),
    ],
)
def test_said(kind: str, text: str, spoken: str | None) -> None:
    assert say_as(SayAs(kind), text) == spoken


@pytest.mark.parametrize(
    ("order", "text", "spoken"),
    [
        ("dmy", "3/4/2025", "april third, twenty twenty five"),
        ("dm", "3.4", "april third"),
        ("md", "3/4", "march fourth"),
        ("ymd", "25-03-14", "march fourteenth, twenty twenty five"),
        ("mdy", "14/3/2025", None),
        ("dm", "3/4/2025", None),
    ],
)
def test_dates_follow_their_format(order: str, text: str, spoken: str | None) -> None:
    assert say_as(SayAs("date", order), text) == spoken


@given(
    st.sampled_from(SAY_AS),
    st.sampled_from(["", *DATE_FORMATS]),
    st.text("0123456789-/.,+ ast²٣"),
    st.text(max_size=8),
)
def test_nothing_raises(kind: str, order: str, soup: str, text: str) -> None:
    for one in (soup, text):
        words = say_as(SayAs(kind, order), one)
        assert words is None or words.strip()
        assert not any(char in "0123456789" for char in words or "")


def pairs(markup: str) -> list[tuple[str, str]]:
    (part,) = parse(markup).parts
    assert isinstance(part, Passage)
    return [(pair.written, pair.spoken) for pair in normalize(part.text, part.said)]


def test_a_reading_is_one_word_with_what_touches_it() -> None:
    assert pairs(
        'Your PIN: <say-as interpret-as="digits">48 21</say-as>, and not'
        ' (<say-as interpret-as="characters">ab.</say-as>)!'
    ) == [
        ("Your", "your"),
        ("PIN:", "pin:"),
        ("48 21,", "four eight, two one,"),
        ("and", "and"),
        ("not", "not"),
        ("(ab.)!", "A B!"),
    ]


def test_nothing_outside_is_read_together_with_it() -> None:
    assert pairs('March <say-as interpret-as="cardinal">3</say-as> 2025') == [
        ("March", "march"),
        ("3", "three"),
        ("2025", "twenty twenty five"),
    ]


def test_what_cannot_be_read_as_prescribed_is_read_as_usual() -> None:
    assert pairs('<say-as interpret-as="ordinal">$5.20 off</say-as>') == [
        ("$5.20", "five dollars and twenty cents"),
        ("off", "off"),
    ]
