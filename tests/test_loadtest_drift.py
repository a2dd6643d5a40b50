"""A leak is told from a staircase and from noise, and the interval holds the truth."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from ringtrue.loadtest.drift import (
    FAILURES_TOLD,
    LIMIT_MIB,
    MIB,
    Drift,
    Held,
    Reading,
    binned,
    drift_of,
    theil_sen,
)

REST = Held(rss_bytes=400 * MIB, descriptors=40, tasks=10, rtp_ports=0, sip_calls=0)


def readings(
    memory: Callable[[float], float], *, minutes: float = 60.0, every: float = 1.0
) -> list[Reading]:
    """``memory`` gives MiB at a moment."""
    count = int(minutes * 60 / every)
    return [Reading(n * every, memory(n * every) * MIB, 44) for n in range(count)]


def every_six_seconds(calls: int) -> list[float]:
    """When calls ended: the hundredth after ten minutes."""
    return [6.0 * n for n in range(1, calls + 1)]


def judged(memory: Callable[[float], float], *, minutes: float = 60.0) -> Drift:
    made = readings(memory, minutes=minutes)
    return drift_of(made, REST, REST, ended=every_six_seconds(400))


def noise(seed: int, deviation: float) -> Callable[[], float]:
    chance = random.Random(seed)
    return lambda: chance.gauss(0, deviation)


def test_a_server_that_holds_still_passes() -> None:
    shake = noise(1, 0.3)
    drift = judged(lambda _: 400 + shake())
    assert drift.ok
    assert drift.certain
    assert abs(drift.rss_mib.per_hour) < 0.3
    assert drift.lines()[0].startswith("PASS: 400 calls, 0 failed, 50 min")


def test_a_leak_is_found_through_the_noise() -> None:
    shake = noise(2, 1.5)
    drift = judged(lambda at: 400 + 6.0 * at / 3600 + shake())
    assert not drift.ok
    assert drift.certain
    assert drift.rss_mib.per_hour == pytest.approx(6, abs=1.5)
    assert "memory grows by" in drift.lines()[-1]


def test_the_interval_holds_the_truth() -> None:
    held = 0
    for seed in range(40):
        shake = noise(seed, 2.0)
        slope = judged(lambda at, shake=shake: 400 + 3.0 * at / 3600 + shake()).rss_mib  # type: ignore[misc]
        held += slope.low <= 3.0 <= slope.high
    assert 34 <= held <= 40


def test_caches_that_fill_in_the_warm_up_and_single_spikes_are_no_leak() -> None:
    def memory(at: float) -> float:
        spike = 150 if 2000 < at < 2100 else 0
        return 300 + 100 * min(1.0, at / 500) + spike

    drift = judged(memory)
    assert drift.ok
    assert drift.warm_up_seconds == 600
    assert drift.warm_up_mib == pytest.approx(95, abs=6)
    assert "10 min in which memory grew by +9" in drift.lines()[2]
    grows_on = judged(lambda at: 300 + 100 * min(1.0, at / 3600))
    assert not grows_on.ok


def test_records_that_fill_late_prolong_the_warm_up() -> None:
    def memory(at: float) -> float:
        return 400 + 6 * min(1.0, at / 900)

    made = readings(memory)
    late = drift_of(made, REST, REST, ended=[9.0 * n for n in range(1, 401)])
    assert (late.warm, late.warm_up_seconds) == (True, 900)
    assert late.ok
    assert late.rss_mib.per_hour == pytest.approx(0, abs=1e-6)
    few = drift_of(made, REST, REST, ended=[60.0 * n for n in range(1, 61)])
    assert not few.warm
    assert few.warm_up_seconds == pytest.approx(1800, abs=1)
    assert "fewer than 100 calls had ended" in few.lines()[2]


def test_each_process_has_a_slope_of_its_own() -> None:
    made = [
        replace(one, processes={"server": round(300 * MIB + 100 * one.at_s), "recognizer": 9 * MIB})
        for one in readings(lambda _: 400.0)
    ]
    drift = drift_of(made, REST, REST, ended=every_six_seconds(400))
    assert drift.processes_mib["server"].per_hour == pytest.approx(360_000 / MIB, abs=0.01)
    assert drift.processes_mib["recognizer"].per_hour == 0
    assert any(line.startswith("of it server +0.34") for line in drift.lines())


def test_steps_as_an_allocator_takes_them() -> None:
    drift = judged(lambda at: 400 + 4 * int(at / 600))
    assert drift.rss_mib.per_hour == pytest.approx(24, abs=6)
    assert not drift.ok


def test_a_short_run_is_not_certain() -> None:
    shake = noise(7, 0.5)
    drift = judged(lambda _: 400 + shake(), minutes=2)
    assert not drift.certain
    assert "too short to be certain" in drift.lines()[1]
    assert drift.rss_mib.low < LIMIT_MIB <= drift.rss_mib.high


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({"descriptors": 45}, "5 descriptors more"),
        ({"tasks": 13}, "3 tasks more"),
        ({"rtp_ports": 1}, "1 RTP ports in use without a call"),
        ({"sip_calls": 2}, "2 calls kept by SIP"),
    ],
)
def test_what_is_left_behind_fails(after: dict[str, int], words: str) -> None:
    made = readings(lambda _: 400.0)
    drift = drift_of(made, REST, replace(REST, **after), ended=every_six_seconds(9))
    assert not drift.ok
    assert words in drift.problems[0]


def test_a_failed_call_fails_the_soak() -> None:
    made = readings(lambda _: 400.0)
    drift = drift_of(made, REST, REST, ended=every_six_seconds(9), failures=["c7: busy"])
    assert drift.problems == ("1 of 9 calls failed: c7: busy",)
    many = drift_of(made, REST, REST, ended=every_six_seconds(99), failures=["busy"] * 50)
    assert many.failed == 50
    assert len(many.failures) == FAILURES_TOLD


def test_descriptors_have_a_slope_of_their_own() -> None:
    made = [replace(r, descriptors=40 + r.at_s / 360) for r in readings(lambda _: 400.0)]
    drift = drift_of(made, REST, REST, ended=every_six_seconds(9))
    assert drift.descriptors.per_hour == pytest.approx(10, abs=0.1)


def test_too_little_is_said_to_be_too_little() -> None:
    with pytest.raises(ValueError, match="no readings"):
        drift_of([], REST, REST, ended=())
    with pytest.raises(ValueError, match="allowed: 8 and more"):
        drift_of(readings(lambda _: 1.0, minutes=0.1), REST, REST, ended=())
    with pytest.raises(ValueError, match="2 points"):
        theil_sen([(0, 1), (1, 2)])


def test_the_arithmetic() -> None:
    assert theil_sen([(0, 1.0), (3600, 2.0), (7200, 3.0)]).per_hour == 1
    line = [(60.0 * n, 5.0 + n / 60) for n in range(40)]
    bent = [*line[:20], (1200.0, 900.0), *line[21:]]
    assert theil_sen(bent).per_hour == pytest.approx(1.0, abs=1e-6)
    assert binned([(0, 1), (1, 9), (2, 2), (10, 4)], 5.0) == [(2.5, 2), (12.5, 4)]


def test_json_and_back() -> None:
    drift = judged(lambda at: 400 + at / 3600)
    adapter = TypeAdapter(Drift)
    assert adapter.validate_json(adapter.dump_json(drift)) == drift
