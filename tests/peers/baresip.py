"""baresip as a phone: it plays a WAV into the call and records what it hears."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ringtrue.loadtest.ports import free_port, free_span

MODULES = Path("/usr/lib/baresip/modules")
CODECS = {
    "PCMU": ("g711", "pcmu/8000/1"),
    "PCMA": ("g711", "pcma/8000/1"),
    "G722": ("g722", "g722/16000/1"),
    "opus": ("opus", "opus/48000/2"),
}


def needs_baresip() -> None:
    """Skip where baresip is not installed."""
    if shutil.which("baresip") is None or not MODULES.is_dir():
        pytest.skip("needs baresip (Debian package baresip-core)")


@dataclass
class Baresip:
    """A running baresip."""

    folder: Path
    control_port: int
    process: subprocess.Popen[bytes]
    sip_port: int
    """Where it can be called, with ``;answermode=auto`` in its account."""

    def command(self, name: str, parameters: str = "") -> str:
        """Send a command over its control socket (netstrings of JSON) and return the answer."""
        message = json.dumps({"command": name, "params": parameters, "token": "t"}).encode()
        with socket.create_connection(("127.0.0.1", self.control_port), 3) as link:
            link.sendall(b"%d:%s," % (len(message), message))
            link.settimeout(2)
            answer = b""
            with contextlib.suppress(OSError):
                while b'"response":true' not in answer:
                    piece = link.recv(4096)
                    if not piece:
                        break
                    answer += piece
        return answer.decode(errors="replace")

    def recording(self) -> Path:
        """What it heard."""
        (path,) = (self.folder / "rec").glob("*-dec.wav")
        return path

    @property
    def log(self) -> str:
        """Everything it printed."""
        return (self.folder / "log").read_text(errors="replace")

    def wait(self, seconds: float) -> None:
        """Wait until it ends by itself (its WAV has ended and so its call)."""
        self.process.wait(seconds)


@contextlib.contextmanager
def baresip(
    folder: Path,
    source: Path,
    codec: str,
    *dial: str,
    seconds: int = 30,
    encryption: str | None = None,
    host: str = "127.0.0.1",
    account: str = "",
    transport: str = "udp",
    identity: str | None = None,
    trust: Path | None = None,
) -> Iterator[Baresip]:
    """Run baresip in ``folder``, playing ``source`` with ``codec``, and dial the given URIs.

    ``encryption`` is its ``mediaenc``: ``srtp`` or ``srtp-mand``; ``host`` the address it has;
    ``account`` further parameters of its account. ``transport`` is what it signals over,
    ``identity`` its address (``user@domain``; default: one at its own port) and ``trust`` the
    authorities that TLS servers' certificates must come from.
    """
    needs_baresip()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rec").mkdir(exist_ok=True)
    sip, control = free_port(), free_port()
    rtp = free_span(100)
    module, name = CODECS[codec]
    literal = f"[{host}]" if ":" in host else host
    (folder / "config").write_text(
        f"""sip_listen {literal}:{sip}
net_interface {host}
audio_source aufile,{source}
audio_player aubridge,sink
audio_alert aubridge,alert
rtp_ports {rtp}-{rtp + 99}
snd_path {folder / "rec"}
module_path {MODULES}
module uuid.so
module {module}.so
module srtp.so
opus_stereo no
opus_sprop_stereo no
opus_inbandfec yes
module aufile.so
module aubridge.so
module sndfile.so
module_app account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control}
{f"sip_cafile {trust}" if trust is not None else ""}
"""
    )
    secure = f";mediaenc={encryption}" if encryption is not None else ""
    address = identity or f"alice@{literal}:{sip}"
    registers = "" if ";regint=" in account else ";regint=0"
    (folder / "accounts").write_text(
        f"<sip:{address};transport={transport}>{registers};audio_codecs={name}{secure}{account}\n"
    )
    family = "-6" if ":" in host else "-4"
    arguments = ["baresip", "-f", str(folder), family, "-t", str(seconds)]
    for target in dial:
        arguments += ["-e", f"/dial {target}"]
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", control), 1):
                break
            time.sleep(0.05)
        yield Baresip(folder, control, process, sip)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
