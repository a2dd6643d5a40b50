"""A real server in a process of its own, as its user starts it, on free loopback ports."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY_SECONDS = 60.0


def free_port(kind: int = socket.SOCK_DGRAM) -> int:
    """A port that was free a moment ago."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_span(size: int) -> int:
    """The even first port of ``size`` that are likely free together."""
    for _ in range(50):
        first = free_port() & ~1
        if first + size < 60000:
            return first
    raise RuntimeError("no span of free ports")


@dataclass
class RunningServer:
    """Where the server listens."""

    process: subprocess.Popen[bytes]
    sip_port: int
    http_port: int
    records_dir: Path
    log: Path

    @property
    def url(self) -> str:
        """Of its web server."""
        return f"http://127.0.0.1:{self.http_port}"

    def get(self, path: str) -> str:
        """A page of its web server."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def records(self) -> list[dict[str, Any]]:
        """The call records written so far, oldest first."""
        files = sorted(self.records_dir.glob("*.json"), key=lambda p: p.stat().st_mtime_ns)
        return [json.loads(path.read_text()) for path in files]

    def wait_for_records(self, count: int, seconds: float = 20) -> list[dict[str, Any]]:
        """Wait until ``count`` calls have ended and their records are written."""
        deadline = time.monotonic() + seconds
        while len(self.records()) < count and time.monotonic() < deadline:
            time.sleep(0.1)
        records = self.records()
        assert len(records) >= count, self.log.read_text()[-3000:]
        return records


@contextlib.contextmanager
def running_server(
    folder: Path, settings: Mapping[str, str] | None = None
) -> Iterator[RunningServer]:
    """Run ``ringtrue serve`` in ``folder`` with ``RINGTRUE_*`` settings given without prefix."""
    sip, rtp = free_port(), free_span(400)
    http = int((settings or {}).get("HTTP__PORT") or free_port(socket.SOCK_STREAM))
    environment = {key: value for key, value in os.environ.items() if "RINGTRUE_" not in key}
    environment |= {
        "RINGTRUE_SIP__HOST": "127.0.0.1",
        "RINGTRUE_SIP__PORT": str(sip),
        "RINGTRUE_SIP__RTP_PORT_MIN": str(rtp),
        "RINGTRUE_SIP__RTP_PORT_MAX": str(rtp + 399),
        "RINGTRUE_HTTP__HOST": "127.0.0.1",
        "RINGTRUE_HTTP__PORT": str(http),
        "RINGTRUE_RECORDS__DIR": str(folder / "records"),
        "RINGTRUE_SERVER__DRAIN_SECONDS": "1",
        "RINGTRUE_LOGGING__FORMAT": "json",
    }
    environment |= {f"RINGTRUE_{key}": value for key, value in (settings or {}).items()}
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ringtrue.agent.cli", "serve"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = RunningServer(process, sip, http, folder / "records", log)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
            raise AssertionError(f"server did not stop: {log.read_text()[-3000:]}") from None


def _wait_until_ready(server: RunningServer) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            server.get("/readyz")
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(f"server is not ready: {server.log.read_text()[-3000:]}")
