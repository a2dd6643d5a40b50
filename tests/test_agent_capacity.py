"""Whether one call more fits, in virtual time under a modelled load."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from turning_calls import TurningCalls

from ringtrue.agent.capacity import ROOM_TO_OPEN, Capacity, Load
from ringtrue.config.admission_settings import AdmissionSettings
from ringtrue.streaming.ports import Direction

INBOUND, OUTBOUND = Direction.INBOUND, Direction.OUTBOUND
SETTINGS = AdmissionSettings(burst_deviations=0, call_cost=0.03, settle_seconds=6)
"""For the calls of :class:`Machine`, whose load never varies."""

DEFAULTS = AdmissionSettings()
LOOK = 0.5


@dataclass
class Machine:
    """A process whose parts use what its calls cost; ticks come late as its loop fills up."""

    capacity: Capacity
    loop_cost: float = 0.015
    cpu_cost: float = 0.03
    cores: float = 2.0
    later: float = 0.0
    """Seconds after its answer from which a call costs half of its CPU: until then nobody has
    spoken to the recognizer."""

    turn_seconds: float | None = None
    calls: int = 0
    now: float = 100.0
    most: int = 0
    worst_loop: float = 0.0
    worst_cpu: float = 0.0
    refused: dict[str, int] = field(default_factory=dict)
    answered: list[float] = field(default_factory=list)

    @property
    def load(self) -> Load:
        loop = min(1.0, 0.02 + self.calls * self.loop_cost)
        late = 0.0005 / max(0.02, 1.0 - loop)
        silent = sum(self.now - at < self.later for at in self.answered)
        cpu = min(self.cores, 0.03 + (self.calls - silent / 2) * self.cpu_cost)
        return Load(loop=loop, cpu=cpu, cores=self.cores, tick_lateness=late)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self.now < until - 1e-9:
            self.now += LOOK
            if self.turn_seconds is not None:
                for _ in range(self.calls):
                    self.capacity.turn(0.03, self.turn_seconds, self.now)
            load = self.load
            self.capacity.look(load, self.calls, self.now)
            self.worst_loop = max(self.worst_loop, load.loop)
            self.worst_cpu = max(self.worst_cpu, load.cpu)

    def ring(self, direction: Direction = INBOUND) -> bool:
        """One call more, or not."""
        verdict = self.capacity.refuses(self.calls, direction, self.now)
        if verdict is not None:
            assert verdict.pressure > 0
            self.refused[verdict.signal] = self.refused.get(verdict.signal, 0) + 1
            return False
        self.capacity.taken(self.now)
        self.calls += 1
        self.answered.append(self.now)
        self.most = max(self.most, self.calls)
        return True


def machine(settings: AdmissionSettings = SETTINGS, **fields: float) -> Machine:
    made = Machine(Capacity(settings), **fields)  # type: ignore[arg-type]
    made.run(5)
    return made


@pytest.mark.parametrize("loop_cost", [0.005, 0.015, 0.04])
def test_twice_the_knee_is_cut_at_the_limit(loop_cost: float) -> None:
    """Whatever a call costs: the loop stays within its share, and most of that is used."""
    m = machine(loop_cost=loop_cost, cores=64.0)
    knee = (SETTINGS.loop_share - 0.02) / loop_cost
    for _ in range(int(2 * knee)):
        m.ring()
        m.run(1)
    assert m.worst_loop <= SETTINGS.loop_share + loop_cost
    assert 0.8 * knee <= m.calls <= knee + 1
    assert set(m.refused) == {"loop"}
    assert m.capacity.costs["loop"] == pytest.approx(loop_cost, rel=0.2)


def test_a_burst_counts_before_it_can_be_measured() -> None:
    """Two hundred at the same moment: the idle loop is no leave to take them all."""
    m = machine()
    taken = sum(m.ring() for _ in range(200))
    assert taken == pytest.approx(SETTINGS.loop_share / (SETTINGS.call_cost / 2), rel=0.15)
    m.run(10)
    assert m.worst_loop <= SETTINGS.loop_share + 0.05


def test_a_burst_on_top_of_running_calls() -> None:
    m = machine()
    while m.calls < 30:
        m.ring()
        m.run(1)
    m.run(10)
    for _ in range(100):
        m.ring()
    m.run(10)
    assert m.calls < 52
    assert m.worst_loop <= SETTINGS.loop_share + 0.02


def test_all_cores_are_a_limit_too() -> None:
    m = machine(loop_cost=0.002, cpu_cost=0.1, cores=2.0)
    for _ in range(100):
        m.ring()
        m.run(1)
    assert set(m.refused) == {"cpu"}
    assert m.calls == pytest.approx(SETTINGS.cpu_share * 2.0 / 0.1, abs=2)


@pytest.mark.parametrize("every", [0.5, 1.0, 3.0])
def test_what_fits_is_taken_however_fast_it_comes(every: float) -> None:
    """A call that is measured already is not to be counted again because it is new."""
    m = machine(loop_cost=0.0135, cpu_cost=0.0255, cores=1.0)
    knee = (SETTINGS.cpu_share - 0.03) / 0.0255
    for _ in range(int(2 * knee)):
        m.ring()
        m.run(every)
    assert 0.85 * knee <= m.calls <= knee
    assert set(m.refused) == {"cpu"}


@pytest.mark.parametrize("every", [0.5, 1.0, 3.0])
def test_what_new_calls_are_still_going_to_cost_counts(every: float) -> None:
    m = machine(loop_cost=0.005, cpu_cost=0.03, cores=1.0, later=8.0)
    for _ in range(80):
        m.ring()
        m.run(every)
    m.run(20)
    assert m.worst_cpu <= SETTINGS.cpu_share + 0.03
    assert m.calls >= 0.75 * (SETTINGS.cpu_share - 0.03) / 0.03


def test_calls_that_end_together_make_those_that_stay_no_dearer() -> None:
    m = machine(loop_cost=0.0135)
    m.calls = 44
    m.run(60)
    known = m.capacity.costs["loop"]
    m.calls = 12
    for _ in range(20):
        m.run(LOOK)
        assert m.capacity.costs["loop"] == pytest.approx(known, rel=0.05)


def test_turns_that_are_as_slow_as_ever_keep_no_door_shut() -> None:
    """p95 at 600 ms is what a conversation takes: within its budget, but not far below."""
    m = machine(turn_seconds=0.6)
    m.calls = 30
    m.run(10)
    assert m.capacity.waits(m.now)["turn_latency"] > SETTINGS.resume
    m.capacity.look(replace(m.load, recognizer_wait=0.5), m.calls, m.now)
    assert m.capacity.shut_by == "recognizer"
    m.run(SETTINGS.calm_seconds + 2 * LOOK)
    assert m.capacity.shut_by is None


def test_a_loop_kept_from_its_processor_is_busy_and_its_calls_cost_no_more() -> None:
    m = machine(loop_cost=0.0135)
    m.calls = 12
    m.run(60)
    at_rest = m.capacity.forecasts(1, m.now)["loop"]
    for _ in range(20):
        m.now += LOOK
        m.capacity.look(replace(m.load, loop_wait=0.3), m.calls, m.now)
    found = m.capacity.forecasts(1, m.now)["loop"]
    assert found == pytest.approx(at_rest + 0.3 / SETTINGS.loop_share, rel=0.05)
    assert m.capacity.costs["loop"] == pytest.approx(0.0135, rel=0.1)


def test_the_door_opens_again_once_calls_have_gone_and_not_at_once() -> None:
    m = machine()
    for _ in range(80):
        m.ring()
        m.run(1)
    shut_at = m.calls
    assert m.capacity.shut_by == "loop"
    m.calls -= 1
    m.run(30)
    assert not m.ring()
    m.calls = shut_at - 6
    m.run(SETTINGS.calm_seconds)
    assert not m.ring()
    m.run(10)
    assert m.capacity.shut_by is None
    assert m.ring()


def test_the_door_does_not_flutter_at_the_limit() -> None:
    m = machine()
    changes, before = 0, None
    for second in range(600):
        if second % 5 == 0 and m.calls > 20:
            m.calls -= 1
        m.ring()
        m.run(1)
        changes += m.capacity.shut_by != before
        before = m.capacity.shut_by
    ended = 600 / 5
    assert changes <= 2 * ended / ROOM_TO_OPEN + 2  # what came in at a time, at least
    assert m.worst_loop <= SETTINGS.loop_share + 0.03


def test_late_ticks_keep_calls_out_until_they_were_in_time_for_a_while() -> None:
    m = machine()
    m.calls = 10
    m.run(10)
    limit = SETTINGS.tick_lateness_ms * SETTINGS.margin / 1000
    late = replace(m.load, tick_lateness=limit * 1.01)
    m.capacity.look(late, m.calls, m.now)
    assert m.capacity.shut_by == "ticks"
    assert not m.ring()
    for _ in range(20):  # below the limit, but not well below
        m.now += LOOK
        m.capacity.look(replace(m.load, tick_lateness=limit * 0.9), m.calls, m.now)
    assert not m.ring()
    m.run(SETTINGS.calm_seconds + LOOK)
    assert m.capacity.shut_by is None
    assert m.ring()


@pytest.mark.parametrize(
    ("load", "signal"),
    [
        (Load(graph_wait=0.5), "graph"),
        (Load(recognizer_wait=0.5), "recognizer"),
        (Load(synthesis_jobs=4.0), "synthesis"),
    ],
)
def test_what_waits_keeps_calls_out(load: Load, signal: str) -> None:
    m = machine()
    m.calls = 10
    m.capacity.look(load, 10, m.now + LOOK)
    verdict = m.capacity.refuses(10, INBOUND, m.now + LOOK)
    assert verdict is not None
    assert verdict.signal == signal


def test_slow_turns_count_where_there_is_load() -> None:
    m = machine(turn_seconds=0.79, loop_cost=0.02)
    m.calls = 10
    m.run(10)
    assert m.capacity.shut_by is None  # slow by the callers' way of speaking, or the model's
    m.calls = 24
    m.run(10)
    assert m.capacity.shut_by == "turn_latency"
    m.turn_seconds = 0.4
    m.run(40)
    assert m.capacity.shut_by is None


def test_inbound_calls_get_what_outbound_calls_may_not() -> None:
    m = machine()
    for _ in range(120):
        m.ring(OUTBOUND)
        m.run(1)
    outbound = m.calls
    assert m.capacity.shut_by is None
    more = 0
    while m.ring(INBOUND):
        more += 1
        m.run(1)
    assert outbound < 0.9 * (outbound + more)
    assert more >= 4


def test_a_few_calls_are_always_taken() -> None:
    m = machine()
    m.capacity.look(Load(loop=1.0, cpu=2.0, cores=2.0, tick_lateness=1.0), 0, m.now)
    taken = [m.ring() for _ in range(6)]
    assert taken == [True] * SETTINGS.min_calls + [False] * 2


def test_nothing_is_refused_where_it_is_off() -> None:
    m = machine(SETTINGS.model_copy(update={"enabled": False}))
    m.capacity.look(Load(loop=1.0, cpu=2.0, tick_lateness=1.0), 0, m.now)
    assert all(m.ring() for _ in range(500))


def test_a_place_given_back_costs_nothing() -> None:
    m = machine()
    before = m.capacity.forecasts(1, m.now)
    m.ring()
    assert m.capacity.forecasts(1, m.now)["loop"] > before["loop"]
    m.capacity.given_back()
    m.capacity.given_back()
    assert m.capacity.forecasts(1, m.now) == before


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("per_second", [0.7, 1.5, 4.0])
@pytest.mark.parametrize(("cores", "dearer"), [(1.0, 0.6), (1.0, 0.8), (2.0, 0.8), (2.0, 1.0)])
def test_turns_that_end_together_stay_in_time(
    cores: float, dearer: float, per_second: float, seed: int
) -> None:
    """From the first refusal to the end, with many more callers than fit."""
    m = TurningCalls(Capacity(DEFAULTS), cores=cores, dearer=dearer, seed=seed)
    m.offer(int(80 * cores), per_second)
    assert m.refused
    assert m.p95_since(m.refused[0][0]) < 0.8
    assert m.most >= 13 * cores


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_was_learned_of_past_calls_admits_as_many_as_fit(seed: int) -> None:
    """Of those that end their turns together, too: not so few that the machine is half idle."""
    m = TurningCalls(Capacity(DEFAULTS), dearer=0.8, seed=seed)
    for _ in range(2):
        m.offer(14, 0.5)
    m.most = 0
    m.offer(60, 1.5)
    assert m.p95_since(m.refused[0][0]) < 0.8
    assert 14 <= m.most <= 20  # 20 is where the turns of half of all runs are late


def test_without_anything_kept_free_turns_that_end_together_are_late() -> None:
    """What the deviation is for: on average there would be room."""
    free = DEFAULTS.model_copy(update={"burst_deviations": 0, "turn_latency_ms": 60_000})
    m = TurningCalls(Capacity(free), dearer=1.0)
    m.offer(80, 1.5)
    assert m.p95_since(m.refused[0][0]) > 1.0


def test_turns_that_get_slower_shut_the_door_before_their_limit() -> None:
    for grown, shut_by in ((1.0, None), (1.3, "turn_latency")):
        m = machine(loop_cost=0.02)
        m.calls = 24
        for number in range(40):
            m.capacity.turn(0.03, 0.5 if number < 20 else 0.5 * grown, m.now)
        m.run(LOOK)
        assert m.capacity.shut_by == shut_by
