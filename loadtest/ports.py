"""Ports of loopback for servers that a test or a load test starts.

A port that the system handed out (``bind`` to 0) may go to a socket that connects elsewhere
before its server binds it. These lie below the range that Linux hands out by default (32768 to
60999, ``ip_local_port_range``), drawn at random, so that only another server can take them.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from typing import Final

HOST: Final = "127.0.0.1"
FIRST: Final = 10_000
LAST: Final = 29_999
TRIES: Final = 100


class NoFreePortError(RuntimeError):
    """No port, or no span of them, was found free."""


def free_port() -> int:
    """A port that is free for UDP and for TCP."""
    return free_span(1)


def free_span(size: int) -> int:
    """The first, an even port, of ``size`` that are free for UDP; it is for TCP too.

    Raises :class:`NoFreePortError` after :data:`TRIES` of them.
    """
    for _ in range(TRIES):
        first = FIRST + 2 * secrets.randbelow((LAST - FIRST - size) // 2)
        if _free(first, socket.SOCK_STREAM) and all(
            _free(port, socket.SOCK_DGRAM) for port in range(first, first + size)
        ):
            return first
    raise NoFreePortError(f"no {size} ports in a row are free between {FIRST} and {LAST}")


def _free(port: int, kind: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        with contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return True
        return False
