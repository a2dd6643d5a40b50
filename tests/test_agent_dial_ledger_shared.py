"""One ledger of several workers."""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ringtrue.agent.dial_ledger import DialLedger, LedgerFileError
from ringtrue.agent.dial_ledger_shared import SharedDialLedger, fold
from ringtrue.agent.dial_plan import DialRefusal, DialRefusedError
from ringtrue.config.dial_settings import DialTenant

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = NOON.date().isoformat()


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def rules(**limits: float) -> DialTenant:
    usual = {"max_concurrent": 2, "max_attempts_per_minute": 5, "max_minutes_per_day": 10}
    return DialTenant.model_validate(usual | limits)


async def workers(folder: Path, count: int = 2) -> tuple[Clock, list[SharedDialLedger]]:
    clock = Clock()
    made = [
        SharedDialLedger(folder / "outbound.json", slot, count, clock=clock)
        for slot in range(count)
    ]
    for ledger in made:
        await ledger.load()
    return clock, made


def refusal(ledger: DialLedger, limits: DialTenant, now: float, rate: float | None = None) -> str:
    with pytest.raises(DialRefusedError) as error:
        ledger.admit("t", limits, rate, now)
    return error.value.reason


async def test_calls_at_once_and_attempts_count_for_all(tmp_path: Path) -> None:
    _, (one, other) = await workers(tmp_path)
    first = one.admit("t", rules(), None, 0.0)
    second = other.admit("t", rules(), None, 1.0)
    assert refusal(one, rules(), 2.0) is DialRefusal.CONCURRENT
    assert refusal(other, rules(), 2.0) is DialRefusal.CONCURRENT
    await other.close(second, 3.0)
    third = one.admit("t", rules(), None, 4.0)
    for charge in (first, third):
        await one.close(charge, 5.0)
    for at in (6.0, 7.0):
        await other.close(other.admit("t", rules(), None, at), at)
    assert refusal(one, rules(), 8.0) is DialRefusal.ATTEMPTS
    one.admit("t", rules(), None, 60.5)


async def test_minutes_and_spend_count_for_all_while_calls_run(tmp_path: Path) -> None:
    _, (one, other) = await workers(tmp_path)
    limits = rules(max_spend_per_day=5)
    mine, theirs = one.admit("t", limits, 1.0, 0.0), other.admit("t", limits, 1.0, 0.0)
    mine.answered_at = theirs.answered_at = 0.0
    assert one.exhausted(mine, limits, 60.0) is None
    assert other.exhausted(theirs, limits, 100.0) is None
    assert one.exhausted(mine, limits, 121.0) is DialRefusal.SPEND  # 3 and 3
    await other.close(theirs, 120.0)
    await one.close(mine, 121.0)
    assert refusal(other, limits, 130.0, 1.0) is DialRefusal.SPEND
    assert other.exhausted(theirs, rules(max_minutes_per_day=4), 130.0) is DialRefusal.MINUTES


async def test_another_tenant_and_yesterday_do_not_count(tmp_path: Path) -> None:
    clock, (one, other) = await workers(tmp_path)
    for _ in range(2):
        one.admit("t", rules(), None, 0.0)
    other.admit("u", rules(), None, 0.0)
    clock.now += timedelta(days=1)
    other.admit("t", rules(), None, 0.0)


async def test_calls_of_a_dead_worker_end_with_its_successor(tmp_path: Path) -> None:
    clock, (one, other) = await workers(tmp_path)
    for _ in range(2):
        other.admit("t", rules(), None, 0.0)
    assert refusal(one, rules(), 1.0) is DialRefusal.CONCURRENT
    again = SharedDialLedger(tmp_path / "outbound.json", 1, 2, clock=clock)
    await again.load()
    one.admit("t", rules(), None, 2.0)


async def test_the_day_goes_on_with_fewer_workers(tmp_path: Path) -> None:
    clock, ledgers = await workers(tmp_path, 3)
    for ledger in ledgers:
        charge = ledger.admit("t", rules(max_minutes_per_day=60), 1.0, 0.0)
        charge.answered_at = 0.0
        await ledger.close(charge, 120.0)
    path = tmp_path / "outbound.json"
    fold(path, 1, DAY)
    fold(path, 1, DAY)
    single = DialLedger(path, clock=clock)
    await single.load()
    assert single.used("t", 0.0) == (360.0, 6.0)
    assert not list(tmp_path.glob("outbound.w*"))


async def test_a_file_of_another_worker_that_can_not_be_read(tmp_path: Path) -> None:
    _, (one, _) = await workers(tmp_path)
    charge = one.admit("t", rules(), None, 0.0)
    (tmp_path / "outbound.w1.json").write_text("{")
    assert refusal(one, rules(), 1.0) is DialRefusal.FULL
    assert one.exhausted(charge, rules(), 2.0) is None
    with pytest.raises(LedgerFileError, match="usage of earlier workers"):
        fold(tmp_path / "outbound.json", 1, DAY)


async def test_a_worker_that_holds_the_lock_forever_refuses_no_more_than_calls(
    tmp_path: Path,
) -> None:
    _, (one, _) = await workers(tmp_path)
    descriptor = os.open(tmp_path / "outbound.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert refusal(one, rules(), 0.0) is DialRefusal.FULL
    os.close(descriptor)
    one.admit("t", rules(), None, 0.0)
    assert json.loads((tmp_path / "outbound.json").read_text())["day"] == DAY
