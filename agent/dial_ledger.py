"""What tenants have called today, and whether they may call more.

Minutes and spend count by the UTC day and survive a restart of the server; a second server keeps
a ledger of its own (workers of one server share theirs, see
:mod:`ringtrue.agent.dial_ledger_shared`). Spend is counted by the minute begun. Attempts count
over the last minute.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog

from ringtrue.agent.dial_plan import DialRefusal, DialRefusedError
from ringtrue.config.dial_settings import DialTenant
from ringtrue.streaming.errors import RingtrueError

log = structlog.get_logger(__name__)

ATTEMPT_WINDOW: Final = 60.0
BUSY_RETRY: Final = 10.0
"""Seconds after which a tenant with too many calls may try again."""

LOOK_AHEAD: Final = 2.0
"""Seconds that a call may still take to end once it has to."""


@dataclass(slots=True, eq=False)
class Charge:
    """One call, from its first attempt on."""

    tenant: str
    rate: float | None
    """Price of a minute."""

    answered_at: float | None = None

    def seconds(self, now: float) -> float:
        """Answered time up to ``now``."""
        return 0.0 if self.answered_at is None else max(0.0, now - self.answered_at)

    def cost(self, now: float) -> float:
        """What it costs up to ``now``; at least a minute, answered or not yet."""
        return (self.rate or 0.0) * max(1, math.ceil(self.seconds(now) / 60))


@dataclass(slots=True)
class _Account:
    seconds: float = 0.0
    spend: float = 0.0
    running: set[Charge] = field(default_factory=set)
    attempts: deque[float] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A tenant's account in other processes."""

    seconds: float = 0.0
    spend: float = 0.0
    running: int = 0
    attempts: tuple[float, ...] = ()


class LedgerFileError(RingtrueError):
    """The file of the day's usage is not what was written."""


class DialLedger:
    """Every tenant's account. ``now`` is monotonic seconds."""

    def __init__(self, path: Path | None, *, clock: Callable[[], datetime]) -> None:
        """Keep the day's sums in ``path`` (None: in memory); ``clock`` tells the UTC time."""
        self._path = path
        self._clock = clock
        self._day = clock().date()
        self._accounts: dict[str, _Account] = {}
        self._writing = asyncio.Lock()

    async def load(self) -> None:
        """Go on where the last run of the day ended.

        Raises :class:`LedgerFileError` for a file that can't be read: to begin at nothing would
        let tenants call twice as much.
        """
        if self._path is None:
            return
        try:
            data = json.loads(await asyncio.to_thread(self._path.read_text))
            if data["day"] != self._day.isoformat():
                return
            for tenant, used in data["tenants"].items():
                self._accounts[tenant] = _Account(float(used["seconds"]), float(used["spend"]))
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LedgerFileError(
                f"{self._path}: can't be read as the day's usage ({type(error).__name__}); move it "
                "away to let the day begin at nothing"
            ) from None

    def admit(self, tenant: str, rules: DialTenant, rate: float | None, now: float) -> Charge:
        """Open a charge for a call about to be placed. Raises :class:`DialRefusedError`."""
        with self._alone():
            charge = self._admit(tenant, rules, rate, now)
            self._changed(now)
        return charge

    def _admit(self, tenant: str, rules: DialTenant, rate: float | None, now: float) -> Charge:
        account, elsewhere = self._account(tenant), self._elsewhere(tenant, now)
        if len(account.running) + elsewhere.running >= rules.max_concurrent:
            raise DialRefusedError(
                DialRefusal.CONCURRENT,
                f"{rules.max_concurrent} calls of this tenant are under way",
                retry_after=BUSY_RETRY,
            )
        while account.attempts and account.attempts[0] <= now - ATTEMPT_WINDOW:
            account.attempts.popleft()
        attempts = sorted((*account.attempts, *elsewhere.attempts))
        if len(attempts) >= rules.max_attempts_per_minute:
            raise DialRefusedError(
                DialRefusal.ATTEMPTS,
                f"{rules.max_attempts_per_minute} calls were placed within a minute",
                retry_after=attempts[-rules.max_attempts_per_minute] + ATTEMPT_WINDOW - now,
            )
        if rules.max_spend_per_day is not None and rate is None:
            raise DialRefusedError(
                DialRefusal.NO_RATE,
                "the tenant's spend is capped, and its trunk has no rate for this number",
            )
        charge = Charge(tenant, rate)
        account.running.add(charge)
        reason = self._spent(tenant, rules, now)
        if reason is not None:
            account.running.discard(charge)
            raise DialRefusedError(
                reason,
                f"nothing is left of this tenant's {reason} for today",
                retry_after=self._to_midnight(),
            )
        account.attempts.append(now)
        return charge

    def exhausted(self, charge: Charge, rules: DialTenant, now: float) -> DialRefusal | None:
        """Why a running call has to end now; None while it may go on."""
        self._changed(now)
        return self._spent(charge.tenant, rules, now + LOOK_AHEAD)

    async def close(self, charge: Charge, now: float) -> None:
        """The call is over: add it up and keep the sums. One never answered costs nothing."""
        account = self._account(charge.tenant)
        if charge not in account.running:
            return
        account.running.discard(charge)
        if charge.answered_at is not None:
            account.seconds += charge.seconds(now)
            account.spend += charge.cost(now)
            await self.save(now)
        self._changed(now)

    def used(self, tenant: str, now: float) -> tuple[float, float]:
        """Seconds answered and money spent here today, running calls included."""
        account = self._account(tenant)
        seconds = account.seconds + sum(c.seconds(now) for c in account.running)
        return seconds, account.spend + sum(c.cost(now) for c in account.running)

    def _spent(self, tenant: str, rules: DialTenant, now: float) -> DialRefusal | None:
        seconds, spend = self.used(tenant, now)
        elsewhere = self._elsewhere(tenant, now)
        if seconds + elsewhere.seconds >= rules.max_minutes_per_day * 60:
            return DialRefusal.MINUTES
        if rules.max_spend_per_day is None:
            return None
        over = spend + elsewhere.spend > rules.max_spend_per_day + 1e-9
        return DialRefusal.SPEND if over else None

    # -- what a ledger that is shared does besides -------------------------------------------

    def _alone(self) -> AbstractContextManager[None]:
        """Keep other processes from admitting meanwhile."""
        return nullcontext()

    def _elsewhere(self, tenant: str, now: float) -> Elsewhere:
        """The account of ``tenant`` in other processes."""
        return Elsewhere()

    def _changed(self, now: float) -> None:
        """Something changed, or time passed: other processes should know."""

    def _account(self, tenant: str) -> _Account:
        today = self._clock().date()
        if today != self._day:
            self._day = today
            for account in self._accounts.values():
                account.seconds = account.spend = 0.0
        return self._accounts.setdefault(tenant, _Account())

    def _to_midnight(self) -> float:
        now = self._clock()
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return (midnight - now).total_seconds()

    async def save(self, now: float) -> None:
        """Keep the sums as they stand; a disk that refuses is logged."""
        if self._path is None:
            return
        async with self._writing:
            tenants = {}
            for name in self._accounts:
                seconds, spend = self.used(name, now)
                tenants[name] = {"seconds": round(seconds, 3), "spend": round(spend, 6)}
            data = {"day": self._day.isoformat(), "tenants": tenants}
            try:
                await asyncio.to_thread(write_usage, self._path, data)
            except OSError as error:
                log.error("outbound.usage_not_kept", file=str(self._path), reason=error.strerror)


def write_usage(path: Path, data: dict[str, Any]) -> None:
    """Put ``data`` in the place of what ``path`` holds, in one step. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data))
    os.replace(part, path)
