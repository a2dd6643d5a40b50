"""Loading stands back, what is loaded doesn't, and errors come out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ringtrue.agent.workers.process import LOADING_NICE, load

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities on Linux")


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "loaded_by_a_worker", raising=False)
    return tmp_path / "loaded_by_a_worker.py"


@needs_linux
def test_only_loading_has_a_low_priority(module: Path) -> None:
    module.write_text("import os\nSEEN = os.getpriority(os.PRIO_PROCESS, 0)\n")
    before = priority()
    assert min(before + LOADING_NICE, 19) == load(module.stem).SEEN
    assert priority() == before


def test_what_importing_raises_comes_out(module: Path) -> None:
    module.write_text("raise LookupError('nothing here')\n")
    with pytest.raises(LookupError, match="nothing here"):
        load(module.stem)


@needs_linux
def test_no_thread_that_loading_a_server_leaves_keeps_the_low_priority() -> None:
    # In a process of its own: here all is loaded already.
    code = (
        "import os, time\n"
        "from ringtrue.agent.workers.process import load\n"
        "load('ringtrue.agent.workers.working')\n"
        "own = os.getpriority(os.PRIO_PROCESS, 0)\n"
        "def left():\n"
        "    try:\n"
        "        threads = map(int, os.listdir('/proc/self/task'))\n"
        "        return {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} - {own}\n"
        "    except ProcessLookupError:\n"
        "        return {None}\n"
        "deadline = time.monotonic() + 10\n"  # a joined thread's end is told a moment late
        "while left():\n"
        "    assert time.monotonic() < deadline\n"
        "    time.sleep(0.05)\n"
    )
    assert os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-P", "-c", code) == 0


def test_a_workers_numpy_has_no_threads_that_spin() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    code = "import ringtrue.agent.workers.process, os; print(os.environ['OPENBLAS_NUM_THREADS'])"
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)
    assert printed.stdout.strip() == b"1"
