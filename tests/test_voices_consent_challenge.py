"""Challenges: what is said, and that a token stands for one thing only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import combinations
from pathlib import Path

import pocketsphinx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from ringtrue.voices.consent.challenge import clean, issue, open_token
from ringtrue.voices.consent.errors import ChallengeError, ChallengeRefusal
from ringtrue.voices.consent.words import DIGITS, WORDS

NOW = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)


def pronunciations() -> dict[str, list[str]]:
    dictionary = Path(pocketsphinx.__file__).parent / "model" / "en-us" / "cmudict-en-us.dict"
    wanted = {*WORDS, *DIGITS.values()}
    rows = (line.split() for line in dictionary.read_text().splitlines())
    return {row[0]: row[1:] for row in rows if row[0] in wanted}


def test_the_recognizer_knows_every_word_and_hears_them_apart() -> None:
    phones = pronunciations()
    assert phones.keys() == {*WORDS, *DIGITS.values()}
    assert len(set(WORDS)) == len(WORDS) >= 128
    close = [
        (one, other)
        for one, other in combinations(WORDS, 2)
        if Levenshtein.distance(phones[one], phones[other]) < 2
    ]
    assert close == []


def test_the_text() -> None:
    issued = issue("acme", "Ada", "reception of Example Ltd", NOW)
    challenge = issued.challenge
    assert challenge.statement == (
        "I, Ada, consent to the cloning of my voice for reception of Example Ltd."
    )
    *digits, first, second = challenge.phrase.split()
    assert challenge.text == f"{challenge.statement} {challenge.phrase}."
    assert [int(digit) for digit in digits] == list(challenge.digits)
    assert len(digits) == 3
    assert all(1 <= digit <= 9 for digit in challenge.digits)
    assert (first, second) == challenge.words
    assert challenge.spoken_phrase == (*(DIGITS[d] for d in challenge.digits), first, second)
    assert challenge.expires == NOW + timedelta(minutes=10)


def test_the_token_is_the_challenge() -> None:
    issued = issue("acme", "Ada", "reception", NOW)
    expires = issued.challenge.expires
    opened, digest = open_token(issued.token, "acme", " Ada ", "reception", expires)
    assert (opened, digest) == (issued.challenge, issued.digest)
    for other in (
        ("evil", "Ada", "reception"),
        ("acme", "Eve", "reception"),
        ("acme", "Ada", "fraud"),
        ("acmeA", "da", "reception"),
    ):
        assert open_token(issued.token, *other, expires)[1] != issued.digest


def test_phrases_are_spread_over_what_they_can_be() -> None:
    issued = [issue("acme", "Ada", "reception", NOW) for _ in range(2000)]
    phrases = {one.challenge.phrase for one in issued}
    assert len(phrases) > 1990  # of 16 million
    assert {word for one in issued for word in one.challenge.words} == set(WORDS)
    for place in range(3):
        assert {one.challenge.digits[place] for one in issued} == set(range(1, 10))


def test_nothing_secret_is_printed() -> None:
    issued = issue("acme", "Ada", "reception", NOW)
    for hidden in (issued.token, "Ada", "reception", *issued.challenge.words):
        assert hidden not in repr(issued)


@given(st.text(max_size=90))
def test_malformed_tokens(token: str) -> None:
    with pytest.raises(ChallengeError) as caught:
        open_token(token, "acme", "Ada", "reception", NOW)
    assert caught.value.reason is ChallengeRefusal.MALFORMED


@pytest.mark.parametrize(
    ("name", "purpose", "ttl", "complaint"),
    [
        ("", "x", 60, "name has 0 characters; allowed: 1 to 80"),
        ("x" * 81, "x", 60, "name has 81 characters"),
        ("Ada", " \n", 60, "purpose has 0"),
        ("Ada", "x" * 161, 60, "purpose has 161"),
        ("A\u202eda", "x", 60, "can't be printed"),
        ("Ada", "x", 0, "ttl 0:00:00 must be above 0 and at most 1:00:00"),
        ("Ada", "x", 3601, "ttl 1:00:01"),
    ],
)
def test_unfit_requests(name: str, purpose: str, ttl: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        issue("acme", name, purpose, NOW, timedelta(seconds=ttl))


def test_time_needs_a_zone() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        issue("acme", "Ada", "x", NOW.replace(tzinfo=None))
    assert issue("acme", "Ada", "x", NOW.astimezone(timezone(timedelta(hours=9))))


@given(st.text(max_size=100))
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    try:
        once = clean("name", text, 80)
    except ValueError:
        return
    assert clean("name", once, 80) == once
