"""The ledger of one worker of several: each writes its own file and reads the others'.

So a tenant's limits hold for all workers together. Admitting is done under a lock that they
share; it is held for the reading and writing of a few hundred bytes. Moments are those of the
machine's monotonic clock, which all processes have in common.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import structlog

from ringtrue.agent.dial_ledger import (
    ATTEMPT_WINDOW,
    Charge,
    DialLedger,
    Elsewhere,
    LedgerFileError,
    write_usage,
)
from ringtrue.agent.dial_plan import DialRefusal, DialRefusedError
from ringtrue.config.dial_settings import DialTenant

log = structlog.get_logger(__name__)

LOCK_TRIES: Final = 10
LOCK_PAUSE: Final = 0.001
"""Seconds between tries: another worker that holds the lock for so long is stopped or dead."""

WRITE_SECONDS: Final = 1.0
"""How often running calls are written down although nothing else changed."""


def slot_file(path: Path, slot: int) -> Path:
    """Where the worker of ``slot`` writes; the first one where a single process would."""
    return path if slot == 0 else path.with_name(f"{path.stem}.w{slot}{path.suffix}")


def fold(path: Path, count: int, today: str) -> None:
    """Add to the first file what workers there are no more, beyond ``count``, used today.

    Blocking; before the ledger is loaded. Raises :class:`LedgerFileError`.
    """
    try:
        _fold(path, count, today)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LedgerFileError(
            f"{path.parent}: the usage of earlier workers can't be read ({type(error).__name__}); "
            f"move {path.stem}.w*{path.suffix} away to forget it"
        ) from None


def _fold(path: Path, count: int, today: str) -> None:
    pattern = re.compile(re.escape(path.stem) + r"\.w(\d+)" + re.escape(path.suffix))
    for other in sorted(path.parent.glob(f"{path.stem}.w*{path.suffix}")):
        match = pattern.fullmatch(other.name)
        if match is None or int(match[1]) < count:
            continue
        data = json.loads(other.read_text())
        if data["day"] == today:
            sums = json.loads(path.read_text()) if path.exists() else {}
            if sums.get("day") != today:
                sums = {"day": today, "tenants": {}}
            for tenant, used in data["tenants"].items():
                held = sums["tenants"].setdefault(tenant, {"seconds": 0.0, "spend": 0.0})
                for name in ("seconds", "spend"):
                    held[name] += float(used[name])
            write_usage(path, sums)
        other.unlink()


class SharedDialLedger(DialLedger):
    """One worker's part of the ledger."""

    def __init__(self, path: Path, slot: int, count: int, *, clock: Callable[[], datetime]) -> None:
        """``path`` is the first worker's file; the others' are beside it."""
        super().__init__(slot_file(path, slot), clock=clock)
        self._first, self._count = path, count
        self._own = slot_file(path, slot)
        self._others = [slot_file(path, other) for other in range(count) if other != slot]
        self._lock_file = path.with_suffix(".lock")
        self._written = ("", 0.0)

    async def load(self) -> None:
        """As for one process; calls that a dead worker of this slot had are over.

        Raises :class:`LedgerFileError`.
        """
        if self._own == self._first:
            await asyncio.to_thread(fold, self._first, self._count, self._day.isoformat())
        await super().load()
        self._put(time.monotonic())

    def exhausted(self, charge: Charge, rules: DialTenant, now: float) -> DialRefusal | None:
        """Why a running call has to end now; None while it may go on."""
        try:
            return super().exhausted(charge, rules, now)
        except DialRefusedError:  # the others' usage can't be read at present
            return None

    async def save(self, now: float) -> None:
        """Write down how things stand."""
        self._put(now)

    def _put(self, now: float) -> None:
        tenants: dict[str, Any] = {}
        for name, account in self._accounts.items():
            seconds, spend = self.used(name, now)
            tenants[name] = {
                "seconds": round(seconds, 3),
                "spend": round(spend, 6),
                "closed": [account.seconds, account.spend],
                "running": [[charge.rate, charge.answered_at] for charge in account.running],
                "attempts": list(account.attempts),
            }
        try:
            write_usage(self._own, {"day": self._day.isoformat(), "tenants": tenants})
        except OSError as error:
            log.error("outbound.usage_not_kept", file=str(self._own), reason=error.strerror)
        self._written = (self._state(), now)

    def _state(self) -> str:
        """What changes where others should know at once."""
        return repr(
            [
                (name, account.seconds, [(c.rate, c.answered_at) for c in account.running])
                for name, account in self._accounts.items()
                if account.running or account.seconds
            ]
        )

    def _changed(self, now: float) -> None:
        state, at = self._written
        if now - at >= WRITE_SECONDS or state != self._state():
            self._put(now)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._lock_file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            for left in range(LOCK_TRIES, 0, -1):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if left == 1:
                        raise DialRefusedError(
                            DialRefusal.FULL,
                            "another worker is using the ledger",
                            retry_after=1.0,
                        ) from None
                    time.sleep(LOCK_PAUSE)
            yield
        finally:
            os.close(descriptor)

    def _elsewhere(self, tenant: str, now: float) -> Elsewhere:
        seconds = spend = 0.0
        running = 0
        attempts: list[float] = []
        for path in self._others:
            held = self._read(path, tenant)
            if held is None:
                continue
            charges = [Charge(tenant, rate, answered) for rate, answered in held["running"]]
            seconds += held["closed"][0] + sum(charge.seconds(now) for charge in charges)
            spend += held["closed"][1] + sum(charge.cost(now) for charge in charges)
            running += len(charges)
            attempts += [at for at in held["attempts"] if at > now - ATTEMPT_WINDOW]
        return Elsewhere(seconds, spend, running, tuple(attempts))

    def _read(self, path: Path, tenant: str) -> dict[str, Any] | None:
        """What another worker wrote of a tenant; None where that is nothing of today.

        Raises :class:`DialRefusedError` for a file that can't be read: nothing is known then.
        """
        try:
            data = json.loads(path.read_text())
            held = data["tenants"].get(tenant) if data["day"] == self._day.isoformat() else None
            return None if held is None or "closed" not in held else dict(held)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("outbound.usage_unreadable", file=str(path), error=type(error).__name__)
            raise DialRefusedError(
                DialRefusal.FULL, "another worker's usage can't be read", retry_after=5.0
            ) from None
