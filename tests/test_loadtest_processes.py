"""Processes read from a ``/proc`` of the test's making, and from the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ringtrue.loadtest.processes import FamilyProbe, apart, family, named, running_on, usage


def process(proc: Path, pid: int, parent: int, command: str, *, name: str = "x") -> None:
    entry = proc / str(pid)
    (entry / "fd").mkdir(parents=True)
    for number in range(3):
        (entry / "fd" / str(number)).touch()
    (entry / "cmdline").write_bytes(command.replace(" ", "\0").encode())
    fields = [str(pid), f"({name})", "S", str(parent), *["0"] * 9, "150", "50", *["0"] * 8, "7"]
    (entry / "stat").write_text(" ".join([*fields, "0", "0"]))


def test_a_family_is_everything_a_process_started(tmp_path: Path) -> None:
    process(tmp_path, 10, 1, "serve")
    process(tmp_path, 11, 10, "python -m a.worker", name="odd) name (")
    process(tmp_path, 12, 11, "python -m b.worker")
    process(tmp_path, 13, 1, "python -m a.worker")
    (tmp_path / "99").mkdir()
    assert family(10, tmp_path) == [10, 11, 12]
    assert list(named(family(10, tmp_path), "a.worker", tmp_path)) == [11]


def test_what_a_process_uses(tmp_path: Path) -> None:
    process(tmp_path, 10, 1, "serve")
    found = usage(10, tmp_path)
    assert found is not None
    assert found.cpu_seconds == 200 / os.sysconf("SC_CLK_TCK")
    assert found.rss_bytes == 7 * os.sysconf("SC_PAGE_SIZE")
    assert found.descriptors == 3
    assert usage(11, tmp_path) is None


def test_a_probe_reads_this_machine() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        cpu, rss, descriptors = FamilyProbe(child.pid).read()
        assert cpu is not None
        assert rss
        assert descriptors
        both = FamilyProbe(os.getpid()).read()
        assert both[1] is not None
        assert both[1] > rss
    finally:
        child.communicate(b"\n")
    assert FamilyProbe(child.pid).read() == (None, None, None)


def test_a_target_and_its_callers_get_processors_of_their_own() -> None:
    ours = os.sched_getaffinity(0)
    target, callers = apart()
    assert target | callers == ours
    assert len(ours) == 1 or not target & callers
    one = {min(ours)}
    with running_on(one):
        assert apart() == (one, one)
        child = [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"]
        assert subprocess.check_output(child, text=True).split() == [str(min(ours))]
    assert os.sched_getaffinity(0) == ours
