"""Owed speech, on time lines made for the purpose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.loadtest.ear import Span
from ringtrue.loadtest.meters import unexplained_silences

RATE = 8000


def s(start: float, end: float) -> Span:
    return Span(round(start * RATE), round(end * RATE))


def silences(
    agent: list[Span], caller: list[Span], *, end: float = 60.0, excused: tuple[Span, ...] = ()
) -> list[Span]:
    return unexplained_silences(
        agent, caller, RATE, begin=0, end=round(end * RATE), excused=excused
    )


def test_a_conversation_without_waits_has_none() -> None:
    agent = [s(0.6, 4), s(7.5, 9), s(9.8, 12), s(20, 22)]
    caller = [s(5, 7), s(18, 19)]
    assert silences(agent, caller) == []


@pytest.mark.parametrize(
    ("agent", "caller", "expected"),
    [
        ([s(1.6, 3)], [], [s(0, 1.6)]),
        ([s(0.5, 3), s(8, 9)], [s(4, 6)], [s(6, 8)]),
        ([s(0.5, 3), s(6.5, 7), s(9, 10)], [s(4, 6)], [s(7, 9)]),
        ([s(0.5, 3)], [s(4, 6)], [s(6, 60)]),
        ([], [], [s(0, 60)]),
        ([s(0.5, 5), s(8, 9)], [s(4, 6)], [s(6, 8)]),
    ],
    ids=["greeting", "answer", "filler, then nothing", "no answer", "nobody", "barge-in"],
)
def test_where_speech_was_owed(agent: list[Span], caller: list[Span], expected: list[Span]) -> None:
    assert silences(agent, caller) == expected


def test_who_still_talks_when_the_caller_is_done_owes_from_his_last_sample() -> None:
    assert silences([s(0.5, 6.2), s(8, 9)], [s(5, 6)]) == [s(6.2, 8)]


def test_a_call_on_hold_owes_nothing() -> None:
    agent, caller = [s(0.5, 3), s(30, 31)], [s(4, 6)]
    assert silences(agent, caller, excused=(s(6.5, 29),)) == []
    assert silences(agent, caller, excused=(s(6.5, 20),)) == [s(20, 30)]
    assert silences(agent, caller, excused=(s(10, 20),)) == [s(6, 10), s(20, 30)]


@given(st.lists(st.floats(0.1, 5), min_size=2, max_size=30), st.data())
def test_every_silence_is_longer_than_the_limit_and_holds_no_speech(
    steps: list[float], data: st.DataObject
) -> None:
    agent, caller, at = [], [], 0.0
    for gap, length in zip(steps[::2], steps[1::2], strict=False):
        span = s(at + gap, at + gap + length)
        (agent if data.draw(st.booleans()) else caller).append(span)
        at += gap + length
    found = silences(agent, caller, end=at + 3)
    for silence in found:
        assert len(silence) > 1.5 * RATE
        assert not any(silence.overlaps(span) for span in agent + caller)
