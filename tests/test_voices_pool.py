"""Long jobs: what they give, and that nothing they do reaches the server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import pytest_asyncio

from ringtrue.voices.engine import Progress
from ringtrue.voices.errors import CloningAbortedError, CloningError, EngineBusyError
from ringtrue.voices.job import LENGTH, MAX_REQUEST, Spec
from ringtrue.voices.pool import JobLimits, JobPool

JOBS = "fakes.jobs"


def ignore(progress: Progress) -> None:
    """Nobody asked."""


@pytest.fixture(autouse=True)
def _jobs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[JobPool]:
    made = JobPool()
    yield made
    await made.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


async def test_a_job_gets_its_request_and_gives_its_result(pool: JobPool) -> None:
    request = bytes(range(256)) * 8000
    heard: list[Progress] = []
    assert await pool.run(f"{JOBS}:echo", request, heard.append) == request
    assert heard == [Progress(0.25, "echoing"), Progress(1.0, "done")]
    assert pool.pids == ()


@pytest.mark.uvloop
async def test_it_works_on_the_servers_loop(pool: JobPool) -> None:
    assert await pool.run(f"{JOBS}:echo", b"x" * 300_000, ignore) == b"x" * 300_000
    job = asyncio.create_task(pool.run(f"{JOBS}:hang", b"", ignore))
    await until(lambda: bool(pool.pids))
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job


async def test_a_job_is_nice_and_knows_no_secrets(
    pool: JobPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGTRUE_KEYS__MASTER", "secret")
    found = json.loads(await pool.run(f"{JOBS}:surroundings", b"", ignore))
    assert found["nice"] == os.nice(0) + JobLimits().nice
    assert found["core"] == 0
    assert found["environment"]["OMP_NUM_THREADS"] == "1"
    assert not [name for name in found["environment"] if name.startswith("RINGTRUE")]
    assert "numpy" in found["modules"]
    assert "pipecat" not in found["modules"]


async def test_progress_never_falls_and_is_bounded(pool: JobPool) -> None:
    heard: list[Progress] = []
    await pool.run(f"{JOBS}:backwards", b"", heard.append)
    assert [progress.done for progress in heard] == [0.5, 0.5, 1.0]
    assert all(len(progress.doing) <= 200 for progress in heard)


async def test_a_refusal_keeps_its_words(pool: JobPool) -> None:
    with pytest.raises(CloningError, match=r"^4 s of speech; at least 5 are needed$") as caught:
        await pool.run(f"{JOBS}:refuse", b"", ignore)
    assert type(caught.value) is CloningError


@pytest.mark.parametrize(
    ("job", "why"),
    [
        ("stumble", r"KeyError at jobs.py:\d+: 'nowhere'"),
        ("segfault", "killed by SIGSEGV"),
        ("leave", "ended with status 255"),
        ("gorge", "MemoryError"),
        ("burn", "killed by SIG(XCPU|KILL)"),
        ("boast", "result of 16777217 bytes; at most 16777216"),
        ("babble", "unknown kind 255"),
        ("flood", "1048576 bytes of unknown kind 9"),
        ("nothing", "AttributeError"),
    ],
)
async def test_a_crash_is_an_error_and_the_next_job_runs(job: str, why: str) -> None:
    pool = JobPool(JobLimits(memory=512 << 20, cpu_seconds=2))
    with pytest.raises(CloningAbortedError, match=why):
        await pool.run(f"{JOBS}:{job}", b"", ignore)
    assert await pool.run(f"{JOBS}:echo", b"again", ignore) == b"again"
    await pool.close()


async def test_a_job_has_its_time() -> None:
    pool = JobPool(JobLimits(seconds=0.5))
    with pytest.raises(CloningAbortedError, match=r"more than the 0\.5 s it may"):
        await pool.run(f"{JOBS}:hang", b"", ignore)
    assert pool.pids == ()
    await pool.close()


async def test_cancelling_kills_the_process(pool: JobPool) -> None:
    heard: list[Progress] = []
    job = asyncio.create_task(pool.run(f"{JOBS}:hang", b"", heard.append))
    await until(lambda: bool(heard))
    (pid,) = pool.pids
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_few_run_some_wait_and_the_rest_is_refused(tmp_path: Path) -> None:
    pool = JobPool(JobLimits(running=1, waiting=2))
    heard: list[list[Progress]] = [[], [], []]
    signs = [tmp_path / str(number) for number in range(3)]
    jobs = []
    for sign, progress in zip(signs, heard, strict=True):
        jobs.append(
            asyncio.create_task(pool.run(f"{JOBS}:until_told", str(sign).encode(), progress.append))
        )
    await until(lambda: bool(heard[0] and heard[1] and heard[2]))
    assert len(pool.pids) == 1
    assert [progress[0].doing for progress in heard[1:]] == ["waiting for its turn"] * 2
    with pytest.raises(EngineBusyError, match=r"are being made \(1\) or wait \(2\)"):
        await pool.run(f"{JOBS}:echo", b"", ignore)
    jobs[1].cancel()  # who waits may leave
    for sign in signs:
        sign.touch()
    assert await jobs[0] == b"told"
    assert await jobs[2] == b"told"
    with pytest.raises(asyncio.CancelledError):
        await jobs[1]
    assert await pool.run(f"{JOBS}:echo", b"free", ignore) == b"free"
    await pool.close()


async def test_close_ends_what_runs_and_what_waits() -> None:
    pool = JobPool()
    jobs = [asyncio.create_task(pool.run(f"{JOBS}:hang", b"", ignore)) for _ in range(3)]
    await until(lambda: bool(pool.pids))
    await pool.close()
    await pool.close()
    for job in jobs:
        with pytest.raises(CloningAbortedError, match="server is stopping"):
            await job
    with pytest.raises(CloningAbortedError, match="server is stopping"):
        await pool.run(f"{JOBS}:echo", b"", ignore)


def test_a_job_ends_with_its_parent() -> None:
    """Its stdin closes when the server dies, however it dies."""
    spec = Spec(f"{JOBS}:hang", nice=0, memory=1 << 30, cpu_seconds=60)
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "ringtrue.voices.job", json.dumps(asdict(spec))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(LENGTH.pack(0))
        process.stdin.flush()
        assert process.stdout.read(1)  # it reports, so it runs
        process.stdin.close()
        assert process.wait(10) == 1


async def test_limits_and_requests_are_checked(pool: JobPool) -> None:
    with pytest.raises(ValueError, match="running must be above 0, got 0"):
        JobLimits(running=0)
    with pytest.raises(ValueError, match="waiting must be at least 0, got -1"):
        JobLimits(waiting=-1)
    with pytest.raises(ValueError, match=f"at most {MAX_REQUEST} bytes"):
        await pool.run(f"{JOBS}:echo", bytes(MAX_REQUEST + 1), ignore)
