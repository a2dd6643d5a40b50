"""Estimated word marks: in order, complete, within the phrase, and better with every phrase."""

from __future__ import annotations

import pytest

from ringtrue.voices.pocket.marks import FIRST_PACE, Pace, PhraseMarks

PHRASE = "Good morning, this is Example Limited."


def spoken(phrase: str, seconds: float, pace: Pace, start: int = 0, rate: int = 16000) -> list:
    marks = PhraseMarks(phrase, start, rate, pace)
    found = []
    end = start + int(seconds * rate)
    for position in range(start, end, rate * 80 // 1000):
        found += marks.reached(position)
    return found + list(marks.finish(end))


@pytest.mark.parametrize("seconds", [0.1, 2.0, 9.0])
def test_every_word_is_marked_once_in_order_and_inside(seconds: float) -> None:
    found = spoken(PHRASE, seconds, Pace(), start=1000)
    assert [mark.text for mark in found] == PHRASE.split()
    ends = [mark.end for mark in found]
    assert ends == sorted(ends)
    assert ends[0] > 1000
    assert ends[-1] == 1000 + int(seconds * 16000)


def test_the_last_word_ends_with_the_phrase_however_long_it_takes() -> None:
    marks = PhraseMarks("one two", 0, 8000, Pace())
    assert [mark.text for mark in marks.reached(10**9)] == ["one"]
    assert [mark.text for mark in marks.finish(10**9)] == ["two"]


def test_a_slow_voice_is_learnt() -> None:
    pace = Pace()
    early = spoken(PHRASE, 6.0, pace)[0].end
    for _ in range(20):
        spoken(PHRASE, 6.0, pace)
    assert pace.seconds_per_letter > 1.4 * FIRST_PACE
    assert spoken(PHRASE, 6.0, pace)[0].end > early


def test_nonsense_does_not_spoil_the_pace() -> None:
    pace = Pace()
    pace.learn(0, 5.0)
    assert pace.seconds_per_letter == FIRST_PACE
    for _ in range(50):
        pace.learn(1, 1000.0)
    assert pace.seconds_per_letter <= 0.2


def test_a_phrase_without_words_has_no_marks() -> None:
    marks = PhraseMarks("  ", 0, 8000, Pace())
    assert marks.reached(100) == ()
    assert marks.finish(100) == ()
