"""What tenants may still call today."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ringtrue.agent.dial_ledger import DialLedger, LedgerFileError
from ringtrue.agent.dial_plan import DialRefusal, DialRefusedError
from ringtrue.config.dial_settings import DialTenant

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def rules(**limits: float) -> DialTenant:
    usual = {"max_concurrent": 2, "max_attempts_per_minute": 5, "max_minutes_per_day": 10}
    return DialTenant.model_validate(usual | limits)


def refused(ledger: DialLedger, limits: DialTenant, rate: float | None, now: float) -> DialRefusal:
    with pytest.raises(DialRefusedError) as error:
        ledger.admit("t", limits, rate, now)
    return error.value.reason


async def test_concurrent_calls_are_capped_by_tenant() -> None:
    ledger = DialLedger(None, clock=Clock())
    first = ledger.admit("t", rules(), None, 0.0)
    ledger.admit("t", rules(), None, 0.0)
    assert refused(ledger, rules(), None, 0.0) is DialRefusal.CONCURRENT
    ledger.admit("other", rules(), None, 0.0)
    await ledger.close(first, 1.0)
    await ledger.close(first, 1.0)
    ledger.admit("t", rules(), None, 1.0)
    assert refused(ledger, rules(), None, 1.0) is DialRefusal.CONCURRENT


async def test_attempts_are_counted_over_a_minute() -> None:
    ledger = DialLedger(None, clock=Clock())
    for at in range(5):
        await ledger.close(ledger.admit("t", rules(), None, float(at)), float(at))
    with pytest.raises(DialRefusedError) as error:
        ledger.admit("t", rules(), None, 30.0)
    assert (error.value.reason, error.value.retry_after) == (DialRefusal.ATTEMPTS, 30.0)
    ledger.admit("t", rules(), None, 60.0)


async def test_minutes_of_running_calls_count_and_end_them() -> None:
    ledger, limits = DialLedger(None, clock=Clock()), rules()
    calls = [ledger.admit("t", limits, None, 0.0) for _ in range(2)]
    for call in calls:
        call.answered_at = 0.0
    assert ledger.exhausted(calls[0], limits, 297.0) is None
    assert ledger.exhausted(calls[0], limits, 298.0) is DialRefusal.MINUTES
    await ledger.close(calls[0], 300.0)
    assert ledger.used("t", 300.0) == (600.0, 0.0)
    assert refused(ledger, limits, None, 300.0) is DialRefusal.MINUTES


async def test_spend_counts_by_the_minute_begun() -> None:
    limits = rules(max_spend_per_day=1.0)
    ledger = DialLedger(None, clock=Clock())
    assert refused(ledger, limits, None, 0.0) is DialRefusal.NO_RATE
    assert refused(ledger, limits, 1.01, 0.0) is DialRefusal.SPEND
    call = ledger.admit("t", limits, 0.4, 0.0)
    other = ledger.admit("t", limits, 0.4, 0.0)
    assert ledger.used("t", 0.0) == (0.0, 0.8), "a minute is set aside before the answer"
    call.answered_at = 10.0
    assert ledger.exhausted(call, limits, 60.0) is None
    assert ledger.exhausted(call, limits, 69.0) is DialRefusal.SPEND, "before the second minute"
    await ledger.close(other, 69.0)
    assert ledger.exhausted(call, limits, 69.0) is None, "never answered, never paid"
    await ledger.close(call, 75.0)
    assert ledger.used("t", 80.0) == (65.0, 0.8)


async def test_the_day_begins_anew_at_midnight_utc() -> None:
    clock = Clock()
    ledger, limits = DialLedger(None, clock=clock), rules(max_minutes_per_day=1)
    call = ledger.admit("t", limits, None, 0.0)
    call.answered_at = 0.0
    await ledger.close(call, 90.0)
    with pytest.raises(DialRefusedError) as error:
        ledger.admit("t", limits, None, 100.0)
    assert error.value.retry_after == 12 * 3600
    clock.now += timedelta(hours=12)
    ledger.admit("t", limits, None, 200.0)


async def test_a_restart_does_not_give_the_day_back(tmp_path: Path) -> None:
    path, clock, limits = tmp_path / "sub" / "usage.json", Clock(), rules(max_minutes_per_day=1)
    ledger = DialLedger(path, clock=clock)
    await ledger.load()
    call = ledger.admit("t", limits, 0.5, 0.0)
    call.answered_at = 0.0
    await ledger.save(30.0)
    crashed = DialLedger(path, clock=clock)
    await crashed.load()
    assert crashed.used("t", 0.0) == (30.0, 0.5), "running calls are kept too"
    await ledger.close(call, 90.0)
    again = DialLedger(path, clock=clock)
    await again.load()
    assert again.used("t", 0.0) == (90.0, 1.0)
    assert refused(again, limits, 0.5, 0.0) is DialRefusal.MINUTES
    clock.now += timedelta(days=1)
    tomorrow = DialLedger(path, clock=clock)
    await tomorrow.load()
    assert tomorrow.used("t", 0.0) == (0.0, 0.0)


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"day": "2026-03-04", "tenants": 3})])
async def test_a_broken_file_stops_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "usage.json"
    path.write_text(text)
    with pytest.raises(LedgerFileError, match="move it away"):
        await DialLedger(path, clock=Clock()).load()
