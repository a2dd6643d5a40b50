"""What a scenario does to its own target while calls are up, and undoes again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from ringtrue.loadtest.processes import family, named
from ringtrue.loadtest.scenario.schema import Fault
from ringtrue.loadtest.spawn import Spawned
from ringtrue.streaming.errors import RingtrueError

RECOGNIZER: Final = "ringtrue.streaming.recognizers.worker"
WORKER: Final = "ringtrue.agent.workers.process"

Undo = Callable[[], Awaitable[None]]


class FaultError(RingtrueError):
    """A fault could not be brought about."""


class Faults:
    """The faults of one run."""

    def __init__(
        self, server: Spawned, faults: Iterable[Fault], *, withdraw: str | None = None
    ) -> None:
        """``withdraw`` is the voice that a withdrawal takes back.

        Raises :class:`FaultError` for a withdrawal without one: consent that was taken back stays
        so, and whose it is must be said.
        """
        self._server = server
        self._faults = sorted(faults, key=lambda fault: fault.at)
        self._withdraw = withdraw
        self.notes: list[str] = []
        """What was done so far, and when."""

        if withdraw is None and any(f.kind == "voice_withdrawn" for f in self._faults):
            raise FaultError(
                "the scenario withdraws a voice's consent for good: say which by --withdraw NAME, "
                "and where it is by --config"
            )

    async def run(self, start: float) -> None:
        """Bring them about at their times after ``start`` (loop time)."""
        loop = asyncio.get_running_loop()
        waiting: list[tuple[float, str, Undo]] = []
        try:
            for fault in self._faults:
                await self._undo_until(start + fault.at, waiting, start)
                await asyncio.sleep(max(0.0, start + fault.at - loop.time()))
                said, undo = await self._do(fault)
                self.notes.append(f"{loop.time() - start:.1f} s: {said}")
                if fault.seconds is not None and undo is not None:
                    waiting.append((loop.time() + fault.seconds, said, undo))
            await self._undo_until(None, waiting, start)
        finally:
            for _, _, undo in waiting:
                await undo()

    async def _undo_until(
        self,
        moment: float | None,
        waiting: list[tuple[float, str, Undo]],
        start: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        for entry in sorted(waiting, key=lambda item: item[0]):
            due, said, undo = entry
            if moment is None or due <= moment:
                await asyncio.sleep(max(0.0, due - loop.time()))
                waiting.remove(entry)
                await undo()
                self.notes.append(f"{loop.time() - start:.1f} s: over: {said}")

    async def _do(self, fault: Fault) -> tuple[str, Undo | None]:
        server = self._server
        match fault.kind:
            case "llm":
                assert server.llm is not None
                llm, before = server.llm, server.llm.behaviour
                await llm.behave(fault.behaviour)
                return f"the language model is {fault.behaviour}", lambda: llm.behave(before)
            case "redis_dies":
                if server.redis is None:
                    raise FaultError("there is no Redis to kill")
                server.redis.kill()
                await server.redis.wait()
                return "Redis was killed", None
            case "recognizer_stalls":
                pids = list(named(family(server.process.pid)[1:], RECOGNIZER))
                if not pids:
                    raise FaultError("there is no recognizer process to stop")
                _signal(pids, signal.SIGSTOP)
                return "the recognizer was stopped", lambda: _later(_signal, pids, signal.SIGCONT)
            case "worker_killed":
                workers = list(named(family(server.process.pid)[1:], WORKER))
                if len(workers) < 2:
                    raise FaultError("there are no two workers, of which one could be killed")
                _signal(workers[:1], signal.SIGKILL)
                return "a worker was killed", None
            case "disk_full":
                pids = family(server.process.pid)
                before_limits = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
                _limit(dict.fromkeys(pids, (0, resource.RLIM_INFINITY)), before_limits)
                return "nothing can be written to disk", lambda: _later(
                    _limit, before_limits, before_limits
                )
            case "voice_withdrawn":
                assert self._withdraw is not None
                await server.installation.run("voices", "withdraw", self._withdraw)
                return "the voice's consent was withdrawn", None
        raise AssertionError(fault.kind)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _limit(limits: dict[int, tuple[int, int]], before: dict[int, tuple[int, int]]) -> None:
    """Bound the size of files that processes may write; the hard limit stays as it was."""
    for pid, (soft, _) in limits.items():
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, before[pid][1]))


async def _later(act: Callable[..., None], *arguments: object) -> None:
    act(*arguments)
