"""Written English as spoken English, word by word."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ringtrue.streaming.normalize import normalize


def said(text: str) -> str:
    return " ".join(pair.spoken for pair in normalize(text) if pair.spoken)


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Hello, world!", "hello, world!"),
        ("It's nine.", "it's nine."),
        # numbers
        (
            "I have 2 cats and 1,234.5 fleas.",
            "i have two cats and one thousand two hundred and thirty four point five fleas.",
        ),
        ("It's -5°C.", "it's minus five degrees celsius."),
        ("the 7th of 21", "the seventh of twenty one"),
        ("3/4 of it, 1/2 cup", "three quarters of it, one half cup"),
        ("version 1.2.3", "version one point two point three"),
        ("5-10 days", "five to ten days"),
        ("12% off", "twelve percent off"),
        ("20 km/h", "twenty kilometers per hour"),
        ("1 kg or 5kg", "one kilogram or five kilograms"),
        ("room #12", "room number twelve"),
        ("24/7", "twenty four seven"),
        # identifiers
        ("order 48213", "order four eight two, one three"),
        ("48213 people", "forty eight thousand two hundred and thirteen people"),
        ("agent 007", "agent zero zero seven"),
        ("AB1234", "A B one two three four"),
        ("COVID-19 and MP3", "covid nineteen and M P three"),
        # telephone numbers
        ("555-0123", "five five five, zero one two three"),
        ("(555) 123-4567.", "five five five, one two three, four five six seven."),
        ("+44 20 7946 0958", "plus four four, two zero, seven nine four six, zero nine five eight"),
        ("1-800-555-0199", "one, eight zero zero, five five five, zero one nine nine"),
        ("5551234567", "five five five, one two three, four five six seven"),
        # dates
        ("March 3rd, 2025.", "march third, twenty twenty five."),
        ("3 March", "the third of march"),
        ("the Dec. 24 party", "the december twenty fourth party"),
        ("2025-03-14", "march fourteenth, twenty twenty five"),
        ("3/14/2025", "march fourteenth, twenty twenty five"),
        ("14/3/2025", "march fourteenth, twenty twenty five"),
        ("in 1999", "in nineteen ninety nine"),
        ("2019-2024", "twenty nineteen to twenty twenty four"),
        ("the 1990s and '80s", "the nineteen nineties and eighties"),
        ("You may march in May.", "you may march in may."),
        # times
        ("5:30 pm", "five thirty P M"),
        ("at 5 p.m. we", "at five P M we"),
        ("It ends at 5 p.m.", "it ends at five P M."),
        ("9:00-17:00", "nine o'clock to seventeen hundred"),
        ("9am", "nine A M"),
        # money
        ("$5.20, please", "five dollars and twenty cents, please"),
        ("$1.5 million", "one point five million dollars"),
        ("-$3", "minus three dollars"),
        ("$5-$10", "five dollars to ten dollars"),
        ("£20k", "twenty thousand pounds"),
        # abbreviations and acronyms
        ("Dr. Smith of St. Mary's St.", "doctor smith of saint mary's street."),
        ("No. 5", "number five"),
        ("No. I won't.", "no. i won't."),
        ("e.g. this, i.e. that, etc.", "for example this, that is that, et cetera."),
        ("The FBI, NASA and U.S. TVs", "the F B I, nasa and U S T V's"),
        ("I have plan B, a vitamin C.", "i have plan B, a vitamin C."),
        ("A.J. Jones", "A J jones"),
        ("Enter your PIN.", "enter your pin."),
        ("HELLO THERE MY FRIEND", "hello there my friend"),
        # addresses
        ("https://www.example.com/help", "example dot com slash help"),
        ("a@b.co.uk", "A at B dot C O dot U K"),
        ("john.doe99@example.org.", "john dot doe ninety nine at example dot org."),
        # punctuation and the rest
        ("really?!", "really?"),
        ("wait... what", "wait. what"),
        ("this — that", "this, that"),
        ('"Quoted" (paren) *bold*', "quoted paren bold"),
        ("and/or", "and or"),
        ("R&D", "R and D"),
        ("🙂 hi", "hi"),
        ("don’t", "don't"),
        ("", ""),
    ],
)
def test_said(written: str, spoken: str) -> None:
    assert said(written) == spoken


def test_a_number_in_several_words_is_one_pair() -> None:
    pairs = [
        (pair.written, pair.spoken) for pair in normalize("Call (555) 123-4567, at 5:30 pm 🙂!")
    ]
    assert pairs == [
        ("Call", "call"),
        ("(555) 123-4567,", "five five five, one two three, four five six seven,"),
        ("at", "at"),
        ("5:30 pm", "five thirty P M!"),
        ("🙂!", ""),
    ]


@given(st.text())
@example("1" * 5000)
@example("$" * 50 + "1/2/3/4")
@example("12/0/0 0/0 99:99 25:00 32nd 0th 13/13/13 February 31 May 0")
@example("-.-.-.5.-")
@example("²³½ ①②")
@example("A.B.C.D")
def test_every_character_is_in_a_pair_and_nothing_raises(text: str) -> None:
    pairs = normalize(text)
    assert "".join("".join(pair.written.split()) for pair in pairs) == "".join(text.split())
    assert all(pair.written == pair.written.strip() for pair in pairs)


@given(st.text("0123456789-/.:,$€%° abpm()+#\n", max_size=60))
def test_numeric_soup_never_raises(text: str) -> None:
    spoken = " ".join(pair.spoken for pair in normalize(text))
    assert not any(char.isdigit() for char in spoken)
