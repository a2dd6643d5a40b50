"""Worker processes: death, bounds, refusals, an orderly end."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from speech import pause, say

from ringtrue.streaming.errors import RecognizerError
from ringtrue.streaming.recognizers.grammar import Grammar
from ringtrue.streaming.recognizers.pool import OpenUtterance, PoolPolicy, WorkerPool
from ringtrue.streaming.recognizers.vocabulary import Vocabulary
from ringtrue.streaming.recognizers.wire import Kind, Message

GRAMMAR = Grammar(vocabulary=Vocabulary(("I want to cancel my order", "where is my order")))
SPEECH = "where is my order"


async def begin(pool: WorkerPool, grammar: Grammar = GRAMMAR) -> OpenUtterance:
    return await pool.start(grammar.key, 8000, mirror=0.5, cmn=None)


async def recognize(pool: WorkerPool) -> str:
    utterance = await begin(pool)
    utterance.accept(say(SPEECH).tobytes())
    return (await utterance.finish()).text


async def until(condition: Callable[[], bool]) -> None:
    """Wait for ``condition()``, at most 20 s of real time."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(PoolPolicy(processes=1, max_utterances=2, max_backlog=4.0))
    await pool.load(GRAMMAR)
    yield pool
    await pool.close()


async def test_killed_worker_fails_its_utterances_and_is_replaced(pool: WorkerPool) -> None:
    utterance = await begin(pool)
    utterance.accept(say(SPEECH).tobytes())
    (before,) = pool.pids
    finishing = asyncio.create_task(utterance.finish())
    os.kill(before, signal.SIGKILL)
    with pytest.raises(RecognizerError, match="worker is gone"):
        await finishing
    with pytest.raises(RecognizerError, match="worker is gone"):
        utterance.accept(b"\0\0")
    # The next utterance waits for the new worker, which has the grammar again.
    assert await recognize(pool) == SPEECH
    assert pool.restarts == 1
    (after,) = pool.pids
    assert after != before


async def test_a_worker_that_is_stopped_is_replaced_and_one_that_works_is_not() -> None:
    pool = WorkerPool(PoolPolicy(beat=0.1, missed_beats=6))
    try:
        await pool.load(GRAMMAR)
        await asyncio.sleep(1.5)
        (before,) = pool.pids
        assert pool.restarts == 0
        utterance = await begin(pool)
        utterance.accept(say(SPEECH).tobytes())
        os.kill(before, signal.SIGSTOP)
        with pytest.raises(RecognizerError, match="worker is gone"):
            await utterance.finish()
        assert await recognize(pool) == SPEECH
        assert before not in pool.pids
    finally:
        await pool.close()


async def test_garbage_from_a_worker_replaces_it(pool: WorkerPool) -> None:
    worker = pool._workers[0]
    assert worker.process is not None
    assert worker.process.stdin is not None
    (before,) = pool.pids
    # An unknown kind makes the worker itself give up, as a broken parent would.
    worker.process.stdin.write(b"\xff" * 64)
    await until(lambda: pool.restarts == 1)
    assert await recognize(pool) == SPEECH
    assert before not in pool.pids


@pytest.mark.uvloop
async def test_on_the_production_loop() -> None:
    pool = WorkerPool(PoolPolicy(processes=2))
    try:
        await pool.load(GRAMMAR)
        assert len(pool.pids) == 2
        assert await asyncio.gather(*(recognize(pool) for _ in range(4))) == [SPEECH] * 4
    finally:
        await pool.close()


async def test_close_leaves_no_process() -> None:
    pool = WorkerPool(PoolPolicy(processes=2))
    await pool.load(GRAMMAR)
    pids = pool.pids
    utterance = await begin(pool)
    await pool.close()
    await pool.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    with pytest.raises(RecognizerError, match="gone"):
        await utterance.finish()
    with pytest.raises(RecognizerError, match="not loaded"):
        await begin(pool)


async def test_too_many_utterances_are_refused(pool: WorkerPool) -> None:
    first, _ = await begin(pool), await begin(pool)
    with pytest.raises(RecognizerError, match="full: 2 utterances in each of 1"):
        await begin(pool)
    first.cancel()
    assert await recognize(pool) == SPEECH


async def test_backlog_is_bounded(pool: WorkerPool) -> None:
    utterance = await begin(pool)
    utterance.accept(pause(3.9).tobytes())
    with pytest.raises(RecognizerError, match="4 s behind"):
        utterance.accept(pause(0.2).tobytes())
    with pytest.raises(RecognizerError, match="4 s behind"):
        await utterance.finish()
    assert await recognize(pool) == SPEECH


class Listless:
    """A worker that is sent to."""

    missed = 0

    def send(self, message: Message) -> None:
        """Into the void."""


@pytest.mark.virtual_time
async def test_what_waits_is_told_by_how_long_and_not_by_how_much() -> None:
    """What was kept from before the VAD's start comes at once: that alone is no delay."""
    utterance = OpenUtterance(Listless(), 1, 8000, PoolPolicy())  # type: ignore[arg-type]

    def progress(seconds: float) -> None:
        utterance.receive(Message(Kind.PROGRESS, 1, struct.pack("<I", round(8000 * seconds))))

    assert utterance.waiting == 0.0
    utterance.accept(bytes(2 * 6400))
    assert utterance.waiting == 0.0
    await asyncio.sleep(0.05)
    utterance.accept(bytes(2 * 960))
    await asyncio.sleep(0.25)
    assert utterance.waiting == pytest.approx(0.3)
    progress(0.8)
    assert utterance.waiting == pytest.approx(0.25)
    progress(0.92)
    assert utterance.waiting == 0.0


async def test_length_is_bounded() -> None:
    pool = WorkerPool(PoolPolicy(max_seconds=1.0))
    try:
        await pool.load(GRAMMAR)
        utterance = await begin(pool)
        with pytest.raises(RecognizerError, match="longer than 1 s"):
            utterance.accept(pause(1.1).tobytes())
    finally:
        await pool.close()


async def test_cancelled_utterance_frees_its_decoder_and_place(pool: WorkerPool) -> None:
    for _ in range(6):
        utterance = await begin(pool)
        utterance.accept(say(SPEECH).tobytes())
        utterance.cancel()
        with pytest.raises(RecognizerError, match="cancelled"):
            await utterance.finish()
    assert await recognize(pool) == SPEECH
    assert pool.restarts == 0


async def test_grammar_that_cannot_load_is_named_and_harms_nobody(
    pool: WorkerPool, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jsgf"
    broken.write_text("#JSGF V1.0; grammar g; public <a> = (one;")
    with pytest.raises(RecognizerError, match=r"broken\.jsgf"):
        await pool.load(Grammar(jsgf=broken))
    with pytest.raises(RecognizerError, match="not loaded"):
        await begin(pool, Grammar(jsgf=broken))
    assert await recognize(pool) == SPEECH
    assert pool.restarts == 0


async def test_worker_that_never_comes_up_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    pool = WorkerPool(PoolPolicy(open_timeout=0.3))
    try:
        with pytest.raises(RecognizerError, match="no recognizer worker is up"):
            await pool.load(GRAMMAR)
    finally:
        await pool.close()


def test_no_processes_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        WorkerPool(PoolPolicy(processes=0))
