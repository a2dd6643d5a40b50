"""The search finds the knee of modelled servers, and says when it can't."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from load_results import completed, refused, run_of
from pydantic import TypeAdapter

from ringtrue.loadtest.capacity import (
    Capacity,
    Measure,
    SearchOverError,
    SearchPolicy,
    Trial,
    find_capacity,
)
from ringtrue.loadtest.results import RunResult
from ringtrue.loadtest.slo import parse_slo

SLO = parse_slo("turn_latency_ms: {p95: 800}\ncalls: {failed: 0.01}", "test")


class Model:
    """A server whose latency rises without bound as the load nears ``saturation``."""

    def __init__(self, saturation: float, *, noise: float = 0.0, admits: int = 10_000) -> None:
        self.saturation = saturation
        self.noise = noise
        self.admits = admits
        self.asked: list[tuple[int, int]] = []

    def latency(self, calls: int, chance: random.Random) -> float | None:
        if calls >= self.saturation:
            return None
        factor = chance.lognormvariate(0, self.noise) if self.noise else 1.0
        return 200 / (1 - calls / self.saturation) * factor

    async def measure(self, calls: int, seed: int) -> RunResult:
        self.asked.append((calls, seed))
        chance = random.Random(f"{calls}/{seed}")
        taken = min(calls, self.admits)
        factor = chance.lognormvariate(0, self.noise) if self.noise else 1.0
        latency = self.latency(taken, chance)
        value = None if latency is None else latency * factor
        made = [completed(f"c{n}", [value] * 3) for n in range(taken)]
        made += [refused(f"r{n}") for n in range(calls - taken)]
        return run_of(made, seed=seed)


def true_knee(saturation: float) -> int:
    """Where 200/(1 - n/saturation) is 800."""
    return int(0.75 * saturation)


@pytest.mark.parametrize("saturation", [2.0, 7.0, 31.0, 64.0, 133.4, 250.0])
async def test_the_knee_of_a_steady_server(saturation: float) -> None:
    model = Model(saturation)
    found = await find_capacity(model.measure, SLO, SearchPolicy(tolerance=0.0))
    assert found.knee == true_knee(saturation)
    assert found.breaks_at == found.knee + 1
    assert found.certain
    assert found.reasons == ("turn_latency_ms.p95",)
    assert f"knee: {found.knee} calls" in found.lines()[0]
    # Both ends were run with two seeds: the third could not have changed the majority.
    for end in (found.knee, found.breaks_at):
        assert [seed for calls, seed in model.asked if calls == end] == [1, 2]


async def test_a_wider_tolerance_takes_fewer_runs() -> None:
    exact, rough = Model(200.0), Model(200.0)
    narrow = await find_capacity(exact.measure, SLO, SearchPolicy(tolerance=0.0))
    wide = await find_capacity(rough.measure, SLO, SearchPolicy(tolerance=0.2))
    assert len(rough.asked) < len(exact.asked)
    assert wide.breaks_at is not None
    assert wide.knee <= narrow.knee < wide.breaks_at <= wide.knee * 1.2 + 1


async def test_a_noisy_server_is_found_within_its_noise_and_the_same_twice() -> None:
    knees = []
    for seed in range(1, 41):
        policy = SearchPolicy(seed=100 * seed)
        first = await find_capacity(Model(80.0, noise=0.08).measure, SLO, policy)
        again = await find_capacity(Model(80.0, noise=0.08).measure, SLO, policy)
        assert first == again
        assert first.certain
        knees.append(first.knee)
    # 16 % noise either way (two standard deviations) moves the knee from 60 to 57 ... 63.
    assert min(knees) >= 55
    assert max(knees) <= 65
    assert 58 <= sorted(knees)[len(knees) // 2] <= 62


async def test_one_unlucky_run_decides_nothing() -> None:
    model = Model(40.0)

    async def once_unlucky(calls: int, seed: int) -> RunResult:
        if (calls, seed) == (16, 1):
            return run_of([completed("c", [5000.0] * 3)], seed=seed)
        return await model.measure(calls, seed)

    found = await find_capacity(once_unlucky, SLO, SearchPolicy(tolerance=0.0))
    assert (found.knee, found.breaks_at, found.certain) == (30, 31, True)


async def test_a_server_that_refuses_names_its_own_knee() -> None:
    polite = parse_slo("turn_latency_ms: {p95: 800}\nleave_out_refused: true", "test")
    found = await find_capacity(
        Model(400.0, admits=23).measure, polite, SearchPolicy(tolerance=0.0)
    )
    assert (found.knee, found.breaks_at, found.reasons) == (23, 24, ("calls.refused",))
    allowed = parse_slo("calls: {refused: 0.5}\nleave_out_refused: true", "test")
    found = await find_capacity(
        Model(400.0, admits=23).measure, allowed, SearchPolicy(tolerance=0.0)
    )
    assert (found.knee, found.breaks_at) == (46, 47)


@pytest.mark.parametrize(
    ("model", "policy", "expected", "words"),
    [
        (Model(1000.0), SearchPolicy(limit=50), (50, None, True), "no limit broke up to 50"),
        (Model(0.5), SearchPolicy(), (0, 1, True), "even 1 calls at once break"),
        (Model(13.4), SearchPolicy(start=64), (10, 11, True), "knee: 10"),
        (Model(1000.0), SearchPolicy(start=9, limit=9), (9, None, True), "up to 9"),
        (Model(160.0), SearchPolicy(max_trials=6), (32, None, False), "up to 32"),
        (Model(160.0), SearchPolicy(max_trials=8), (64, 128, False), "not certain"),
    ],
)
async def test_the_edges(
    model: Model, policy: SearchPolicy, expected: tuple[int, int | None, bool], words: str
) -> None:
    found = await find_capacity(model.measure, SLO, policy)
    assert (found.knee, found.breaks_at, found.certain) == expected
    assert any(words in line for line in found.lines())
    assert len(found.trials) <= policy.max_trials


async def test_each_run_is_told_and_kept() -> None:
    told: list[Trial] = []
    found = await find_capacity(Model(20.0).measure, SLO, on_trial=told.append)
    assert tuple(told) == found.trials
    broke = next(trial for trial in told if not trial.ok)
    assert broke.broken[0].name == "turn_latency_ms.p95"
    assert broke.turn_latency.count == 3 * broke.calls
    json = TypeAdapter(Capacity).dump_json(found)
    assert TypeAdapter(Capacity).validate_json(json) == found


async def test_a_search_that_runs_out_of_time_says_what_it_knows() -> None:
    model = Model(40.0)

    async def measure(calls: int, seed: int) -> RunResult:
        if len(model.asked) == 7:
            raise SearchOverError
        return await model.measure(calls, seed)

    found = await find_capacity(measure, SLO)
    assert found.knee <= true_knee(40.0) < (found.breaks_at or 0)
    assert not found.certain
    assert len(found.trials) == 7
    assert any("not certain" in line for line in found.lines())


async def test_what_measuring_raises_ends_the_search() -> None:
    async def fail(calls: int, seed: int) -> RunResult:
        raise OSError("no server")

    measure: Measure = fail
    with pytest.raises(OSError, match="no server"):
        await find_capacity(measure, SLO)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: SearchPolicy(start=0), "start is 0; allowed: 1 to limit, which is 200"),
        (lambda: SearchPolicy(start=9, limit=8), "start is 9"),
        (lambda: SearchPolicy(repeats=2), "repeats is 2; allowed: 1, 3, 5"),
        (lambda: SearchPolicy(tolerance=2), "tolerance is 2"),
        (lambda: SearchPolicy(max_trials=0), "max_trials is 0"),
    ],
)
def test_a_policy_that_makes_no_sense(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()
