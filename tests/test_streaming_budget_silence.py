"""Owed silence: what counts, since when, and for how long."""

from __future__ import annotations

import pytest

from ringtrue.streaming.budget.silence import SilenceMeter, UnexplainedSilence


class Line:
    """A meter and its ticks."""

    def __init__(self) -> None:
        self.found: list[UnexplainedSilence] = []
        self.meter = SilenceMeter(self.found.append)
        self.spoke: list[tuple[float, int]] = []
        self.meter.on_speech = lambda now, utterances: self.spoke.append((now, utterances))
        self.ticks = 0

    @property
    def now(self) -> float:
        return round(self.ticks * 0.02, 2)

    def run(self, seconds: float, *, audible: bool) -> None:
        for n in range(round(seconds / 0.02)):
            self.ticks += 1
            self.meter.tick(self.now, audible, began=audible and n == 0)


def test_silence_counts_only_while_an_answer_is_owed() -> None:
    line = Line()
    line.run(30, audible=False)
    line.meter.owe(line.now, lambda: "llm", 3)
    line.run(1.5, audible=False)
    line.meter.settle()
    line.run(30, audible=False)
    assert line.found == []


def test_one_that_is_too_long_is_told_once_and_measured_to_its_end() -> None:
    line = Line()
    line.meter.owe(0.0, lambda: "llm", 3)
    line.run(1.54, audible=False)
    (silence,) = line.found
    line.run(2.0, audible=False)
    line.run(1.0, audible=True)
    assert line.found == [silence]
    assert silence.as_dict(answered_at=-10.0) == {
        "at_ms": 10000.0,
        "ms": pytest.approx(3540.0),
        "cause": "llm",
        "turn": 3,
    }


def test_a_filler_that_is_not_followed_by_the_answer_is_followed_by_another_silence() -> None:
    line = Line()
    line.meter.owe(0.0, lambda: "llm")
    line.run(1.0, audible=False)
    line.run(0.6, audible=True)
    line.run(1.6, audible=False)
    (silence,) = line.found
    assert silence.at == pytest.approx(1.6)
    assert line.spoke[0] == (1.02, 1)
    assert line.meter.utterances == 1


def test_a_call_at_rest_is_silent_by_design() -> None:
    line = Line()
    line.meter.owe(0.0, lambda: "llm")
    for _ in range(200):
        line.ticks += 1
        line.meter.rest(line.now)
    line.run(1.4, audible=False)
    assert line.found == []
    assert line.meter.owed
