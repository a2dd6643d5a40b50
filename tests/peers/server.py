"""A real server in a process of its own, as its user starts it, on free loopback ports."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ringtrue.loadtest.ports import free_span
from ringtrue.loadtest.served import Served, ServedError, serving

RTP_PORTS = 400


class RunningServer(Served):
    """Where the server listens, and what it recorded."""

    __slots__ = ()

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
    """Run ``ringtrue serve`` in ``folder`` with ``RINGTRUE_*`` settings given without prefix.

    Fails with the end of the server's log where it doesn't start or stop.
    """
    rtp = free_span(RTP_PORTS)
    chosen = {
        "SIP__RTP_PORT_MIN": str(rtp),
        "SIP__RTP_PORT_MAX": str(rtp + RTP_PORTS - 1),
        **(settings or {}),
    }
    try:
        with serving(folder, chosen) as up:
            yield RunningServer(up.process, up.sip_port, up.http_port, up.records_dir, up.log)
    except ServedError as error:
        log = (folder / "server.log").read_text()
        raise AssertionError(f"{error}: {log[-3000:]}") from None
