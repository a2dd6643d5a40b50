"""Whatever is done to a log is found; what happens to one by itself is not held against it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_logs import KEYS, SIGNER, TEXTS, add, moment, opened, said, write_log
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ringtrue.agent.audit.segments import segments_of
from ringtrue.agent.audit.verifying import verify
from ringtrue.agent.audit.writer import LogWriter, WriterPolicy
from ringtrue.voices.keys.signing import Signer


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("audit") / "log"
    write_log(directory)
    report = verify(directory, KEYS)
    assert report.problems == []
    assert report.logs[0].closed
    assert report.logs[0].checked == report.logs[0].size == 22
    return directory


def copied(written: Path, tmp_path: Path) -> Path:
    target = tmp_path / "copy"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(written, target)
    return target


def data_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*.jsonl"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.integers(0, 10**9), st.integers(0, 7))
def test_any_flipped_bit_is_found(written: Path, tmp_path: Path, at: int, bit: int) -> None:
    directory = copied(written, tmp_path)
    files = data_files(directory)
    at %= sum(path.stat().st_size for path in files)
    for path in files:
        data = bytearray(path.read_bytes())
        if at < len(data):
            data[at] ^= 1 << bit
            path.write_bytes(data)
            break
        at -= len(data)
    assert not verify(directory, KEYS).good


def drop(lines: list[bytes], at: int, other: int) -> list[bytes]:
    return lines[:at] + lines[at + 1 :]


def double(lines: list[bytes], at: int, other: int) -> list[bytes]:
    return [*lines[: at + 1], *lines[at:]]


def swap(lines: list[bytes], at: int, other: int) -> list[bytes]:
    changed = lines[:]
    changed[at], changed[other] = changed[other], changed[at]
    return changed


def truncate(lines: list[bytes], at: int, other: int) -> list[bytes]:
    return lines[:at]


def replay(lines: list[bytes], at: int, other: int) -> list[bytes]:
    """An older checkpoint where a later one stood."""
    marks = [number for number, line in enumerate(lines) if line.startswith(b'{"checkpoint"')]
    if len(marks) < 2:
        return lines[:-1]
    changed = lines[:]
    changed[marks[-1]] = changed[marks[0]]
    return changed


@pytest.mark.parametrize("edit", [drop, double, swap, truncate, replay])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_any_edit_of_lines_is_found(
    written: Path,
    tmp_path: Path,
    edit: Callable[[list[bytes], int, int], list[bytes]],
    data: st.DataObject,
) -> None:
    directory = copied(written, tmp_path)
    path = data.draw(st.sampled_from(data_files(directory)))
    lines = path.read_bytes().split(b"\n")[:-1]
    at = data.draw(st.integers(0, len(lines) - 1))
    other = data.draw(st.integers(0, len(lines) - 1))
    changed = edit(lines, at, other)
    if changed == lines:
        return
    path.write_bytes(b"".join(line + b"\n" for line in changed))
    assert not verify(directory, KEYS).good


@given(st.integers(1, 3000))
@example(1)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_cut_of_the_end_is_found(written: Path, tmp_path: Path, cut: int) -> None:
    directory = copied(written, tmp_path)
    path = list(segments_of(directory / "w00").values())[-1]
    data = path.read_bytes()
    path.write_bytes(data[: -min(cut, len(data))])
    assert not verify(directory, KEYS).good


def test_missing_files_are_found(written: Path, tmp_path: Path) -> None:
    for name in [path.relative_to(written) for path in data_files(written)]:
        directory = copied(written, tmp_path)
        (directory / name).unlink()
        assert not verify(directory, KEYS).good, name
    directory = copied(written, tmp_path)
    shutil.rmtree(directory / "w00")
    assert not verify(directory, KEYS).good


def test_swapped_segments_are_found(written: Path, tmp_path: Path) -> None:
    directory = copied(written, tmp_path)
    one, two = list(segments_of(directory / "w00").values())[:2]
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert not verify(directory, KEYS).good


def test_a_log_rewritten_under_another_key_is_found(tmp_path: Path) -> None:
    write_log(tmp_path / "log")
    report = verify(tmp_path / "log", [Signer.generate().public])
    assert any("not trusted here" in problem.what for problem in report.problems)


def test_a_problem_says_where(written: Path, tmp_path: Path) -> None:
    directory = copied(written, tmp_path)
    path = list(segments_of(directory / "w00").values())[1]
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2].replace(b'"tenant":"default"', b'"tenant":"another"')
    path.write_bytes(b"\n".join(lines))
    (problem, *_) = verify(directory, KEYS).problems
    assert problem.where.startswith(f"w00: {path.name} line ")


def test_a_log_rolled_back_whole_needs_the_witness(tmp_path: Path) -> None:
    directory, notes = tmp_path / "log", []
    writer = opened(directory, on_checkpoint=notes.append)
    add(writer, [said(1)], 1)
    writer.close(moment(2))
    earlier = copied(directory, tmp_path)
    writer = opened(directory, 10, on_checkpoint=notes.append)
    add(writer, [said(2)], 11)
    writer.close(moment(12))
    assert verify(directory, KEYS, witness=notes).problems == []
    assert verify(earlier, KEYS).good
    report = verify(earlier, KEYS, witness=notes)
    assert any("cut back" in problem.what for problem in report.problems)
    # … and grown again into another history.
    writer = opened(earlier, 10)
    add(writer, [said(3)], 11)
    writer.close(moment(12))
    assert verify(earlier, KEYS).good
    report = verify(earlier, KEYS, witness=notes)
    assert any("not those it knows" in problem.what for problem in report.problems)


def test_a_log_missing_altogether_needs_the_witness(tmp_path: Path) -> None:
    notes: list[str] = []
    opened(tmp_path / "log", on_checkpoint=notes.append).close(moment(1))
    shutil.rmtree(tmp_path / "log")
    report = verify(tmp_path / "log", KEYS, witness=notes)
    assert any("missing" in problem.what for problem in report.problems)


def test_a_forged_note_of_the_witness_is_found(written: Path) -> None:
    report = verify(written, KEYS, witness=["no note at all"])
    assert [problem.where for problem in report.problems] == ["witness note 1"]


def test_a_live_log_may_end_unsigned(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    add(writer, [said(1), said(2)], 1)
    report = verify(tmp_path, KEYS)
    assert report.problems == []
    assert report.notes == ["w00: 2 entries are not signed yet"]
    copy = copied(tmp_path / "w00", tmp_path / "elsewhere").rename(tmp_path / "elsewhere" / "w00")
    shutil.copy(tmp_path / "index.jsonl", copy.parent)
    assert not verify(copy.parent, KEYS).good
    assert verify(copy.parent, KEYS, live=True).good
    writer.close(moment(2))


def test_several_logs_know_of_each_other(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    assert (first.slot.name, second.slot.name) == ("w00", "w01")
    for writer in (second, first):
        add(writer, [said(1)], 1)
        writer.close(moment(2))
    assert verify(tmp_path, KEYS).good
    shutil.rmtree(tmp_path / "w00")
    report = verify(tmp_path, KEYS)
    assert {problem.where for problem in report.problems} == {"w00"}


def test_old_segments_go_and_what_is_left_can_still_be_verified(tmp_path: Path) -> None:
    notes: list[str] = []
    policy = WriterPolicy(keep=moment(100) - moment(0), segment_seconds=50)
    writer = opened(tmp_path, policy=policy, on_checkpoint=notes.append)
    for second in range(0, 400, 20):
        add(writer, [said(second)], second)
        writer.tidy(moment(second))
        writer._pruned_at = None
    kept = list(segments_of(tmp_path / "w00"))
    assert kept[0] > 0
    writer.close(moment(400))
    report = verify(tmp_path, KEYS, witness=notes)
    assert report.problems == []
    assert report.logs[0].first == kept[0]
    assert report.logs[0].witnessed > 0
    # One more that nobody deleted by age:
    segments_of(tmp_path / "w00")[kept[0]].unlink()
    assert any("not deleted by age" in p.what for p in verify(tmp_path, KEYS).problems)


def test_since_reads_only_what_is_later(written: Path) -> None:
    report = verify(written, KEYS, since=moment(15))
    assert report.problems == []
    assert 0 < report.logs[0].checked < 22


def test_keys_change(tmp_path: Path) -> None:
    opened(tmp_path).close(moment(1))
    later = Signer.generate()
    writer = LogWriter.open(tmp_path, later, TEXTS, moment(2), trusted=[SIGNER.public])
    writer.close(moment(3))
    assert verify(tmp_path, [later.public, SIGNER.public]).good
    assert not verify(tmp_path, [later.public]).good
