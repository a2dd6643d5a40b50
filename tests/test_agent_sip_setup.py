"""The SIP section of the settings becomes accounts, callers and TLS; the doctor and the metrics."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from certificates import Authority
from prometheus_client import CollectorRegistry, generate_latest

from ringtrue.agent.doctor_sip import SIP_CHECKS
from ringtrue.agent.findings import Check, State
from ringtrue.agent.metrics_sip import SipCollector
from ringtrue.agent.server import Server
from ringtrue.agent.sip_setup import (
    accounts_of,
    auth_policy,
    signalling_of,
    tls_client,
    tls_listener,
)
from ringtrue.config.errors import ConfigError, SettingsError
from ringtrue.config.settings import Settings, load_settings
from ringtrue.telephony.sip.account import Account
from ringtrue.telephony.sip.auth_server import AuthPolicy
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.handles import ServerInvite
from ringtrue.telephony.sip.registration import RegistrationState

TRUNK = """
sip:
  registrations:
    trunk: {domain: sip.example.com, user: "100", password_file: trunk.password, transport: tcp}
    backup:
      domain: "[2001:db8::1]"
      user: "15551234567"
      auth_user: u-100
      password: s3cret
      servers: ["a.example.com:5070", "sip:192.0.2.1;transport=udp"]
      proxy: edge.example.com
      realms: voip
      registers: false
      expires_seconds: 120
"""


def load(folder: Path, text: str, **environ: str) -> Settings:
    file = folder / "settings.yaml"
    file.write_text(text)
    return load_settings(file, environ={f"RINGTRUE_{k}": v for k, v in environ.items()})


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(SettingsError) as error:
        load(folder, text)
    return str(error.value)


def test_accounts(tmp_path: Path) -> None:
    (tmp_path / "trunk.password").write_text("tr5nk \n")
    backup, trunk = accounts_of(load(tmp_path, TRUNK))
    assert trunk == Account(
        name="trunk", domain="sip.example.com", user="100", password="tr5nk ", transport="tcp"
    )
    assert [str(uri) for uri in trunk.targets] == ["sip:sip.example.com;transport=tcp"]
    assert (backup.domain, backup.auth_user, backup.password) == ("2001:db8::1", "u-100", "s3cret")
    assert str(backup.aor) == "sip:15551234567@[2001:db8::1]"
    assert [str(uri) for uri in backup.servers] == [
        "sip:a.example.com:5070",
        "sip:192.0.2.1;transport=udp",
    ]
    assert backup.route == "<sip:edge.example.com;lr>"
    assert (backup.realms, backup.register, backup.expires) == (("voip",), False, 120)


def test_a_flow_has_a_name_that_outlives_a_restart(tmp_path: Path) -> None:
    text = "sip: {registrations: {a: {domain: x.example, user: u, outbound: true},"
    text += " b: {domain: x.example, user: u, outbound: true}}}"
    first, other = accounts_of(load(tmp_path, text))
    assert first.instance.startswith("urn:uuid:")
    assert first.instance != other.instance
    assert [account.instance for account in accounts_of(load(tmp_path, text))] == [
        first.instance,
        other.instance,
    ]


def test_the_environment_gives_passwords(tmp_path: Path) -> None:
    text = "sip: {registrations: {trunk: {domain: a.example, user: x}}}"
    settings = load(tmp_path, text, SIP__REGISTRATIONS__TRUNK__PASSWORD="from-env")
    (account,) = accounts_of(settings)
    assert account.password == "from-env"
    for shown in (repr(settings), repr(account), settings.model_dump_json()):
        assert "from-env" not in shown


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{user: x}", ["sip.registrations.t.domain: must be given"]),
        ("{domain: 'a b', user: x}", ["sip.registrations.t.domain: is 'a b'", "host name"]),
        ("{domain: a, user: 'x@y'}", ["sip.registrations.t.user: is 'x@y'"]),
        ("{domain: a, user: x, servers: 'http://y'}", ["is not like sip.example.com"]),
        ("{domain: a, user: x, transport: sctp}", ["is 'sctp'", "udp, tcp, tls"]),
        ("{domain: a, user: x, expires_seconds: 5}", ["is 5", "at least 60"]),
        ("{domain: a, user: x, secure: true, transport: udp}", ["secure asks for TLS"]),
        ("{domain: a, user: x, password: p, password_file: f}", ["are both set"]),
        ("{domain: a, user: x, passwrod: hunter2}", ["did you mean password", "'****'"]),
    ],
)
def test_wrong_accounts_are_named(entry: str, words: list[str], tmp_path: Path) -> None:
    text = complaint(tmp_path, f"sip: {{registrations: {{t: {entry}}}}}")
    for word in words:
        assert word in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("callers", "words"),
    [
        ("{users: {a: {password: p}}}", "required is false"),
        ("{trusted: 192.0.2.1}", "required is false"),
        ("{required: true}", "nobody could call"),
        ("{required: true, users: {a: {}}}", "neither password nor password_file"),
        ("{required: true, trusted: 'x/8'}", "is not like 192.0.2.10"),
        ("{required: true, trusted: 1.2.3.4, algorithms: SHA-1}", "SHA-512-256, SHA-256, MD5"),
    ],
)
def test_wrong_callers_are_named(callers: str, words: str, tmp_path: Path) -> None:
    assert words in complaint(tmp_path, f"sip: {{callers: {callers}}}")


def test_who_may_call(tmp_path: Path) -> None:
    assert auth_policy(load(tmp_path, "")) is None
    text = """
sip:
  callers:
    required: true
    users: {alice: {password: one}, bob: {password_file: bob}}
    trusted: 192.0.2.7/24, 2001:db8::/32
    algorithms: SHA-256
"""
    (tmp_path / "bob").write_text("two")
    policy = auth_policy(load(tmp_path, text))
    assert policy is not None
    assert (policy.realm, policy.users) == ("Ringtrue", {"alice": "one", "bob": "two"})
    assert [str(network) for network in policy.trusted] == ["192.0.2.0/24", "2001:db8::/32"]
    assert (policy.algorithms, policy.nonce_lifetime) == (("SHA-256",), 300)
    assert "one" not in repr(policy)


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"\xff\xfe", b"x" * 2000])
def test_password_files_that_hold_something_else(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(content)
    text = "sip: {registrations: {t: {domain: a, user: x, password_file: p}}}"
    with pytest.raises(ConfigError, match=r"registrations.t.password_file: .*p does not hold"):
        accounts_of(load(tmp_path, text))
    (tmp_path / "p").unlink()
    with pytest.raises(ConfigError, match=r"can't read .*/p: No such file"):
        accounts_of(load(tmp_path, text))


def test_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign("desk", "127.0.0.1")
    assert tls_listener(load(tmp_path, "")) is None
    listener = tls_listener(
        load(tmp_path, "sip: {tls: {enabled: true, port: 0, certificate: desk.pem}}")
    )
    assert listener is not None
    assert listener.port == 0
    settings = load(tmp_path, f"sip: {{tls: {{enabled: true, certificate: {pair.key}}}}}")
    with pytest.raises(ConfigError, match=r"sip.tls: can't use .*desk.key"):
        tls_listener(settings)
    with pytest.raises(ConfigError, match=r"sip.tls: can't read .*nothing.pem"):
        tls_client(load(tmp_path, "sip: {tls: {ca: nothing.pem}}"))
    assert "certificate is not set" in complaint(tmp_path, "sip: {tls: {enabled: true}}")
    assert "none of udp, tcp and tls" in complaint(tmp_path, "sip: {udp: false, tcp: false}")


def test_a_server_that_lacks_a_file_is_not_even_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"registrations.trunk.password_file: can't read"):
        Server(load(tmp_path, TRUNK))
    assert signalling_of(load(tmp_path, TRUNK + "  enabled: false\n")) is None


# -- what an operator sees -------------------------------------------------------------------


async def refuse(invite: ServerInvite) -> None:
    await invite.reject(486)


async def test_metrics() -> None:
    account = Account(name="trunk", domain="192.0.2.1", user="x", register=False)
    policy = AuthPolicy(realm="x", users={"a": "b"})
    made: list[SipEndpoint] = []
    registry = CollectorRegistry()
    registry.register(SipCollector(lambda: made[0] if made else None))
    assert generate_latest(registry) == b""
    async with SipEndpoint(
        "127.0.0.1", 0, on_invite=refuse, auth=policy, accounts=[account]
    ) as endpoint:
        made.append(endpoint)
        await endpoint.idle()
        text = generate_latest(registry).decode()
    assert 'ringtrue_sip_registration{account="trunk",state="static"} 1.0' in text
    assert 'ringtrue_sip_callers_total{verdict="wrong"} 0.0' in text


def check(settings: Settings) -> dict[str, Check]:
    found: dict[str, Check] = {}
    for one in SIP_CHECKS:
        result = one(settings)
        for item in result if isinstance(result, list) else [result]:
            found[item.name] = item
    return found


@contextmanager
def serving(page: str) -> Iterator[int]:
    """A web server whose every page is ``page``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_doctor_asks_the_running_server(tmp_path: Path) -> None:
    (tmp_path / "trunk.password").write_text("x")
    page = "# TYPE ringtrue_calls_active gauge\nringtrue_calls_active 0\n"
    page += "# TYPE ringtrue_sip_registration gauge\n"
    for name, state in (("trunk", "rejected"), ("backup", "static")):
        page += f'ringtrue_sip_registration{{account="{name}",state="{state}"}} 1\n'
    with serving(page) as port:
        found = check(load(tmp_path, TRUNK + f"http: {{port: {port}, host: 127.0.0.1}}\n"))
    assert found["sip account trunk"].state is State.DEGRADED
    assert "rejected" in found["sip account trunk"].detail
    assert found["sip account backup"].detail.endswith(RegistrationState.STATIC)
    with serving("<html>something else</html>") as port:
        found = check(load(tmp_path, TRUNK + f"http: {{port: {port}, host: 127.0.0.1}}\n"))
    assert "no server runs" in found["sip account trunk"].detail


def test_the_doctor_finds_what_is_missing(tmp_path: Path) -> None:
    found = check(load(tmp_path, TRUNK))
    assert found["sip accounts"].state is State.MISSING
    assert "trunk.password" in found["sip accounts"].detail
    found = check(load(tmp_path, ""))
    assert {item.state for item in found.values()} == {State.OK}
    Authority(tmp_path).sign("desk", "127.0.0.1", days=3)
    found = check(load(tmp_path, "sip: {tls: {enabled: true, certificate: desk.pem}}"))
    assert found["sip tls"].state is State.DEGRADED
    found = check(load(tmp_path, "sip: {tls: {enabled: true, certificate: no.pem}}"))
    assert found["sip tls"].state is State.MISSING
