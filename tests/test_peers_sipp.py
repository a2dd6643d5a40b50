"""sipp calls the running server: twenty talkers at once, and more than there is room for."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from speech import pause, say

from peers.server import RunningServer, running_server
from ringtrue.loadtest.ports import free_port, free_span
from ringtrue.loadtest.scanner import scanning
from ringtrue.telephony.codecs.g711 import UlawCodec

SIPP = shutil.which("sipp")
SCENARIOS = Path(__file__).parent / "peers" / "sipp"
UNMEASURED = {"ADMISSION__ENABLED": "false"}
"""Everybody is taken up to ``server.max_calls``, however busy the machine that runs the tests."""

CALLS = 20
RATE = 4
"""Calls begun in a second. How many callers who ask at the same moment a machine can listen to is
its capacity, which is measured (docs/capacity.md), not tested."""

ROOM = 10
LEAD_SECONDS = 1.5
HOLD_SECONDS = 9.0

pytestmark = pytest.mark.skipif(SIPP is None, reason="sipp (Debian: sip-tester) is not installed")


@pytest.fixture(scope="module")
def question(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A caller's line as raw PCMU: quiet, a question, quiet to the end of the call."""
    spoken = say("What are your opening hours?", 8000, "rms")
    rest = HOLD_SECONDS - LEAD_SECONDS - len(spoken) / 8000
    line = np.concatenate([pause(LEAD_SECONDS), spoken, pause(rest)])
    path = tmp_path_factory.mktemp("line") / "question.ulaw"
    path.write_bytes(UlawCodec().encode(line.astype("<i2").tobytes()))
    return path


@contextmanager
def sipp(
    server: RunningServer, folder: Path, scenario: str, calls: int, line: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """sipp placing ``calls`` at once, to be waited for with :func:`succeeded`."""
    assert SIPP is not None
    folder.mkdir()
    if line is not None:
        shutil.copy(line, folder / "question.ulaw")
    process = subprocess.Popen(
        [
            *(SIPP, f"127.0.0.1:{server.sip_port}", "-s", "reception"),
            *("-sf", str(SCENARIOS / f"{scenario}.xml"), "-i", "127.0.0.1", "-mi", "127.0.0.1"),
            *("-p", str(free_port()), "-mp", str(free_span(100)), "-nostdin"),
            *(
                "-m",
                str(calls),
                "-l",
                str(calls),
                "-r",
                str(RATE),
                "-d",
                str(round(HOLD_SECONDS * 1000)),
            ),
            *("-timeout", "40", "-timeout_error", "-trace_err", "-error_file", "errors"),
        ],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=(folder / "out").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(5)


def succeeded(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for sipp: it ends with 0 only where every call went by its scenario."""
    status = process.wait(50)
    errors = folder / "errors"
    said = errors.read_text(errors="replace")[-2000:] if errors.is_file() else ""
    assert status == 0, said + (folder / "out").read_text(errors="replace")[-2000:]


def metric(text: str, name: str, **labels: str) -> float:
    """The value of one sample of a Prometheus page; 0 where it is not there."""
    for line in text.splitlines():
        match = re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line)
        if match and dict(re.findall(r'(\w+)="([^"]*)"', match[1] or "")) == labels:
            return float(match[2])
    return 0.0


def went_well(record: dict[str, Any]) -> None:
    """One talker's call: heard throughout, spoken to, and nothing kept back."""
    assert record["outcome"] == "caller_hung_up", record
    assert record["agent"] == "reception"
    assert record["refused"] == {}
    assert record["errors"] == {}
    assert record["inbound_dropped"] == 0
    assert record["packets_lost"] == 0
    assert record["packets_received"] > 0.9 * 50 * HOLD_SECONDS
    assert record["frames_sealed"] > 0.9 * 50 * HOLD_SECONDS
    assert record["digests"], "nothing was spoken"


def gapless(records: list[dict[str, Any]]) -> None:
    """Next to no 20 ms block was missing inside what the agent said."""
    spoken = sum(turn["heard_ms"] for record in records for turn in record["turns"]) / 20
    assert spoken > len(records) * 50
    assert sum(record["underruns"] for record in records) <= 0.005 * spoken


def test_twenty_talkers_at_once(question: Path, tmp_path: Path) -> None:
    """All are greeted, all ask into the greeting, and all get an answer."""
    with running_server(tmp_path / "server", UNMEASURED) as server:
        folder = tmp_path / "sipp"
        with sipp(server, folder, "talker", CALLS, question) as process:
            most = 0.0
            while process.poll() is None:
                active = metric(server.get("/metrics"), "ringtrue_calls_active", transport="sip")
                most = max(most, active)
                time.sleep(0.25)
            succeeded(process, folder)
        records = server.wait_for_records(CALLS)
        page = server.get("/metrics")
    assert most == CALLS
    assert len(records) == len({record["call_id"] for record in records}) == CALLS
    for record in records:
        went_well(record)
    gapless(records)
    assert [record["interruptions"] for record in records] == [1] * CALLS
    answered = [r for r in records if any("turn_latency" in t["intervals_ms"] for t in r["turns"])]
    assert len(answered) == CALLS
    ended = metric(page, "ringtrue_calls_total", transport="sip", outcome="caller_hung_up")
    assert ended == CALLS
    assert metric(page, "ringtrue_calls_active", transport="sip") == 0
    assert metric(page, "ringtrue_clock_calls") == 0
    assert metric(page, "ringtrue_clock_faults_total") == 0
    assert metric(page, "ringtrue_frames_sealed_total") == sum(r["frames_sealed"] for r in records)
    received = sum(record["packets_received"] for record in records)
    assert metric(page, "ringtrue_packets_total", fate="received") == received


def test_more_callers_than_room_and_a_scanner(question: Path, tmp_path: Path) -> None:
    """Those beyond the limit get 503 with Retry-After; those in the call notice nothing.

    Neither do they of a scanner's 500 INVITEs a second, most of which are dropped unread.
    """
    late = 12
    settings = {
        "SERVER__MAX_CALLS": str(ROOM),
        "SIP__CALLERS__REQUIRED": "true",
        "SIP__CALLERS__TRUSTED": "127.0.0.1",
        **UNMEASURED,
    }
    with running_server(tmp_path / "server", settings) as server:
        first, second = tmp_path / "first", tmp_path / "second"
        with sipp(server, first, "talker", ROOM, question) as talkers:
            deadline = time.monotonic() + 10
            while metric(server.get("/metrics"), "ringtrue_calls_active", transport="sip") < ROOM:
                assert time.monotonic() < deadline, server.log.read_text()[-2000:]
                time.sleep(0.1)
            with scanning(server.sip_port) as scan:
                with sipp(server, second, "refused", late) as refused:
                    succeeded(refused, second)
                succeeded(talkers, first)
        records = server.wait_for_records(ROOM)
        page = server.get("/metrics")
    assert Counter(record["outcome"] for record in records) == {"caller_hung_up": ROOM}
    for record in records:
        went_well(record)
    gapless(records)
    assert metric(page, "ringtrue_calls_refused_total", reason="full") == late
    assert metric(page, "ringtrue_calls_active", transport="sip") == 0
    dropped = metric(page, "ringtrue_sip_calls_dropped_total")
    forbidden = metric(page, "ringtrue_sip_callers_total", verdict="forbidden")
    assert scan.sent > 1000
    assert dropped > 0.8 * scan.sent  # the system may drop some itself
    assert 0 < forbidden < 0.1 * scan.sent
    assert dropped + forbidden <= scan.sent
