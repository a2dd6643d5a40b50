"""The server as it stands at a provider: registered, asking callers who they are, over TLS too.

Kamailio has an address of its own, because a registrar's address is trusted.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from certificates import Authority
from speech import pause

from peers.baresip import Baresip, baresip, needs_baresip
from peers.compare import read_wav, write_wav
from peers.kamailio import DOMAIN, USERS, Kamailio, running_kamailio
from peers.server import RunningServer, running_server
from ringtrue.agent.doctor_sip import SIP_CHECKS
from ringtrue.config.settings import load_settings
from ringtrue.loadtest.ports import free_port

SCENARIOS = Path(__file__).parent / "peers" / "sipp"
PROVIDER = "127.0.0.5"
PASSWORD = "let-me-in"
SECONDS = 3.0


@dataclass(frozen=True)
class Site:
    """Everything that runs."""

    provider: Kamailio
    server: RunningServer
    tls_port: int
    authority: Authority

    def callers(self) -> dict[str, int]:
        """How many new calls got which verdict."""
        found = {}
        for line in self.server.get("/metrics").splitlines():
            name, _, value = line.rpartition(" ")
            if name.startswith("ringtrue_sip_callers_total{"):
                found[name.split('"')[1]] = int(float(value))
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("trunk")
    authority = Authority(folder / "tls")
    pair = authority.sign("server", "127.0.0.1")
    (folder / "agent.password").write_text(USERS["agent"])
    tls_port = free_port()
    with running_kamailio(folder / "kamailio", host=PROVIDER) as provider:
        settings = {
            "SIP__REGISTRATIONS__TRUNK__DOMAIN": DOMAIN,
            "SIP__REGISTRATIONS__TRUNK__USER": "agent",
            "SIP__REGISTRATIONS__TRUNK__PASSWORD_FILE": str(folder / "agent.password"),
            "SIP__REGISTRATIONS__TRUNK__SERVERS": f"sip:{PROVIDER}:{provider.port}",
            "SIP__CALLERS__REQUIRED": "true",
            "SIP__CALLERS__REALM": "us",
            "SIP__CALLERS__USERS__CALLER__PASSWORD": PASSWORD,
            "SIP__TLS__ENABLED": "true",
            "SIP__TLS__PORT": str(tls_port),
            "SIP__TLS__CERTIFICATE": str(pair.both),
        }
        with running_server(folder / "server", settings) as server:
            yield Site(provider, server, tls_port, authority)
        assert "agent-pw" not in server.log.read_text()
        assert PASSWORD not in server.log.read_text()


def test_phones_call_by_password_over_tcp_and_tls_and_through_the_provider(
    site: Site, tmp_path: Path
) -> None:
    """All at once: each hears the agent, and the server knows why it let each in."""
    needs_baresip()
    before, calls = site.callers(), len(site.server.records())
    source = tmp_path / "quiet.wav"
    write_wav(source, pause(SECONDS), 8000)
    known = f";auth_user=caller;auth_pass={PASSWORD}"
    proxy = f"sip:{PROVIDER}:{site.provider.port};transport=udp;lr"
    member = f";auth_user=alice;auth_pass={USERS['alice']};regint=60"
    seconds = int(SECONDS) + 12
    with ExitStack() as stack:
        phones = [
            stack.enter_context(baresip(tmp_path / name, source, "PCMU", seconds=seconds, **more))
            for name, more in (
                ("tcp", {"account": known, "transport": "tcp"}),
                (
                    "tls",
                    {
                        "account": known,
                        "transport": "tls",
                        "encryption": "srtp-mand",
                        "trust": site.authority.path,
                    },
                ),
                (
                    "member",
                    {"account": f'{member};outbound="{proxy}"', "identity": f"alice@{DOMAIN}"},
                ),
            )
        ]
        deadline = time.monotonic() + 10
        while "200 OK" not in phones[2].log and time.monotonic() < deadline:
            time.sleep(0.05)
        targets = (
            f"sip:reception@127.0.0.1:{site.server.sip_port};transport=tcp",
            f"sip:reception@127.0.0.1:{site.tls_port};transport=tls",
            f"sip:agent@{DOMAIN}",
        )
        for phone, target in zip(phones, targets, strict=True):
            phone.command("dial", target)
        records = site.server.wait_for_records(calls + 3)[calls:]
        for phone in phones:
            heard_the_agent(phone)
    assert {record["outcome"] for record in records} == {"caller_hung_up"}
    after = site.callers()
    gained = {verdict: after[verdict] - before[verdict] for verdict in after}
    assert gained == dict.fromkeys(after, 0) | {
        "challenged": 2,
        "authenticated": 2,
        "trusted": 1,
    }


def heard_the_agent(phone: Baresip) -> None:
    heard, _ = read_wav(phone.recording())
    assert np.sqrt(np.mean(heard**2)) > 0.01, phone.log[-2000:]


def test_sipp_is_asked_who_it_is(site: Site, tmp_path: Path) -> None:
    sipp = shutil.which("sipp")
    if sipp is None:
        pytest.skip("needs sipp (Debian package sip-tester)")
    before = site.callers()
    done = subprocess.run(
        [
            *(sipp, f"127.0.0.1:{site.server.sip_port}", "-s", "reception", "-nostdin"),
            *("-sf", str(SCENARIOS / "auth.xml"), "-i", "127.0.0.1", "-mi", "127.0.0.1"),
            *("-p", str(free_port()), "-m", "3", "-r", "10", "-au", "caller", "-ap", PASSWORD),
            *("-timeout", "10", "-timeout_error"),
        ],
        cwd=tmp_path,
        capture_output=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    after = site.callers()
    assert after["challenged"] == before["challenged"] + 3
    assert after["authenticated"] == before["authenticated"] + 3


def test_the_doctor_sees_where_the_running_server_is_registered(site: Site) -> None:
    settings = load_settings(
        environ={
            "RINGTRUE_SIP__REGISTRATIONS__TRUNK__DOMAIN": DOMAIN,
            "RINGTRUE_SIP__REGISTRATIONS__TRUNK__USER": "agent",
            "RINGTRUE_HTTP__HOST": "127.0.0.1",
            "RINGTRUE_HTTP__PORT": str(site.server.http_port),
        }
    )
    found = SIP_CHECKS[0](settings)
    assert isinstance(found, list)
    assert found[0].detail == f"sip:agent@{DOMAIN}: registered"
