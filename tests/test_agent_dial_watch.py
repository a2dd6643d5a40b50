"""Charged calls end when they have to, and what they used is kept while they go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fakes.calls import ScriptedCall
from ringtrue.agent.dial_ledger import DialLedger
from ringtrue.agent.dial_watch import SAVE_SECONDS, WATCH_SECONDS, watch_charge
from ringtrue.config.dial_settings import DialTenant
from ringtrue.streaming.ports import EndReason

pytestmark = pytest.mark.virtual_time


@asynccontextmanager
async def watched(path: Path | None = None, **limits: float) -> AsyncIterator[ScriptedCall]:
    """An answered call of a tenant with these limits."""
    ledger = DialLedger(path, clock=lambda: datetime(2026, 3, 4, 12, tzinfo=UTC))
    rules, call = DialTenant.model_validate(limits), ScriptedCall()
    now = asyncio.get_running_loop().time()
    charge = ledger.admit("t", rules, None, now)
    charge.answered_at = now
    watch = asyncio.ensure_future(watch_charge(ledger, call, charge, rules))
    try:
        yield call
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        ({"max_call_seconds": 45, "max_minutes_per_day": 10}, 45),
        ({"max_call_seconds": 600, "max_minutes_per_day": 1}, 58),
    ],
    ids=["call", "day"],
)
async def test_it_ends_in_time(limits: dict[str, float], seconds: float) -> None:
    async with watched(**limits) as call:
        await asyncio.sleep(seconds - WATCH_SECONDS)
        assert call.hung_up == []
        await asyncio.sleep(2 * WATCH_SECONDS)
        assert call.hung_up == [EndReason.MAX_DURATION]


async def test_a_running_calls_usage_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "outbound.json"
    async with watched(path, max_call_seconds=600, max_minutes_per_day=60) as call:
        await asyncio.sleep(SAVE_SECONDS - WATCH_SECONDS)
        assert not path.exists()
        await asyncio.sleep(SAVE_SECONDS + 2 * WATCH_SECONDS)
        kept = json.loads(path.read_text())["tenants"]["t"]["seconds"]
        assert kept == pytest.approx(2 * SAVE_SECONDS, abs=2 * WATCH_SECONDS)
        assert call.hung_up == []
