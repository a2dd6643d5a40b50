"""Owed speech and packets' arrivals, on time lines made for the purpose."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.loadtest.ear import Span
from ringtrue.loadtest.meters import ArrivalMeter, Arrivals, unexplained_silences

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


def feed(packets: list[tuple[int, int, float]]) -> Arrivals:
    meter = ArrivalMeter(8000)
    for sequence, timestamp, now in packets:
        meter.packet(sequence & 0xFFFF, timestamp & 0xFFFF_FFFF, now)
    return meter.figures


def steady(count: int, first: int = 65_500) -> list[tuple[int, int, float]]:
    """Packets 20 ms apart, over the wrap of both counters."""
    return [(first + n, 2**32 - 4000 + 160 * n, 5.0 + 0.02 * n) for n in range(count)]


def test_a_steady_stream() -> None:
    assert feed(steady(200)) == Arrivals(
        received=200, lost=0, late=0, duplicate=0, reordered=0, jitter_ms=0.0, longest_wait_ms=20.0
    )


def test_what_happened_to_packets() -> None:
    packets = steady(200)
    lost = [packets.pop(100), packets.pop(100)]
    packets[50] = (*packets[50][:2], packets[50][2] + 0.07)
    packets[150:150] = [packets[149]]
    packets[20], packets[21] = (*packets[21][:2], packets[20][2]), packets[20]
    figures = feed(packets)
    assert len(lost) == figures.lost == 2
    assert (figures.late, figures.duplicate) == (1, 1)
    # The late packet let the three behind it pass, though none of them counts as out of order.
    assert figures.reordered == 1
    assert figures.longest_wait_ms == pytest.approx(90, abs=0.2)


def test_a_sender_that_falls_silent_is_no_wait_and_a_stall_is() -> None:
    packets = steady(50)
    quiet = [(65_550 + n, 2**32 - 4000 + 160 * (n + 250), 11.0 + 0.02 * n) for n in range(50)]
    assert feed(packets + quiet).longest_wait_ms == 20.0
    stalled = [(sequence, timestamp, now + 0.4) for sequence, timestamp, now in steady(100)[50:]]
    figures = feed(packets + stalled)
    assert figures.longest_wait_ms == pytest.approx(420)
    assert figures.late == 50


def test_a_drifting_clock_makes_nothing_late() -> None:
    packets = [(n, 160 * n, 0.02 * n * 1.0003) for n in range(30_000)]
    assert feed(packets).late == 0


def test_a_stream_that_starts_over_is_no_jump() -> None:
    chance = random.Random(3)
    again = [(9000 + n, 77_000_000 + 160 * n, 9.0 + 0.02 * n) for n in range(100)]
    jittered = [(a, b, c + chance.uniform(0, 0.005)) for a, b, c in steady(100) + again]
    figures = feed(jittered)
    assert (figures.received, figures.lost, figures.late) == (200, 0, 0)
    assert figures.longest_wait_ms < 30
