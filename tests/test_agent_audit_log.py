"""The log as others use it: recording, gaps, faults and their end, witnesses."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from audit_logs import KEYS, SIGNER, TEXTS, entries, kinds, moment, opened, said

from ringtrue.agent.audit.entries import Event, Kind
from ringtrue.agent.audit.errors import WitnessError
from ringtrue.agent.audit.log import AuditLog, LogPolicy
from ringtrue.agent.audit.verifying import verify
from ringtrue.agent.audit.witness import FileWitness, read_witness, witness_at

FAST = LogPolicy(linger_seconds=0.001, retry_seconds=(0.01,), witness_seconds=2.0)


@asynccontextmanager
async def audit_log(directory: Path, **options: Any) -> AsyncIterator[AuditLog]:
    options.setdefault("policy", FAST)
    async with AuditLog.open(directory, SIGNER, TEXTS, **options) as log:
        yield log


async def until(condition: Any, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_is_recorded_is_in_the_log_in_order(tmp_path: Path) -> None:
    async with audit_log(tmp_path) as log:
        assert log.writable
        for number in range(1000):
            log.record(said(number, call=f"call-{number}"))
        assert await log.flush()
        assert log.stats.entries == 1000
        assert log.stats.groups < 100
    calls = [entry["call"] for entry in entries(tmp_path) if entry["kind"] == "utterance"]
    assert calls == [f"call-{number}" for number in range(1000)]
    assert verify(tmp_path, KEYS).problems == []


async def test_many_threads_may_record(tmp_path: Path) -> None:
    async with audit_log(tmp_path) as log:
        threads = [
            threading.Thread(target=lambda: [log.record(said(n)) for n in range(200)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
    assert kinds(tmp_path).count("utterance") == 800
    assert verify(tmp_path, KEYS).problems == []


async def test_a_lazy_log_touches_nothing_before_the_first_event(tmp_path: Path) -> None:
    async with audit_log(tmp_path / "audit", lazy=True) as log:
        assert log.writable
        assert await log.flush()
    assert not (tmp_path / "audit").exists()
    async with audit_log(tmp_path / "audit", lazy=True) as log:
        log.record(Event(Kind.INCIDENT))
    assert kinds(tmp_path / "audit") == ["log.opened", "incident", "log.closed"]


async def test_a_directory_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "place").write_text("in the way")
    told: list[str | None] = []
    async with audit_log(tmp_path / "place", on_fault=told.append) as log:
        assert not log.writable
        assert log.fault == "File exists"
        log.record(said(1))
        (tmp_path / "place").unlink()
        await until(lambda: log.writable)
    assert kinds(tmp_path / "place") == ["log.opened", "utterance", "log.resumed", "log.closed"]
    assert told == ["File exists", None]


async def test_a_full_disk_stops_new_voices_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()
    real = os.pwrite

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        if full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    async with audit_log(tmp_path) as log:
        log.record(said(0))
        await log.flush()
        full.set()
        for number in range(1, 500):
            log.record(said(number))
        assert not await log.flush()
        assert not log.writable
        assert log.fault == "No space left on device"
        assert log.stats.faults == 1
        full.clear()
        await until(lambda: log.writable)
        assert log.stats.lost == 0
    assert kinds(tmp_path).count("utterance") == 500
    (resumed,) = [entry for entry in entries(tmp_path) if entry["kind"] == "log.resumed"]
    detail: Any = resumed["detail"]
    assert (detail["lost"], detail["reason"]) == (0, "No space left on device")
    assert verify(tmp_path, KEYS).problems == []


async def test_an_overflow_is_counted_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    go.set()
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (go.wait(10), real(descriptor))[1])
    policy = LogPolicy(queue=10, linger_seconds=0.001, stall_seconds=0.05)
    async with audit_log(tmp_path, policy=policy) as log:
        go.clear()
        log.record(said(0))
        await until(lambda: not log._queue)
        await until(lambda: log.fault == "the disk takes too long")
        for number in range(1, 31):
            log.record(said(number))
        assert log.stats.lost == 20
        assert not log.writable
        assert log.waiting == 11
        go.set()
        await until(lambda: log.writable)
    assert kinds(tmp_path).count("utterance") == 11
    (resumed,) = [entry for entry in entries(tmp_path) if entry["kind"] == "log.resumed"]
    assert resumed["detail"] == {"lost": 20}
    assert verify(tmp_path, KEYS).notes == ["w00: entry 12: 20 events were lost before it"]


async def test_a_broken_log_keeps_the_alarm_up_and_recording_goes_on(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    writer.close(moment(1))
    path = tmp_path / "w00" / "0000000000000000.jsonl"
    path.write_bytes(path.read_bytes().replace(b"log.opened", b"log.closed"))
    async with audit_log(tmp_path) as log:
        log.record(said(1))
        assert await log.flush()
        assert not log.writable
        assert "w00" in (log.fault or "")
    assert kinds(tmp_path, "w01") == ["log.opened", "log.broken", "utterance", "log.closed"]


async def test_an_event_that_is_none_harms_only_itself(tmp_path: Path) -> None:
    async with audit_log(tmp_path) as log:
        log.record(None)  # type: ignore[arg-type]
        await until(lambda: log.stats.lost == 1)
        await until(lambda: log.writable)
        log.record(said(1))
    assert kinds(tmp_path) == ["log.opened", "log.resumed", "utterance", "log.closed"]


async def test_after_the_end_nothing_is_recorded_and_nothing_raised(tmp_path: Path) -> None:
    async with audit_log(tmp_path) as log:
        pass
    log.record(said(1))
    assert not log.writable
    assert kinds(tmp_path) == ["log.opened", "log.closed"]


async def test_a_witness_gets_every_checkpoint(tmp_path: Path) -> None:
    witness = tmp_path / "elsewhere" / "notes"
    for number in range(2):
        async with audit_log(tmp_path / "audit", witnesses=[FileWitness(witness)]) as log:
            log.record(said(number))
            await log.flush()
    notes = read_witness(witness)
    assert len(notes) == 4
    report = verify(tmp_path / "audit", KEYS, witness=notes)
    assert report.problems == []
    assert report.logs[0].witnessed == 4


class Sulking:
    """A witness that takes nothing until told to."""

    def __init__(self) -> None:
        self.willing = False
        self.notes: list[str] = []

    def take(self, note: str) -> None:
        if not self.willing:
            raise WitnessError("not now")
        self.notes.append(note)


async def test_a_failing_witness_is_an_alarm_and_no_loss(tmp_path: Path) -> None:
    witness = Sulking()
    async with audit_log(tmp_path, witnesses=[witness]) as log:
        await until(lambda: log.witness_fault == "not now")
        log.record(said(1))
        assert await log.flush()
        assert log.writable
        witness.willing = True
        await until(lambda: log.witness_fault is None)
    assert len(witness.notes) == 2
    assert verify(tmp_path, KEYS, witness=witness.notes).logs[0].witnessed == 2


async def test_a_witness_over_http(tmp_path: Path) -> None:
    got: list[bytes] = []
    answers = iter([b"503 Busy", b"200 OK", b"200 OK"])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        status = next(answers)
        if status == b"200 OK":
            got.append(body)
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        witness = witness_at(f"http://127.0.0.1:{port}/checkpoints")
        async with audit_log(tmp_path, witnesses=[witness]):
            pass
    assert len(got) == 2
    notes = [body.decode() for body in got]
    assert verify(tmp_path, KEYS, witness=notes).logs[0].witnessed == 2
