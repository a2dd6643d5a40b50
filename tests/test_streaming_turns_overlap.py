"""What a sound over the agent is, by its words and its length."""

from __future__ import annotations

import pytest

from ringtrue.config.agent_turns import TURN_WORDS, turn_words
from ringtrue.streaming.turns.overlap import Backchannels, Overlap, OverlapPolicy, Verdict

WORDS = Backchannels(turn_words("en").backchannels, turn_words("en").answers)
POLICY = OverlapPolicy()


def overlap() -> Overlap:
    return Overlap(WORDS, POLICY, 0.0)


@pytest.mark.parametrize(
    "text", ["yeah", "Mm-hm.", "okay okay", "oh I see", "Uh-huh, right", "got it", "OK"]
)
def test_what_listeners_say(text: str) -> None:
    assert WORDS.only(text)


@pytest.mark.parametrize("text", ["stop", "okay but", "yeah what about sunday", "no"])
def test_what_wants_the_floor(text: str) -> None:
    assert not WORDS.only(text)


def test_nothing_is_no_backchannel() -> None:
    assert not WORDS.only("")
    assert not WORDS.only(" … ")


def test_each_languages_answers_are_on_its_list_and_lists_are_words() -> None:
    for code, words in TURN_WORDS.items():
        own = Backchannels(words.backchannels, words.answers)
        for text in (*words.backchannels, *words.answers):
            assert own.only(text), (code, text)
        for text in words.answers:
            assert own.answers(text)
    assert Backchannels(turn_words("de-AT").backchannels).only("Ja, genau")
    assert Backchannels(turn_words("fr").backchannels).only("d’accord")
    assert turn_words("xx") is turn_words("en")


def test_a_hint_that_becomes_nothing_is_noise() -> None:
    it = overlap()
    assert it.verdict(0.1) is None
    it.dismissed()
    assert it.verdict(0.12) is Verdict.NOISE
    assert overlap().verdict(POLICY.hint) is Verdict.NOISE


def test_a_short_sound_waits_for_its_words() -> None:
    it = overlap()
    it.started(-0.1)
    it.stopped(0.3)
    assert it.verdict(0.5) is None
    it.final("mm hm")
    assert it.verdict(0.5) is Verdict.BACKCHANNEL


@pytest.mark.parametrize(("length", "is_it"), [(0.5, Verdict.NOISE), (0.7, Verdict.INTERRUPTION)])
def test_words_that_never_come_leave_its_length(length: float, is_it: Verdict) -> None:
    it = overlap()
    it.started(0.0)
    it.stopped(length)
    assert it.verdict(length + POLICY.text - 0.01) is None
    assert it.verdict(length + POLICY.text + 0.01) is is_it


def test_a_sound_without_credible_words_is_noise_unless_it_was_long() -> None:
    it = overlap()
    it.started(0.0)
    it.stopped(0.8)
    it.final("")
    assert it.verdict(1.0) is Verdict.NOISE
    it = overlap()
    it.started(0.0)
    it.stopped(0.9)
    it.final("")
    assert it.verdict(1.0) is Verdict.INTERRUPTION
    it = overlap()
    it.started(0.0)
    assert it.verdict(1.1) is None
    assert it.verdict(1.15) is Verdict.INTERRUPTION


def test_words_in_the_middle_of_it_may_be_misheard() -> None:
    it = overlap()
    it.started(0.0)
    it.partial("am i'm eight")
    assert it.verdict(0.8) is None
    it.stopped(0.8)
    it.final("")
    assert it.verdict(0.9) is Verdict.NOISE


def test_a_listener_who_says_a_lot_keeps_listening_for_a_while() -> None:
    it = overlap()
    it.started(0.0)
    it.partial("yeah yeah okay")
    assert it.verdict(1.5) is None
    assert it.verdict(POLICY.longest) is Verdict.INTERRUPTION


def test_what_was_said_before_is_not_forgotten() -> None:
    it = overlap()
    it.started(0.0)
    it.stopped(0.3)
    it.started(0.5)
    it.final("stop it")
    it.stopped(0.7)
    it.final("okay")
    assert it.text == "stop it okay"
    assert it.verdict(0.8) is Verdict.INTERRUPTION


def test_no_pause_is_endless() -> None:
    it = overlap()
    it.started(0.0)
    it.stopped(0.4)
    it.started(2.2)
    assert it.verdict(POLICY.most) is Verdict.INTERRUPTION


def test_the_words_of_an_earlier_stretch_are_not_those_of_the_next() -> None:
    """ "Yeah", a pause, a question: the first word's text comes while the question is asked."""
    it = overlap()
    it.started(0.0)
    it.stopped(0.3)
    it.started(0.5)
    it.final("yeah")
    it.stopped(1.1)
    assert it.verdict(1.15) is None
    it.final("what about sunday")
    assert it.verdict(1.3) is Verdict.INTERRUPTION


def test_words_that_want_the_floor_need_not_wait_for_the_rest() -> None:
    it = overlap()
    it.started(0.0)
    it.stopped(0.3)
    it.started(0.5)
    it.final("stop")
    it.stopped(0.8)
    assert it.verdict(0.85) is Verdict.INTERRUPTION


def test_a_long_sounds_first_word_does_not_make_it_a_backchannel() -> None:
    it = overlap()
    it.started(0.0)
    it.partial("yeah")
    it.stopped(1.2)
    assert it.verdict(1.2 + POLICY.text + 0.01) is None
    assert it.verdict(POLICY.most) is Verdict.INTERRUPTION
    it.final("yeah yeah okay right")
    assert it.verdict(1.9) is Verdict.BACKCHANNEL


def test_a_short_sounds_words_are_taken_for_whole_after_a_while() -> None:
    it = overlap()
    it.started(0.0)
    it.partial("yeah")
    it.stopped(0.5)
    assert it.verdict(0.6) is None
    assert it.verdict(0.5 + POLICY.text + 0.01) is Verdict.BACKCHANNEL
