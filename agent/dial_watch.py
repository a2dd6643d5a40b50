"""A call that is charged to a tenant ends once its time, or its tenant's day, is used up."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from ringtrue.agent.dial_ledger import Charge, DialLedger
from ringtrue.config.dial_settings import DialTenant
from ringtrue.streaming.ports import Call, EndReason

log = structlog.get_logger(__name__)

WATCH_SECONDS: Final = 1.0
SAVE_SECONDS: Final = 15.0
"""How often a running call's usage is kept: what a crash may lose of it."""


async def watch_charge(ledger: DialLedger, call: Call, charge: Charge, rules: DialTenant) -> None:
    """Hang ``call`` up, answered already, once ``rules`` want its end. To be cancelled after it."""
    now = asyncio.get_running_loop().time
    saved = now()
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        over = charge.seconds(now()) >= rules.max_call_seconds
        reason = "call" if over else ledger.exhausted(charge, rules, now())
        if reason is not None:
            log.warning("outbound.cut", call=call.id, limit=str(reason))
            await call.hangup(EndReason.MAX_DURATION)
            return
        if now() - saved >= SAVE_SECONDS:
            saved = now()
            await ledger.save(saved)
