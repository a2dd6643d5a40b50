"""A TURN server: Debian's ``coturn``, sharing a secret, on an address ICE will use.

Tests that ask for one where it isn't installed are skipped with the reason.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from peers.loopback import ice_address
from ringtrue.loadtest.ports import free_port, free_span

SPAN = 100


class Coturn:
    """One server, which can be killed and started again on the same port."""

    def __init__(self, folder: Path, secret: str) -> None:
        path = shutil.which("turnserver")
        if path is None:
            pytest.skip("turnserver is not installed (Debian package: coturn)")
        self.host, self.port, self.secret = ice_address(), free_port(), secret
        first = free_span(SPAN)
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "turnserver.log"
        self._command = [
            path, "-n", "--log-file=stdout", "--no-cli", "--no-tls", "--no-dtls", "--fingerprint",
            "--allow-loopback-peers", "--use-auth-secret", f"--static-auth-secret={secret}",
            "--realm=ringtrue.test", f"--listening-ip={self.host}", f"--relay-ip={self.host}",
            f"--listening-port={self.port}", f"--min-port={first}", f"--max-port={first + SPAN}",
            f"--pidfile={folder / 'pid'}", f"--userdb={folder / 'users'}",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"turn:{self.host}:{self.port}?transport=udp"

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=subprocess.STDOUT, cwd=self.log.parent
            )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:  # it listens on TCP too
                if probe.connect_ex((self.host, self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(f"coturn did not start: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(5)
            self._process = None
