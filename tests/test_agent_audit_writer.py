"""The writer: what it does to the disk, and how it takes up what a crash left."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from audit_logs import KEYS, SIGNER, TEXTS, add, entries, kinds, moment, opened, said, write_log
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringtrue.agent.audit.entries import Event, Kind, encode
from ringtrue.agent.audit.errors import LogBrokenError
from ringtrue.agent.audit.published import read_checkpoint
from ringtrue.agent.audit.recovery import Recovered, recover
from ringtrue.agent.audit.segments import mac_line, segments_of
from ringtrue.agent.audit.texts import TextKeeper
from ringtrue.agent.audit.verifying import verify
from ringtrue.agent.audit.writer import LogWriter, WriterPolicy
from ringtrue.voices.keys.signing import Signer


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB, some of it in a file that can be deleted; skipped where not root."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems can't be mounted here")
    try:
        (place / "ballast").write_bytes(bytes(256 * 1024))
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_an_entry_says_what_happened(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    event = Event(
        Kind.CONSENT_GIVEN,
        tenant="acme",
        voice="v_1",
        consent="ab" * 16,
        requester="key k1",
        detail={"days": 3, "renewal": False, "odd": "\ud800", "long": "x" * 5000},
    )
    add(writer, [event], 1.5)
    writer.close(moment(2))
    entry = entries(tmp_path)[1]
    assert entry["at"] == "2026-03-01T12:00:01.500000Z"
    assert (entry["tenant"], entry["voice"], entry["requester"]) == ("acme", "v_1", "key k1")
    assert entry["detail"] == {"days": 3, "renewal": False, "odd": "?", "long": "x" * 512}
    assert "call" not in entry
    assert "text" not in entry
    assert verify(tmp_path, KEYS).good


def test_checkpoints_come_by_number_by_time_and_at_the_end(tmp_path: Path) -> None:
    notes: list[str] = []
    policy = WriterPolicy(checkpoint_entries=3, checkpoint_seconds=10)
    writer = opened(tmp_path, policy=policy, on_checkpoint=notes.append)
    add(writer, [said(1), said(2)], 1)
    assert [read_checkpoint(note, KEYS)[0].size for note in notes] == [1]
    add(writer, [said(3)], 2)
    add(writer, [said(4)], 3)
    add(writer, [said(5)], 12)
    assert not writer.checkpoint_due(moment(30))
    writer.close(moment(13))
    assert [read_checkpoint(note, KEYS)[0].size for note in notes] == [1, 4, 6, 7]


def test_a_log_is_taken_up_where_it_was_closed(tmp_path: Path) -> None:
    write_log(tmp_path)
    writer = opened(tmp_path, 100)
    assert writer.size == 23
    writer.close(moment(101))
    assert kinds(tmp_path)[-4:] == ["utterance", "log.closed", "log.opened", "log.closed"]
    assert verify(tmp_path, KEYS).problems == []


def test_a_log_is_taken_up_where_its_writer_died(tmp_path: Path) -> None:
    write_log(tmp_path, closed=False)
    assert not verify(tmp_path, KEYS).good
    opened(tmp_path, 100).close(moment(101))
    report = verify(tmp_path, KEYS)
    assert report.problems == []
    assert report.notes == ["w00: entry 22: taken up after a crash, 0 bytes cut"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(st.integers(1, 900), st.binary(max_size=40))
def test_whatever_a_crash_left_unsigned_is_cut_off_and_told(
    tmp_path: Path, kept: int, garbage: bytes
) -> None:
    directory = tmp_path / f"{kept}-{garbage.hex()}"
    writer = opened(directory)
    signed = (directory / "w00" / "0000000000000000.jsonl").stat().st_size
    add(writer, [said(number) for number in range(3)], 1)
    writer._release()
    path = directory / "w00" / "0000000000000000.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[: min(len(data), signed + kept)] + garbage)
    opened(directory, 5).close(moment(6))
    report = verify(directory, KEYS)
    assert report.problems == []
    assert len(report.notes) == 1
    torn = [file.read_bytes() for file in (directory / "w00").glob("torn-*")]
    (recovered,) = [entry for entry in entries(directory) if entry["kind"] == "log.recovered"]
    assert recovered["detail"]["bytes"] == sum(map(len, torn))  # type: ignore[index]


def test_what_an_intruder_adds_behind_a_dead_writer_is_not_taken_over(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    add(writer, [said(1)], 1)
    writer._release()
    path = tmp_path / "w00" / "0000000000000000.jsonl"
    whole = path.read_bytes()
    last = whole.splitlines()[-1]
    prev = hashlib.sha256(last).hexdigest()
    forged = encode(said(2), log=writer.log, seq=2, prev=prev, at=moment(2))
    other = TextKeeper(bytes(32))
    chain = hashlib.sha256(forged).hexdigest()
    for code in (b"", mac_line(other.code(writer.log, 3, chain)) + b"\n", last + b"\n"):
        path.write_bytes(whole + forged + b"\n" + code)
        assert len(recovered(tmp_path).torn) == len(forged) + 1 + len(code)
        assert recovered(tmp_path).replay.size == 2
    # … nor is what was changed in a group that was not signed yet.
    path.write_bytes(whole.replace(b'"call-1"', b'"call-2"'))
    assert recovered(tmp_path).replay.size == 1
    opened(tmp_path, 5).close(moment(6))
    assert "utterance" not in kinds(tmp_path)
    assert verify(tmp_path, KEYS).notes != []


def recovered(directory: Path) -> Recovered:
    found = recover(directory / "w00", KEYS, TEXTS.code)
    assert found is not None
    return found


CRASHING = """
import os, signal, sys, threading, time
sys.path.insert(0, {tests!r})
from audit_logs import SECRET, said
from pathlib import Path
from ringtrue.agent.audit.texts import TextKeeper
from ringtrue.agent.audit.writer import LogWriter, Pending, WriterPolicy
from ringtrue.voices.keys.signing import Signer
from datetime import datetime, UTC
now, texts = lambda: datetime.now(UTC), TextKeeper(SECRET)
policy = WriterPolicy(checkpoint_entries=7, segment_bytes=5000)
writer = LogWriter.open(Path({log!r}), Signer.load(Path({key!r})), texts, now(), policy=policy)
print(writer.slot.name, flush=True)
number = 0
while True:
    writer.append([Pending(said(number + more), now()) for more in range(3)], now())
    writer.tidy(now())
    number += 3
    print(number, flush=True)
"""


def test_processes_killed_at_any_moment_lose_nothing_they_wrote(tmp_path: Path) -> None:
    key, log = tmp_path / "key.pem", tmp_path / "log"
    signer = Signer.create(key)
    source = CRASHING.format(tests=str(Path(__file__).parent), log=str(log), key=str(key))
    promised = {"w00": 0, "w01": 0}
    for round_ in range(3):
        running = [
            subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
            for _ in promised
        ]
        for process in running:
            assert process.stdout is not None
            slot = process.stdout.readline().strip()
            for _ in range(5 + 3 * round_):
                process.stdout.readline()
            process.kill()
            rest = process.stdout.read().splitlines()
            process.stdout.close()
            process.wait()
            whole = [int(line) for line in rest if line.isdecimal()]
            promised[slot] += max(whole, default=3 * (5 + 3 * round_))
    for slot in promised:
        writer = LogWriter.open(log, signer, TEXTS, moment(0))
        assert writer.slot.name == "w00"
        writer.close(moment(1))
        if slot == "w01":
            break
    report = verify(log, [signer.public], live=True)
    assert report.problems == []
    for slot, count in promised.items():
        assert kinds(log, slot).count("utterance") >= count


def test_what_was_signed_is_never_taken_for_a_crash(tmp_path: Path) -> None:
    write_log(tmp_path, segments=1)
    (path,) = segments_of(tmp_path / "w00").values()
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"seq":7', b'"seq":8', 1))
    broken: list[LogBrokenError] = []
    writer = opened(tmp_path, 50, on_broken=broken.append)
    assert writer.slot.name == "w01"
    assert "stands where 7 belongs" in str(broken[0])
    writer.close(moment(51))
    assert kinds(tmp_path, "w01") == ["log.opened", "log.broken", "log.closed"]
    assert path.read_bytes() == data.replace(b'"seq":7', b'"seq":8', 1)
    assert {problem.where.split(":")[0] for problem in verify(tmp_path, KEYS).problems} == {"w00"}


def test_the_text_key_may_change(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    for number in range(3):
        add(writer, [said(number)], 1)
    writer.close(moment(2))
    broken: list[LogBrokenError] = []
    later = LogWriter.open(
        tmp_path, SIGNER, TextKeeper(bytes(32)), moment(3), on_broken=broken.append
    )
    later.close(moment(4))
    assert broken == []
    assert verify(tmp_path, KEYS).notes == []


def test_a_crash_between_finishing_and_beginning_a_segment(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    add(writer, [said(1)], 1)
    writer.rotate(moment(2))
    writer._release()
    opened(tmp_path, 5).close(moment(6))
    assert len(segments_of(tmp_path / "w00")) == 2
    assert verify(tmp_path, KEYS).problems == []


def test_a_crash_before_a_finished_segment_was_sealed(tmp_path: Path) -> None:
    write_log(tmp_path)
    sealed = tmp_path / "w00" / "sealed.jsonl"
    lines = sealed.read_bytes().splitlines(keepends=True)
    sealed.write_bytes(b"".join(lines[:-1]) + lines[-1][:50])
    opened(tmp_path, 100).close(moment(101))
    assert sealed.read_bytes().splitlines(keepends=True) == lines
    assert verify(tmp_path, KEYS).problems == []


def test_a_crash_before_the_index_knew(tmp_path: Path) -> None:
    opened(tmp_path).close(moment(1))
    (tmp_path / "index.jsonl").unlink()
    assert not verify(tmp_path, KEYS).good
    opened(tmp_path, 2).close(moment(3))
    assert verify(tmp_path, KEYS).problems == []


@pytest.mark.parametrize("step", ["pwrite", "fsync"])
def test_a_disk_that_fails_leaves_the_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    writer = opened(tmp_path)
    add(writer, [said(1)], 1)
    before = (tmp_path / "w00" / "0000000000000000.jsonl").read_bytes()
    real = getattr(os, step)
    written = 0

    def fails(descriptor: int, *rest: object) -> int:
        nonlocal written
        written += 1
        if step == "pwrite" and written == 1:
            part: memoryview = rest[0]  # type: ignore[assignment]
            return int(real(descriptor, part[: len(part) // 2], rest[1]))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, fails)
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            add(writer, [said(2)], 2)
    monkeypatch.undo()
    assert (tmp_path / "w00" / "0000000000000000.jsonl").read_bytes() == before
    assert writer.size == 2
    add(writer, [said(2)], 3)
    writer.close(moment(4))
    assert kinds(tmp_path) == ["log.opened", "utterance", "utterance", "log.closed"]
    assert verify(tmp_path, KEYS).problems == []


def flood(writer: LogWriter) -> None:
    for number in range(10_000):
        add(writer, [said(number)] * 50, number)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(512)):
            pass


def test_a_full_file_system(small_disk: Path) -> None:
    writer = opened(small_disk / "audit")
    with pytest.raises(OSError, match="No space"):
        flood(writer)
    size = writer.size
    (small_disk / "ballast").unlink()
    add(writer, [said(1)], 10_000)
    writer.close(moment(10_001))
    report = verify(small_disk / "audit", KEYS)
    assert report.problems == []
    assert report.logs[0].size == size + 2


def test_a_full_file_system_while_a_segment_is_finished(small_disk: Path) -> None:
    writer = opened(small_disk / "audit")
    add(writer, [said(1)], 1)
    fill(small_disk / "rest")
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            writer.rotate(moment(2))
    (small_disk / "ballast").unlink()
    writer.rotate(moment(3))
    add(writer, [said(2)], 4)
    writer.close(moment(5))
    assert len(segments_of(small_disk / "audit" / "w00")) == 2
    assert verify(small_disk / "audit", KEYS).problems == []


def test_two_processes_write_two_logs(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    assert (first.slot.name, second.slot.name) == ("w00", "w01")
    assert first.log != second.log
    first.close(moment(1))
    third = opened(tmp_path, 2)
    assert (third.slot.name, third.log) == ("w00", first.log)
    for writer in (second, third):
        writer.close(moment(3))
    assert verify(tmp_path, KEYS).problems == []


def test_a_log_of_unknown_keys_is_broken(tmp_path: Path) -> None:
    write_log(tmp_path)
    broken: list[LogBrokenError] = []
    with pytest.raises(LogBrokenError, match="not trusted here"):
        LogWriter.open(tmp_path, Signer.generate(), TEXTS, moment(50), on_broken=broken.append)
    assert len(broken) == 1
    assert verify(tmp_path, [SIGNER.public]).logs[0].size == 22
