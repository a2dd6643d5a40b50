"""A Redis server of one test's own, which can be killed, hung and started again."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree, which

import pytest

PATIENCE = 10.0
"""Seconds a server may take to start or end."""


@dataclass
class RedisServer:
    """One server on a Unix socket, without persistence. ``url`` stays the same for its life."""

    folder: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        assert self._process is None
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--save", ""]
            + ["--appendonly", "no", "--dir", str(self.folder), "--daemonize", "no"]
            + ["--repl-diskless-sync-delay", "0"],
            stdout=(self.folder / "log").open("wb"),
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                pytest.fail(f"redis-server: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.01)

    def kill(self) -> None:
        """``kill -9``: it says goodbye to nobody. A hung one as well."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    def hang(self) -> None:
        """Stop it where it is: connections stay, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after :meth:`hang`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def ask(self, *words: str | bytes) -> bytes:
        """What ``redis-cli`` prints for a command, without the line's end."""
        done = subprocess.run(
            ["redis-cli", "-s", str(self.socket), *words],
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
        return done.stdout.removesuffix(b"\n")

    def names(self) -> list[str]:
        """The names of everything it holds."""
        return sorted(self.ask("--scan").decode().split())

    def snapshot(self) -> bytes:
        """All it holds, as the bytes of an RDB file that is not compressed."""
        self.ask("CONFIG", "SET", "rdbcompression", "no")
        file = self.folder / "snapshot.rdb"
        self.ask("--rdb", str(file))
        return file.read_bytes()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(1.0)
            try:
                link.connect(str(self.socket))
                link.sendall(b"PING\r\n")
                return link.recv(16).startswith(b"+PONG")
            except OSError:
                return False


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """Start a server; skips the test, saying why, where there is none to start."""
    if which("redis-server") is None:
        pytest.skip("needs a Redis server (Debian package redis-server)")
    # Not pytest's folder: a socket's path is at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="rt-redis-"))
    server = RedisServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        rmtree(folder, ignore_errors=True)
