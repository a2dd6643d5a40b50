"""The playout buffer: every sample once, in order, with a cursor that can be trusted."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtrue.streaming.drafts import Ticket
from ringtrue.streaming.gate import FrameKind
from ringtrue.streaming.playout import MAX_PAUSED, Playout
from ringtrue.streaming.playout_steps import Step
from ringtrue.streaming.ports import Licence
from ringtrue.streaming.provenance import Lane, Provenance

RATE = 8000
FRAME = 320


class Tickets:
    """Hands out tickets and counts them."""

    def __init__(self) -> None:
        self.opened = 0

    def __call__(self) -> Ticket:
        self.opened += 1
        return Ticket("c", self.opened)


def drain(playout: Playout[str], tickets: Tickets, ticks: int) -> list[Step[str]]:
    """Take ``ticks`` frames."""
    return [playout.take(n * 0.02, tickets) for n in range(ticks)]


SEALS = Provenance("c", RATE)


def put(playout: Playout[str], pcm: bytes, now: float, licence: Licence | None = None) -> bool:
    """Write ``pcm`` as one chunk."""
    return playout.write(SEALS.utterance().seal(pcm, now, licence=licence))


def noise(samples: int, seed: int = 1) -> bytes:
    """PCM that is nowhere zero."""
    generator = np.random.default_rng(seed)
    return generator.integers(1, 30000, samples, dtype=np.int16).tobytes()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 700), max_size=12), st.integers(0, 2**32))
def test_what_is_written_in_any_pieces_comes_out_whole(pieces: list[int], seed: int) -> None:
    playout: Playout[str] = Playout(RATE)
    pcm = noise(sum(pieces), seed)
    playout.begin("u")
    offset = 0
    for size in pieces:
        assert put(playout, pcm[2 * offset : 2 * (offset + size)], 0.0)
        offset += size
    playout.finish()
    steps = drain(playout, Tickets(), sum(pieces) // 160 + 2)
    out = b"".join(s.draft.pcm(FRAME) for s in steps if s.draft.ticket is not None)
    assert out[: len(pcm)] == pcm
    assert not any(out[len(pcm) :])
    assert len(out) - len(pcm) < FRAME
    assert all(len(s.draft.pcm(FRAME)) == FRAME for s in steps)


def test_silence_goes_out_when_nothing_is_queued() -> None:
    playout: Playout[str] = Playout(RATE)
    (step,) = drain(playout, Tickets(), 1)
    assert step.draft.pcm(FRAME) == bytes(FRAME)
    assert step.draft.kind is FrameKind.SILENCE
    assert step.draft.ticket is None
    assert not step.underrun


def test_began_ended_and_tickets_follow_the_utterances() -> None:
    playout: Playout[str] = Playout(RATE)
    tickets = Tickets()
    for label in ("one", "two"):
        playout.begin(label)
        put(playout, noise(320), 0.0)
    playout.finish()
    steps = drain(playout, tickets, 5)
    assert [s.began for s in steps] == ["one", None, "two", None, None]
    assert [s.ended for s in steps] == [None, "one", None, "two", None]
    assert [s.draft.ticket and s.draft.ticket.utterance for s in steps] == [1, 1, 2, 2, None]
    assert [s.draft.pieces[0].start for s in steps[:4]] == [0, 320, 0, 320]


def test_marks_are_released_once_their_last_sample_went_out() -> None:
    playout: Playout[str] = Playout(RATE)
    playout.begin("u")
    playout.mark("start")
    put(playout, noise(200), 0.0)
    playout.mark("at 200")
    put(playout, noise(280), 0.0)
    playout.mark("end")
    playout.finish()
    assert [s.heard for s in drain(playout, Tickets(), 4)] == [["start"], ["at 200"], ["end"], []]


def test_marks_beyond_the_audio_are_released_with_its_end() -> None:
    playout: Playout[str] = Playout(RATE)
    playout.begin("u")
    put(playout, noise(160), 0.0)
    playout.mark("late", at=10_000)
    playout.finish()
    assert drain(playout, Tickets(), 1)[0].heard == ["late"]


def test_marks_of_an_utterance_without_audio_keep_their_place() -> None:
    playout: Playout[str] = Playout(RATE)
    playout.begin("a")
    put(playout, noise(160), 0.0)
    playout.begin("empty")
    playout.mark("empty")
    playout.finish()
    heard = [s.heard for s in drain(playout, Tickets(), 2)]
    assert heard == [[], ["empty"]]
    assert not playout.mark("now")


def test_a_far_end_that_confirms_late_releases_late() -> None:
    playout: Playout[str] = Playout(RATE)
    playout.begin("u")
    put(playout, noise(160), 0.0)
    playout.mark("one")
    put(playout, noise(160), 0.0)
    playout.mark("two")
    playout.finish()
    tickets = Tickets()
    assert playout.take(0.0, tickets, 0).heard == []
    assert playout.take(0.02, tickets, 160).heard == ["one"]
    assert not playout.idle
    assert playout.take(0.04, tickets, 319).heard == []
    assert playout.take(0.06, tickets, 320).heard == ["two"]
    assert playout.idle


def test_underruns_are_counted_only_inside_an_utterance_that_began() -> None:
    playout: Playout[str] = Playout(RATE)
    tickets = Tickets()
    playout.begin("u")
    assert not playout.take(0.0, tickets).underrun
    put(playout, noise(160), 0.0)
    playout.take(0.02, tickets)
    assert playout.take(0.04, tickets).underrun
    put(playout, noise(100), 0.04)
    step = playout.take(0.06, tickets)
    assert step.underrun
    assert step.draft.pcm(FRAME) == bytes(FRAME)
    playout.finish()
    assert not playout.take(0.08, tickets).underrun
    assert playout.underruns == 2


def test_a_cut_reports_what_was_heard_and_drops_the_rest() -> None:
    playout: Playout[str] = Playout(RATE)
    tickets = Tickets()
    playout.begin("u")
    put(playout, noise(160), 0.0)
    playout.mark("heard")
    put(playout, noise(480), 0.0)
    playout.mark("unheard")
    playout.begin("next")
    put(playout, noise(160), 0.0)
    drain(playout, tickets, 2)
    cut = playout.cut()
    assert cut.label == "u"
    assert cut.heard_samples == 320
    assert cut.dropped_samples == 480
    assert cut.unheard == ("unheard",)
    assert playout.idle
    assert playout.take(1.0, tickets).draft.pcm(FRAME) == bytes(FRAME)
    assert playout.cut().label is None


def test_a_cut_before_the_far_end_played_counts_marks_as_unheard() -> None:
    playout: Playout[str] = Playout(RATE)
    playout.begin("u")
    put(playout, noise(160), 0.0)
    playout.mark("sent")
    playout.finish()
    playout.take(0.0, Tickets(), 0)
    assert playout.cut(0).unheard == ("sent",)


def test_a_cut_counts_only_what_the_far_end_confirmed() -> None:
    playout: Playout[str] = Playout(RATE)
    tickets = Tickets()
    drain(playout, tickets, 3)
    playout.begin("u")
    put(playout, noise(1600), 0.0)
    drain(playout, tickets, 5)
    assert playout.position == 8 * 160
    assert playout.cut(6 * 160).heard_samples == 3 * 160
    playout.begin("u")
    put(playout, noise(1600), 0.0)
    drain(playout, tickets, 2)
    assert playout.cut(6 * 160).heard_samples == 0


def test_a_pause_the_far_end_has_not_confirmed_yet_is_no_unheard_speech() -> None:
    playout: Playout[str] = Playout(RATE)
    tickets = Tickets()
    playout.begin("u")
    put(playout, noise(1600), 0.0)
    drain(playout, tickets, 5)
    assert playout.pause(0.1)
    drain(playout, tickets, 4)
    # It has played all five frames, and one of the four of silence.
    assert playout.cut(6 * 160).heard_samples == 5 * 160


def test_is_bounded_and_gives_room_back() -> None:
    playout: Playout[str] = Playout(RATE, max_seconds=1.0)
    playout.begin("u")
    writes = 0
    while put(playout, noise(160), 0.0):
        writes += 1
        assert writes < 1000
    assert writes == 50
    playout.take(0.0, Tickets())
    assert playout.has_room()


def test_writing_without_an_utterance_is_an_error() -> None:
    playout: Playout[str] = Playout(RATE)
    with pytest.raises(ValueError, match="begin"):
        put(playout, b"\0\0", 0.0)
    playout.begin("u")
    with pytest.raises(ValueError, match="16-bit"):
        put(playout, b"\0", 0.0)


def test_digits_are_an_utterance_of_tones_with_their_steps() -> None:
    playout: Playout[str] = Playout(RATE)
    playout.write_digits("4#", 0.0, SEALS.utterance(Lane.TONES))
    steps = drain(playout, Tickets(), 19)
    digits = [s.draft.digit.digit if s.draft.digit else "." for s in steps[:18]]
    assert "".join(digits) == "44444....#####...."
    assert steps[0].draft.kind is FrameKind.DIGIT
    assert steps[18].draft.ticket is None
    with pytest.raises(ValueError, match="'X'"):
        playout.write_digits("1x", 0.0, SEALS.utterance(Lane.TONES))


def test_positions_count_every_tick() -> None:
    playout: Playout[str] = Playout(RATE)
    rng = random.Random(3)
    tickets = Tickets()
    for _ in range(200):
        if rng.random() < 0.1:
            playout.begin("u")
            put(playout, noise(rng.randrange(1, 900)), 0.0)
            playout.finish()
        playout.take(0.0, tickets)
    assert playout.position == 200 * 160


def test_an_utterance_said_to_be_over_after_its_last_sample_still_ends() -> None:
    playout: Playout[str] = Playout(RATE)
    tickets = Tickets()
    playout.begin("u")
    put(playout, noise(160), 0.0)
    assert playout.take(0.0, tickets).ended is None
    playout.take(0.02, tickets)
    playout.mark("end")
    playout.finish()
    playout.begin("next")
    put(playout, noise(160), 0.04)
    playout.finish()
    steps = [playout.take(0.04 + n * 0.02, tickets) for n in range(3)]
    assert [s.ended for s in steps] == ["u", "next", None]
    assert [s.began for s in steps] == [None, "next", None]
    assert steps[0].heard == ["end"]
    assert not steps[0].underrun


def test_waiting_for_the_word_that_it_is_over_is_no_underrun() -> None:
    playout: Playout[str] = Playout(RATE)
    tickets = Tickets()
    playout.begin("u")
    put(playout, noise(160), 0.0)
    drain(playout, tickets, 20)
    playout.finish()
    drain(playout, tickets, 2)
    assert playout.underruns == 0


def test_digits_divide_the_utterance_being_written() -> None:
    playout: Playout[str] = Playout(RATE)
    playout.begin("u")
    put(playout, noise(160), 0.0)
    playout.write_digits("4", 0.0, SEALS.utterance(Lane.TONES))
    put(playout, noise(320), 0.0)
    playout.mark("early", at=320)
    playout.mark("late", at=480)
    playout.finish()
    steps = drain(playout, Tickets(), 13)
    assert [s.ended for s in steps if s.ended] == ["u", "dtmf:1", "u"]
    assert [n for n, s in enumerate(steps) if s.heard] == [10, 11]
    assert playout.idle


class Leave:
    """A licence that holds until it is told otherwise."""

    voice, consent = "v_1", "serial-1"

    def __init__(self) -> None:
        self.good = True

    def holds(self, now: float) -> bool:
        return self.good


def test_audio_is_withheld_while_its_licence_does_not_hold() -> None:
    playout, tickets, licence = Playout[str](RATE), Tickets(), Leave()
    pcm = noise(480)
    playout.begin("u")
    put(playout, pcm, 0.0, licence)
    playout.finish()
    out = [playout.take(0.0, tickets)]
    licence.good = False
    held = drain(playout, tickets, 5)
    assert all(step.draft.kind is FrameKind.SILENCE for step in held)
    assert playout.withheld == 5
    assert playout.pending_seconds == pytest.approx(0.04)
    licence.good = True
    out += drain(playout, tickets, 2)
    assert playout.withheld == 0
    assert b"".join(step.draft.pcm(FRAME) for step in out) == pcm
    assert {step.draft.licence for step in out} == {licence}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 400), st.sampled_from([None, 0, 1])), max_size=10))
def test_a_frame_is_under_one_licence_or_none(pieces: list[tuple[int, int | None]]) -> None:
    """And no sample of a cloned voice goes under another licence than its own."""
    playout, tickets, licences = Playout[str](RATE), Tickets(), (Leave(), Leave())
    playout.begin("u")
    for samples, which in pieces:
        value = 1 if which is None else 100 + which
        pcm = np.full(samples, value, np.int16).tobytes()
        put(playout, pcm, 0.0, None if which is None else licences[which])
    playout.finish()
    counted = {None: 0, 0: 0, 1: 0}
    for step in drain(playout, tickets, 10 + len(pieces) + sum(n for n, _ in pieces) // 160):
        values = set(np.frombuffer(step.draft.pcm(FRAME), np.int16).tolist()) - {0}
        assert len(values) <= 1
        for value in values:
            which = None if value == 1 else value - 100
            assert step.draft.licence is (None if which is None else licences[which])
            counted[which] += step.draft.pcm(FRAME).count(np.int16(value).tobytes())
    for which in counted:
        assert counted[which] == sum(n for n, kind in pieces if kind == which)


def test_taking_back_leaves_what_is_not_the_voices() -> None:
    playout, tickets, licence = Playout[str](RATE), Tickets(), Leave()
    playout.begin("cloned")
    playout.mark("begun", at=0)
    put(playout, noise(320), 0.0, licence)
    playout.mark("one")
    put(playout, noise(320), 0.0, licence)
    playout.mark("two")
    playout.finish()
    playout.write_digits("1", 0.0, SEALS.utterance(Lane.TONES))
    playout.begin("sound")
    put(playout, noise(160), 0.0)
    playout.finish()
    playout.begin("next")
    playout.mark("three")
    for _ in range(3):
        playout.take(0.0, tickets)
    before = playout.pending_seconds
    cut = playout.take_back()
    assert (cut.label, cut.heard, cut.unheard) == ("cloned", (), ("two", "three"))
    assert (cut.heard_samples, cut.dropped_samples) == (480, 160)
    assert before - playout.pending_seconds == pytest.approx(0.02)
    rest = drain(playout, tickets, 40)
    assert [step.ended for step in rest if step.ended] == ["dtmf:1", "sound"]
    assert playout.idle


def test_taking_back_behind_another_utterance_does_not_cut_it() -> None:
    playout, tickets = Playout[str](RATE), Tickets()
    playout.begin("sound")
    put(playout, noise(640), 0.0)
    playout.begin("cloned")
    put(playout, noise(160), 0.0, Leave())
    playout.take(0.0, tickets)
    assert playout.take_back().label is None
    assert [step.ended for step in drain(playout, tickets, 5) if step.ended] == ["sound"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=20), st.integers(1, 4000))
def test_a_pause_loses_and_repeats_nothing(moves: list[tuple[bool, int]], samples: int) -> None:
    playout, tickets = Playout[str](RATE), Tickets()
    pcm = noise(samples)
    playout.begin("u")
    put(playout, pcm, 0.0)
    playout.mark("end")
    playout.finish()
    taken: list[Step[str]] = []
    for pausing, ticks in moves:
        if pausing:
            playout.pause(0.0)
        else:
            playout.resume()
        taken += drain(playout, tickets, ticks)
    playout.resume()
    taken += drain(playout, tickets, samples // 160 + 2)
    out = b"".join(s.draft.pcm(FRAME) for s in taken if s.draft.ticket is not None)
    assert out[: len(pcm)] == pcm
    assert tickets.opened == 1
    assert [s.ended for s in taken if s.ended] == ["u"]
    assert [mark for s in taken for mark in s.heard] == ["end"]
    assert playout.underruns == 0
    assert not any(step.underrun for step in taken)


def test_only_speech_that_sounds_is_paused_and_not_for_ever() -> None:
    playout, tickets = Playout[str](RATE), Tickets()
    assert not playout.pause(0.0)
    playout.begin("u")
    put(playout, noise(1600), 0.0)
    assert not playout.pause(0.0), "it has not begun"
    drain(playout, tickets, 2)
    assert playout.pause(1.0)
    assert playout.pause(2.0), "it is paused"
    steps = drain(playout, tickets, MAX_PAUSED + 1)
    assert [n for n, step in enumerate(steps) if step.draft.ticket is not None] == [MAX_PAUSED]
    assert not playout.paused
    assert playout.pause(7.0)
    assert playout.cut().paused_at == 7.0
    assert not playout.paused
    assert playout.cut().paused_at is None


def test_digits_are_dialled_through() -> None:
    playout, tickets = Playout[str](RATE), Tickets()
    playout.write_digits("1", 0.0, SEALS.utterance(Lane.TONES))
    drain(playout, tickets, 1)
    assert not playout.pause(0.0)
