"""A server of a benchmark's own: what its metrics say, and that it says why it didn't start."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ringtrue.loadtest.served import Served, ServedError, serving

PAGE = """# HELP ringtrue_calls_active Calls in progress
# TYPE ringtrue_calls_active gauge
ringtrue_calls_active{transport="sip"} 3.0
process_cpu_seconds_total 12.5
ringtrue_odd{le="+Inf",x="a b"} +Inf
"""


def test_samples_are_read_with_their_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Served, "get", lambda self, path: PAGE)
    process = subprocess.Popen(["true"])
    process.wait()
    served = Served(process, 1, 2, Path("records"), Path("log"))
    assert served.metrics() == {
        'ringtrue_calls_active{transport="sip"}': 3.0,
        "process_cpu_seconds_total": 12.5,
        'ringtrue_odd{le="+Inf",x="a b"}': float("inf"),
    }


def test_a_server_that_does_not_start_leaves_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(ServedError, match="not ready"),
        serving(tmp_path, {"SERVER__MAX_CALLS": "none"}),
    ):
        pass
    assert "max_calls" in (tmp_path / "server.log").read_text()
