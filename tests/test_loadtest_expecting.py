"""Expectations, judged on calls of known shape."""

from __future__ import annotations

import numpy as np
import pytest

from ringtrue.loadtest.caller import CallResult, Failure, RefusedError
from ringtrue.loadtest.ear import Span, find_speech
from ringtrue.loadtest.expecting import expectations, late_names, unheard
from ringtrue.loadtest.line import Said
from ringtrue.loadtest.recording import Recording
from ringtrue.loadtest.report import report_call
from ringtrue.loadtest.results import Expected
from ringtrue.loadtest.scenario.reading import parse_scenario
from ringtrue.loadtest.scenario.schema import Scenario
from ringtrue.streaming.ports import EndReason

RATE = 8000


def scenario(expect: str) -> Scenario:
    return parse_scenario(
        f"name: x\ntitle: x\nexpect: {{{expect}}}\nsteps: [{{say: yeah}}]", "x.yaml"
    )


def samples(seconds: float) -> int:
    return round(seconds * RATE)


def spoken(name: str, start: float, end: float, *, interrupts: bool = False) -> Said:
    return Said(name, name, Span(samples(start), samples(end)), interrupts)


def call(
    *agent: tuple[float, float],
    said: tuple[Said, ...] = (),
    murmured: tuple[Said, ...] = (),
    length: float = 20.0,
    holes: tuple[tuple[float, float], ...] = (),
) -> CallResult:
    """A call in which the agent was heard at these times (s), with holes of zeros cut into it."""
    loud = np.zeros(samples(length), "<i2")
    noise = np.random.default_rng(1).choice([-3000, 3000], len(loud)).astype("<i2")
    for start, end in agent:
        loud[samples(start) : samples(end)] = noise[samples(start) : samples(end)]
    for start, end in holes:
        loud[samples(start) : samples(end)] = 0
    recording = Recording(RATE, 0)
    recording.heard(loud.tobytes())
    recording.sent(bytes(2 * len(loud)))
    return CallResult(
        "c0",
        setup_seconds=0.25,
        answered=0,
        answered_at=1.0,
        said=list(said),
        murmured=list(murmured),
        agent=find_speech(loud.tobytes(), RATE),
        recording=recording,
    )


def judged(expect: str, result: CallResult) -> dict[str, Expected]:
    found = expectations(scenario(expect), result, report_call(result))
    return {one.name: one for one in found}


def test_times_are_held_to_their_limits() -> None:
    result = call((0.5, 2), (4.3, 6), said=(spoken("yeah", 3, 4),))
    good = "answered_within_ms: 300, greeting_within_ms: 501, answers_within_ms: 301"
    for one in judged(good, result).values():
        assert one.passed, one
        assert one.value is not None
        assert one.limit is not None
    bad = "answered_within_ms: 200, greeting_within_ms: 499, answers_within_ms: 298"
    assert not any(one.passed for one in judged(bad, result).values())


def test_an_answer_that_never_came_is_not_met() -> None:
    one = judged("answers_within_ms: 5000", call((0.5, 2), said=(spoken("yeah", 3, 4),)))
    assert not one["answers_within"].passed
    assert one["answers_within"].evidence == "no answer"
    never = judged("answers_within_ms: 5000", call((0.5, 2)))
    assert never["answers_within"].evidence == "the call did not come to it"


@pytest.mark.parametrize(("limit", "passed"), [(320, True), (280, False)])
def test_an_agent_that_is_spoken_over_stops(limit: int, passed: bool) -> None:
    result = call((0.5, 3.3), (6, 7), said=(spoken("wait", 3, 4, interrupts=True),))
    assert judged(f"stops_within_ms: {limit}", result)["stops_within"].passed is passed


def test_a_murmur_stops_nothing() -> None:
    murmur = (spoken("uh", 2, 2.4, interrupts=True),)
    kept = judged("keeps_talking_within_ms: 800", call((0.5, 6), murmured=murmur))
    assert kept["keeps_talking"].passed
    assert kept["keeps_talking"].evidence == "spoke on"
    paused = call((0.5, 2.2), (2.8, 6), murmured=murmur)
    one = judged("keeps_talking_within_ms: 800", paused)["keeps_talking"]
    assert (one.passed, one.value) == (True, pytest.approx(600, abs=2))
    assert not judged("keeps_talking_within_ms: 500", paused)["keeps_talking"].passed
    gone = judged("keeps_talking_within_ms: 800", call((0.5, 2.2), murmured=murmur))
    assert gone["keeps_talking"].evidence == "the sentence was given up"
    assert not gone["keeps_talking"].passed


def test_a_gap_is_one_unless_the_caller_explains_it() -> None:
    hole = ((2.0, 2.2),)
    one = judged("no_gap_over_ms: 120", call((0.5, 4), holes=hole))["no_gap_over"]
    assert not one.passed
    assert one.value == pytest.approx(200, abs=2)
    assert judged("no_gap_over_ms: 250", call((0.5, 4), holes=hole))["no_gap_over"].passed
    murmur = (spoken("uh", 1.8, 2.1, interrupts=True),)
    waited = call((0.5, 4), holes=hole, murmured=murmur)
    assert judged("no_gap_over_ms: 120", waited)["no_gap_over"].passed
    assert not judged("no_gap_over_ms: 120", call())["no_gap_over"].passed


def test_silence_counts_only_where_speech_is_owed() -> None:
    said = (spoken("yeah", 3, 4),)
    late = judged("no_silence_over_ms: 1500", call((0.5, 2), (6.5, 8), said=said))
    assert late["no_silence_over"].value == pytest.approx(2500, abs=5)
    assert not late["no_silence_over"].passed
    quiet = call((0.5, 2), (6.5, 8))
    quiet.kept_quiet.append(Span(samples(2), samples(6.5)))
    assert judged("no_silence_over_ms: 1500", quiet)["no_silence_over"].passed
    keys = call((0.5, 2), (6.5, 8))
    keys.pressed.append(Span(samples(5.5), samples(6)))
    assert judged("no_silence_over_ms: 1500", keys)["no_silence_over"].passed


def test_who_ends_the_call_is_told_apart() -> None:
    result = call((0.5, 2))
    assert judged("ends: caller", result)["ends"].passed
    assert not judged("ends: agent", result)["ends"].passed
    result.ended = EndReason.CALLER_HUNG_UP
    assert judged("ends: agent", result)["ends"].passed
    result.ended = EndReason.FAR_END_LOST
    assert not judged("ends: agent", result)["ends"].passed


def test_a_call_that_was_refused_meets_only_that() -> None:
    refused = CallResult("c0", Failure.NOT_ANSWERED, "503", refused=RefusedError(503, "Busy", 10))
    assert judged("refused: true", refused)["refused"].passed
    assert not judged("refused: true", call((0.5, 2)))["refused"].passed
    names = "greeting_within_ms: 1, no_gap_over_ms: 1, no_silence_over_ms: 1, ends: agent"
    assert not any(one.passed for one in judged(names, refused).values())


def test_what_needs_ears_is_named_and_failed_where_nothing_was_heard() -> None:
    wanted = scenario("disclosure_first: true, watermark: true, says: {yeah: hours}").expect
    assert set(late_names(wanted)) == {"disclosure_first", "watermark", "says.yeah"}
    assert [one.passed for one in unheard(wanted, "nothing was heard")] == [False] * 3
