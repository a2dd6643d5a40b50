"""``ringtrue serve`` as a process of its own, on loopback and free ports."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ringtrue.loadtest.ports import free_port
from ringtrue.streaming.errors import RingtrueError

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
SIP_HOST: Final = "127.0.0.1"

_SAMPLE: Final = re.compile(r"^([a-zA-Z_:]\w*)(?:\{(.*)\})? (\S+)$")


class ServedError(RingtrueError):
    """The server did not start, or did not stop."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that is up."""

    process: subprocess.Popen[bytes]
    sip_port: int
    http_port: int
    records_dir: Path
    log: Path

    @property
    def url(self) -> str:
        """Of its web server."""
        return f"http://{SIP_HOST}:{self.http_port}"

    def get(self, path: str) -> str:
        """The text of a page. Raises ``OSError`` where there is none."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as page:
            text: str = page.read().decode()
            return text

    def metrics(self) -> dict[str, float]:
        """Every sample by its name, with labels as they are written."""
        found = {}
        for line in self.get("/metrics").splitlines():
            sample = _SAMPLE.match(line)
            if sample is not None:
                name, labels, value = sample.groups()
                found[f"{name}{{{labels}}}" if labels else name] = float(value)
        return found


@contextlib.contextmanager
def serving(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Served]:
    """Serve in ``folder`` with ``RINGTRUE_*`` settings, given without that prefix.

    The server's own log (``server.log``) and records lie in ``folder``. Raises
    :class:`ServedError`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {
        "SIP__HOST": SIP_HOST,
        "SIP__PORT": str(free_port()),
        "SIP__RTP_PORT_MIN": "30000",
        "SIP__RTP_PORT_MAX": "33999",
        "HTTP__HOST": SIP_HOST,
        "HTTP__PORT": str(free_port()),
        "RECORDS__DIR": str(folder / "records"),
        "RECORDS__KEEP": "10000",
        "SERVER__DRAIN_SECONDS": "1",
        "LOGGING__FORMAT": "json",
        **(settings or {}),
    }
    environment = {key: value for key, value in os.environ.items() if "RINGTRUE_" not in key}
    environment |= {f"RINGTRUE_{key}": value for key, value in chosen.items()}
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ringtrue.agent.cli", "serve"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    sip, http = int(chosen["SIP__PORT"]), int(chosen["HTTP__PORT"])
    served = Served(process, sip, http, folder / "records", log)
    try:
        _await_ready(served)
        yield served
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
            raise ServedError(f"the server did not stop; its log: {log}") from None


def _await_ready(served: Served) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while served.process.poll() is None and time.monotonic() < deadline:
        try:
            served.get("/readyz")
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise ServedError(f"the server is not ready; its log: {served.log}")
