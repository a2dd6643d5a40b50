"""Connections that may be calls which no report counts yet."""

from __future__ import annotations

from ringtrue.agent.workers.handing import MAX_UNTOLD, UNTOLD_SECONDS, Handings


def test_a_report_that_was_on_its_way_changes_nothing() -> None:
    handings = Handings()
    handings.handed(10.0)
    handings.reported(1, 1)
    assert handings.untold(10.1) == 1


def test_a_call_that_is_told_of_is_counted_once() -> None:
    handings = Handings()
    handings.handed(10.0)
    handings.handed(10.1)
    handings.reported(1, 2)
    assert handings.untold(10.2) == 1
    handings.reported(2, 5)
    assert handings.untold(10.2) == 0


def test_what_never_became_a_call_is_forgotten() -> None:
    handings = Handings()
    handings.handed(10.0)
    handings.handed(10.5)
    handings.reported(3, 1)
    assert handings.untold(10.0 + UNTOLD_SECONDS) == 1
    assert handings.untold(10.5 + UNTOLD_SECONDS) == 0


def test_it_is_bounded() -> None:
    handings = Handings()
    for _ in range(MAX_UNTOLD + 9):
        handings.handed(10.0)
    assert handings.untold(10.0) == MAX_UNTOLD
