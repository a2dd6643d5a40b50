"""Faults, done to processes that stand for a target's."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ringtrue.loadtest.faults import RECOGNIZER, WORKER, FaultError, Faults
from ringtrue.loadtest.phones import Access
from ringtrue.loadtest.scenario.schema import Fault, Llm
from ringtrue.loadtest.spawn import Spawned
from ringtrue.loadtest.stand_ins.language import LanguageStandIn
from ringtrue.loadtest.tool import Installation

CHILD = "import sys; sys.stdin.read()"


def fault(kind: str, at: float = 0.0, **more: Any) -> Fault:
    return Fault.model_validate({"kind": kind, "at": at, **more})


async def child(*names: str) -> Process:
    """A process that waits, with ``names`` on its command line."""
    return await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, *names, stdin=PIPE)


@contextlib.asynccontextmanager
async def target(*children: str) -> AsyncIterator[tuple[Spawned, list[int]]]:
    """A target with a child for each of ``children``."""
    code = (
        "import subprocess, sys\n"
        f"started = [subprocess.Popen([sys.executable, '-c', {CHILD!r}, name], "
        "stdin=subprocess.PIPE) for name in sys.argv[1:]]\n"
        "print(*(one.pid for one in started), flush=True)\n"
        "sys.stdin.read()\n"
        "[one.communicate() for one in started]\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *children, stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    pids = [int(word) for word in (await process.stdout.readline()).split()]
    try:
        yield Spawned(process, Installation(), 1, 2, Access()), pids
    finally:
        await process.communicate(b"")


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_a_recognizer_is_stopped_and_goes_on() -> None:
    async with target(RECOGNIZER, "other") as (server, (recognizer, other)):
        faults = Faults(server, [fault("recognizer_stalls", seconds=0.2)])
        running = asyncio.create_task(faults.run(asyncio.get_running_loop().time()))
        await asyncio.sleep(0.1)
        assert state(recognizer) == "T"
        assert state(other) in "RS"
        await running
        assert state(recognizer) in "RS"
        assert [note.split(": ", 1)[1] for note in faults.notes] == [
            "the recognizer was stopped",
            "over: the recognizer was stopped",
        ]


async def test_what_is_cancelled_is_undone() -> None:
    async with target(RECOGNIZER) as (server, (recognizer,)):
        faults = Faults(server, [fault("recognizer_stalls", seconds=100)])
        running = asyncio.create_task(faults.run(asyncio.get_running_loop().time()))
        await asyncio.sleep(0.1)
        assert state(recognizer) == "T"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert state(recognizer) in "RS"


async def test_one_of_two_workers_is_killed() -> None:
    async with target(WORKER, WORKER) as (server, (first, second)):
        await Faults(server, [fault("worker_killed")]).run(0.0)
        await asyncio.sleep(0.1)
        assert state(first) == "Z"
        assert state(second) in "RS"


async def test_nothing_can_be_written_for_a_while() -> None:
    async with target("a child") as (server, (pid,)):
        faults = Faults(server, [fault("disk_full", seconds=0.2)])
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        running = asyncio.create_task(faults.run(asyncio.get_running_loop().time()))
        await asyncio.sleep(0.1)
        assert resource.prlimit(pid, resource.RLIMIT_FSIZE)[0] == 0
        await running
        assert resource.prlimit(pid, resource.RLIMIT_FSIZE) == before


async def test_redis_and_the_language_model_die() -> None:
    redis = await child("redis")
    async with target() as (server, _), LanguageStandIn(Llm(), 1) as model:
        server.redis, server.llm = redis, model
        faults = Faults(
            server, [fault("llm", 0.1, behaviour="dead", seconds=0.1), fault("redis_dies")]
        )
        running = asyncio.create_task(faults.run(asyncio.get_running_loop().time()))
        await asyncio.sleep(0.15)
        assert model.behaviour == "dead"
        await running
        assert model.behaviour == "normal"
    assert redis.returncode == -9
    assert len(faults.notes) == 3


@pytest.mark.parametrize("kind", ["redis_dies", "recognizer_stalls", "worker_killed"])
async def test_what_is_not_there_cannot_fail(kind: str) -> None:
    async with target() as (server, _):
        with pytest.raises(FaultError, match="there (is|are) no"):
            await Faults(server, [fault(kind)]).run(0.0)


async def test_consent_is_not_withdrawn_unasked() -> None:
    async with target() as (server, _):
        with pytest.raises(FaultError, match="--withdraw NAME"):
            Faults(server, [fault("voice_withdrawn")])
