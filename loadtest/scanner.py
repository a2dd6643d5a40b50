"""A scanner: INVITEs from one address, as fast as it is told to, answers unread."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

INVITE: Final = """INVITE sip:{number}@127.0.0.1 SIP/2.0\r
Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{number}\r
Max-Forwards: 70\r
From: <sip:{number}@{host}>;tag=s{number}\r
To: <sip:{number}@127.0.0.1>\r
Call-ID: scan-{number}\r
CSeq: 1 INVITE\r
Contact: <sip:{number}@{host}:{port}>\r
User-Agent: friendly-scanner\r
Content-Length: 0\r
\r
"""
PERIOD: Final = 0.02
"""Seconds between two bursts, which make up the rate."""

FAR: Final = "127.0.0.7"
"""Where it scans from: no address that anybody else calls from."""


@dataclass(slots=True)
class Scan:
    """How far it is."""

    sent: int = 0
    """INVITEs sent."""


@contextlib.contextmanager
def scanning(port: int, *, host: str = FAR, per_second: int = 500) -> Iterator[Scan]:
    """Send INVITEs to 127.0.0.1 ``port`` from ``host`` until the context ends."""
    scan, over = Scan(), threading.Event()

    def work() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.bind((host, 0))
            own = wire.getsockname()[1]
            began = time.monotonic()
            while not over.wait(PERIOD):
                for _ in range(int((time.monotonic() - began) * per_second) - scan.sent):
                    scan.sent += 1
                    data = INVITE.format(number=scan.sent, host=host, port=own).encode()
                    with contextlib.suppress(OSError):
                        wire.sendto(data, ("127.0.0.1", port))

    thread = threading.Thread(target=work, name="scanner")
    thread.start()
    try:
        yield scan
    finally:
        over.set()
        thread.join(5)
