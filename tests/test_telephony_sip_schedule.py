"""The timer heap: nothing late, nothing kept."""

from __future__ import annotations

import gc
import random
import weakref

from ringtrue.telephony.sip.schedule import MAX_DEAD, Schedule, Timers


class Alarm:
    """Fires at each of its times."""

    def __init__(self, *times: float) -> None:
        self.times = sorted(times)
        self.fired: list[tuple[float, float]] = []

    def next_timer(self) -> float | None:
        return self.times[0] if self.times else None

    def handle_timer(self, now: float) -> None:
        while self.times and self.times[0] <= now:
            self.fired.append((self.times.pop(0), now))


def test_table_4_of_rfc_3261() -> None:
    timers = Timers()
    assert (timers.t1, timers.t2, timers.t4) == (0.5, 4.0, 5.0)
    assert (timers.timeout, timers.d) == (32.0, 32.0)
    assert Timers(t1=0.01).d == 32.0


def test_fires_in_order_and_never_late() -> None:
    rng = random.Random(5)
    schedule = Schedule()
    alarms = [Alarm(*(rng.random() * 10 for _ in range(5))) for _ in range(50)]
    for alarm in alarms:
        schedule.track(alarm)
    while (now := schedule.next()) is not None:
        for item in schedule.due(now):
            item.handle_timer(now)
    for alarm in alarms:
        assert len(alarm.fired) == 5
        assert all(due == at for due, at in alarm.fired)


def test_moved_and_dropped_timers() -> None:
    schedule = Schedule()
    alarm = Alarm(5.0)
    schedule.track(alarm)
    alarm.times = [9.0]
    schedule.track(alarm)
    assert list(schedule.due(6.0)) == []
    assert schedule.next() == 9.0
    alarm.times = [7.0]
    schedule.track(alarm)
    assert schedule.next() == 7.0
    alarm.times = []
    schedule.track(alarm)
    assert schedule.next() is None


def test_what_has_no_timer_is_let_go() -> None:
    schedule = Schedule()
    alarm, other = Alarm(500.0), Alarm(1.0)
    schedule.track(other)
    schedule.track(alarm)
    gone = weakref.ref(alarm)
    alarm.times = []
    schedule.track(alarm)
    del alarm
    gc.collect()
    assert gone() is None


def test_timers_far_ahead_of_calls_that_are_over_do_not_pile_up() -> None:
    schedule = Schedule()
    lasting = Alarm(1800.0)
    schedule.track(lasting)
    for number in range(10_000):
        session = Alarm(1800.0 + number)
        schedule.track(session)
        session.times = []
        schedule.track(session)
    assert len(schedule) < 2 * MAX_DEAD
    assert schedule.next() == 1800.0
    for item in schedule.due(1800.0):
        item.handle_timer(1800.0)
    assert lasting.fired == [(1800.0, 1800.0)]
    assert schedule.next() is None
