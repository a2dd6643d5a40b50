"""The driver's one timer, on the production loop."""

from __future__ import annotations

import asyncio

import pytest

from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.driver import Driver


class Overdue:
    """A user agent that wants to be woken at given times, and notes when it was."""

    def __init__(self, *due: float) -> None:
        self.due = list(due)
        self.woken = 0

    def outputs(self) -> list[object]:
        return []

    def events(self) -> list[object]:
        return []

    def next_timer(self) -> float | None:
        return self.due[0] if self.due else None

    def handle_timer(self, now: float) -> None:
        self.woken += 1
        self.due = [due for due in self.due if due > now]


@pytest.mark.uvloop
@pytest.mark.parametrize("late", [0.0, 0.5])
async def test_a_timer_already_due_is_armed_again(late: float) -> None:
    """uvloop makes a plain handle of a timer that is due: pumping again must not care."""
    driver = Driver(Policy(), None, lambda event: None)
    now = driver.now()
    agent = Overdue(now - late, now + 0.02)
    driver.ua = agent  # type: ignore[assignment]
    driver.pump()
    driver.pump()
    agent.due.insert(0, now - 1)
    driver.pump()
    await asyncio.sleep(0.1)
    assert agent.woken >= 2
    assert agent.due == []
    await driver.close()
