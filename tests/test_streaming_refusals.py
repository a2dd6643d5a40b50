"""What is told of refusals: the first at once, repeats in sums, nothing twice, nothing never."""

from __future__ import annotations

import pytest

from ringtrue.streaming.refusals import SUMMARY_SECONDS, Refusal, RefusalLog, RefusalReport


def made() -> tuple[RefusalLog, list[RefusalReport]]:
    told: list[RefusalReport] = []
    return RefusalLog(told.append), told


def test_the_first_of_each_reason_is_told_at_once_and_repeats_as_a_sum() -> None:
    log, told = made()
    for n in range(100):
        log.tick(n * 0.02)
        log.note(Refusal.FAR_END, n * 0.02)
    log.note(Refusal.CONSENT, 2.0)
    assert told == [
        RefusalReport(Refusal.FAR_END, 1, 0.0, 0.0),
        RefusalReport(Refusal.CONSENT, 1, 2.0, 2.0),
    ]
    log.tick(SUMMARY_SECONDS - 0.01)
    assert len(told) == 2
    log.tick(SUMMARY_SECONDS)
    assert told[2:] == [RefusalReport(Refusal.FAR_END, 99, 0.02, pytest.approx(1.98))]
    assert log.counts == {Refusal.FAR_END: 100, Refusal.CONSENT: 1}


def test_an_hour_of_refusals_is_a_few_hundred_reports_that_add_up() -> None:
    log, told = made()
    for n in range(3600 * 50):
        log.tick(n * 0.02)
        log.note(Refusal.UNSEALED, n * 0.02)
    log.close()
    assert len(told) == 3600 / SUMMARY_SECONDS + 1
    assert sum(each.frames for each in told) == 3600 * 50


def test_after_a_quiet_time_the_next_one_is_told_at_once_again() -> None:
    log, told = made()
    log.note(Refusal.SEQUENCE, 0.0)
    for moment in (SUMMARY_SECONDS, 2 * SUMMARY_SECONDS):
        log.tick(moment)
    log.note(Refusal.SEQUENCE, 3 * SUMMARY_SECONDS)
    assert [each.since for each in told] == [0.0, 3 * SUMMARY_SECONDS]


def test_the_end_of_the_call_tells_the_rest() -> None:
    log, told = made()
    for moment in (1.0, 1.1, 1.2):
        log.note(Refusal.SESSION, moment)
    log.tick(1.3)
    log.at_wire(Refusal.SESSION)
    log.close()
    log.close()
    assert told == [
        RefusalReport(Refusal.SESSION, 1, 1.0, 1.0),
        RefusalReport(Refusal.SESSION, 1, 1.3, 1.3, at_wire=True),
        RefusalReport(Refusal.SESSION, 2, 1.1, 1.2),
    ]


def test_whoever_is_told_may_fail() -> None:
    def fail(_: RefusalReport) -> None:
        raise OSError("disk full")

    log = RefusalLog(fail)
    log.note(Refusal.FORMAT, 0.0)
    assert log.counts == {Refusal.FORMAT: 1}
