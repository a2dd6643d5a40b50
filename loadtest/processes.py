"""The target's processes on this machine: who they are, what they use, where they may run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process uses."""

    cpu_seconds: float
    rss_bytes: int
    descriptors: int


def family(pid: int, proc: Path = PROC) -> list[int]:
    """``pid`` and everything it started, itself first."""
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                children.setdefault(int(_stat(entry)[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found.extend(sorted(children.get(one, ())))
    return found


def apart() -> tuple[set[int], set[int]]:
    """Processors for a target and for its callers: the upper half of ours are the callers'.

    Both get all of them where there is only one.
    """
    ours = sorted(os.sched_getaffinity(0))
    half = (len(ours) + 1) // 2
    return set(ours[:half]), set(ours[half:] or ours)


@contextlib.contextmanager
def running_on(cores: Iterable[int]) -> Iterator[None]:
    """Keep this thread, and the processes that it starts meanwhile, on ``cores``."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def named(pids: list[int], words: str, proc: Path = PROC) -> Iterator[int]:
    """Those of ``pids`` whose command line holds ``words``."""
    for pid in pids:
        with contextlib.suppress(OSError):
            if words.encode() in (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" "):
                yield pid


def usage(pid: int, proc: Path = PROC) -> Usage | None:
    """What ``pid`` uses; None where it is gone."""
    entry = proc / str(pid)
    try:
        stat = _stat(entry)
        ticks = int(stat[11]) + int(stat[12])
        pages = int(stat[21])
        descriptors = sum(1 for _ in (entry / "fd").iterdir())
    except (OSError, ValueError, IndexError):
        return None
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"), descriptors)


class FamilyProbe:
    """Reads a process and all that it started, together."""

    def __init__(self, pid: int) -> None:
        """``pid`` is the first of them."""
        self.pid = pid
        self.resident: dict[int, int] = {}
        """Bytes by process, at the last reading."""

        self._gone = 0.0
        self._last: dict[int, float] = {}

    def read(self) -> tuple[float | None, int | None, int | None]:
        """CPU seconds so far, those that ended since included; resident bytes; descriptors."""
        found = {pid: used for pid in family(self.pid) if (used := usage(pid)) is not None}
        self.resident = {pid: used.rss_bytes for pid, used in found.items()}
        if not found:
            return None, None, None
        self._gone += sum(cpu for pid, cpu in self._last.items() if pid not in found)
        self._last = {pid: used.cpu_seconds for pid, used in found.items()}
        return (
            self._gone + sum(self._last.values()),
            sum(used.rss_bytes for used in found.values()),
            sum(used.descriptors for used in found.values()),
        )


def _stat(entry: Path) -> list[str]:
    """Fields of ``stat`` from the third on: the name before them may hold anything (proc(5))."""
    return (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
