"""linphonec as a phone that takes REFER and Replaces; it plays a WAV and hears nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ringtrue.loadtest.ports import free_port, free_span


def needs_linphone() -> None:
    """Skip where linphonec is not installed."""
    if shutil.which("linphonec") is None:
        pytest.skip("needs linphonec (Debian package linphone-cli)")


@dataclass
class Linphone:
    """A running linphonec."""

    folder: Path
    process: subprocess.Popen[bytes]
    sip_port: int

    def command(self, line: str) -> None:
        """Type ``line``; a digit by itself is pressed."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    @property
    def log(self) -> str:
        """Everything it printed."""
        return (self.folder / "log").read_text(errors="replace")


@contextlib.contextmanager
def linphone(folder: Path, user: str, *, answers: bool = False) -> Iterator[Linphone]:
    """Run linphonec as ``user`` in ``folder``; ``answers`` calls at once."""
    needs_linphone()
    (folder / ".local/share/linphone").mkdir(parents=True, exist_ok=True)
    sip, rtp = free_port(), free_span(20)
    (folder / "rc").write_text(
        f"""[sip]
sip_port={sip}
sip_tcp_port=0
sip_tls_port=0
guess_hostname=0
contact=sip:{user}@127.0.0.1:{sip}
register_only_when_network_is_up=0
media_encryption=none
[net]
mtu=1300
[rtp]
audio_rtp_port={rtp}-{rtp + 19}
"""
    )
    arguments = ["linphonec", "-c", str(folder / "rc"), "-S", "-d", "0"]
    if answers:
        arguments.append("-a")
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HOME": str(folder)},
        )
    made = Linphone(folder, process, sip)
    made.command("ipv6 disable")
    made.command("soundcard use files")
    try:
        yield made
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
