"""Call records on disk."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

from ringtrue.agent.records import Recent, RecordStore
from ringtrue.streaming.record import CallRecord, Stage, TurnRecord


def record(call_id: str) -> CallRecord:
    return CallRecord(call_id, "sip", "inbound", "reception", 8000, 1.0, ended_at=2.0)


async def test_writes_one_file_a_call_and_keeps_the_newest(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "records", keep=3)
    for n in range(6):
        await store.write(record(f"call-{n}"))
        os.utime(tmp_path / "records" / f"call-{n}.json", (n, n))
    names = sorted(path.name for path in (tmp_path / "records").iterdir())
    assert names == ["call-3.json", "call-4.json", "call-5.json"]
    assert json.loads((tmp_path / "records" / "call-5.json").read_text())["duration_ms"] == 1000
    assert len(store.recent) == 6


async def test_a_hostile_call_id_stays_in_the_directory(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "records", keep=3)
    await store.write(record("../../etc/passwd\0x"))
    assert len(list((tmp_path / "records").iterdir())) == 1
    assert len(list(tmp_path.iterdir())) == 1


async def test_a_disk_that_refuses_troubles_no_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = RecordStore(tmp_path / "file", keep=3)
    await store.write(record("c"))
    assert len(store.recent) == 1


async def test_what_is_kept_in_memory_is_a_copy_and_no_objects() -> None:
    recent = Recent(3)
    gc.collect()
    before = len(gc.get_objects())
    for n in range(50):
        kept = record(f"call-{n}")
        kept.turns.append(TurnRecord(0, {Stage.FIRST_PACKET: 1.5}))
        kept.errors["OSError"] += n
        recent.append(kept)
        kept.outcome = "changed afterwards"
    last = recent.last()
    assert last is not None
    assert (last.call_id, last.outcome, last.errors["OSError"]) == ("call-49", None, 49)
    assert last.turns[0].stages == {Stage.FIRST_PACKET: 1.5}
    assert [each.call_id for each in recent.all()] == ["call-47", "call-48", "call-49"]
    del kept, last, n
    gc.collect()
    assert len(gc.get_objects()) - before <= 5


def test_nothing_is_the_last_of_none() -> None:
    assert Recent().last() is None


async def test_without_a_directory_nothing_is_written(tmp_path: Path) -> None:
    store = RecordStore(None, keep=3)
    await store.write(record("c"))
    assert list(tmp_path.iterdir()) == []


async def test_workers_prune_one_directory_between_them(tmp_path: Path) -> None:
    (tmp_path / "gone.json").symlink_to(tmp_path / "deleted by another worker")
    store = RecordStore(tmp_path, keep=2)
    for n in range(3):
        await store.write(record(f"call-{n}"))
        os.utime(tmp_path / f"call-{n}.json", (n + 1, n + 1))
    await store.write(record("call-3"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["call-2.json", "call-3.json"]
