"""Kamailio as a provider: registrar, proxy and dispatcher, with users and digest."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ringtrue.loadtest.ports import free_port
from ringtrue.telephony.sip.account import Account
from ringtrue.telephony.sip.uri import SipUri

DOMAIN = "test.local"
USERS = {"alice": "alice-pw", "bob": "bob-pw", "agent": "agent-pw"}
STARTS_IN = 10.0

CONFIG = """#!KAMAILIO
debug=2
log_stderror=yes
fork=yes
children=1
tcp_children=1
listen=udp:{host}:{port}
listen=tcp:{host}:{port}
{listen_tls}
auto_aliases=no
alias="{domain}"
dns=no
rev_dns=no
mpath="{modules}"
loadmodule "kex.so"
loadmodule "corex.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
loadmodule "sanity.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "htable.so"
loadmodule "dispatcher.so"
{load_tls}
modparam("usrloc", "db_mode", 0)
modparam("registrar", "max_expires", {longest})
modparam("registrar", "min_expires", {least})
modparam("rr", "append_fromtag", 1)
modparam("auth", "nonce_expire", {nonce})
modparam("auth", "qop", "auth")
modparam("auth", "nonce_count", 1)
modparam("auth", "algorithm", "{algorithm}")
modparam("htable", "htable", "pw=>size=4;")
modparam("dispatcher", "list_file", "dispatcher.list")
modparam("dispatcher", "flags", 2)
modparam("dispatcher", "ds_ping_method", "OPTIONS")
modparam("dispatcher", "ds_ping_interval", 1)
modparam("dispatcher", "ds_probing_mode", 1)
modparam("dispatcher", "ds_probing_threshold", 1)
modparam("dispatcher", "ds_ping_from", "sip:ping@{domain}")
modparam("tm", "fr_timer", 1000)
{tls_settings}
event_route[htable:mod-init] {{
  {passwords}
}}
route[AUTH] {{
  if (is_method("REGISTER")) {{
    if ($au==$null || $sht(pw=>$au)==$null
        || !pv_www_authenticate("{domain}", "$sht(pw=>$au)", "0")) {{
      xlog("L_ERR", "CHALLENGED $rm\\n");
      www_challenge("{domain}", "1"); exit;
    }}
    if ($au != $tU) {{ sl_send_reply("403","Forbidden"); exit; }}
  }} else {{
    if ($au==$null || $sht(pw=>$au)==$null
        || !pv_proxy_authenticate("{domain}", "$sht(pw=>$au)", "0")) {{
      xlog("L_ERR", "CHALLENGED $rm\\n");
      proxy_challenge("{domain}", "1"); exit;
    }}
    consume_credentials();
  }}
}}
request_route {{
  if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483","Too Many Hops"); exit; }}
  if (!sanity_check()) exit;
  if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
  if (has_totag()) {{
    if (loose_route()) {{ t_relay(); exit; }}
    if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
    sl_send_reply("404","Not here"); exit;
  }}
  if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
  t_check_trans();
  if (is_method("REGISTER")) {{ route(AUTH); if (!save("location")) sl_reply_error(); exit; }}
  if (is_method("INVITE")) {{ route(AUTH); record_route(); }}
  if ($rU == "agents") {{
    if (!ds_select_dst("1","4")) {{ send_reply("503","No agent"); exit; }}
    t_on_failure("DS"); t_relay(); exit;
  }}
  if (!lookup("location")) {{ send_reply("404","Not Found"); exit; }}
  t_relay();
}}
failure_route[DS] {{
  if (t_is_canceled()) exit;
  if (t_check_status("500|503|408") && ds_next_dst()) {{ t_on_failure("DS"); t_relay(); exit; }}
}}
"""


@dataclass(frozen=True)
class Kamailio:
    """A running one."""

    host: str
    port: int
    tls_port: int
    folder: Path

    @property
    def log(self) -> str:
        """Everything it printed."""
        return (self.folder / "log").read_text(errors="replace")

    def challenged(self, method: str) -> int:
        """How many requests of ``method`` it has challenged."""
        return self.log.count(f"CHALLENGED {method}")

    def account(self, user: str, password: str | None = None, transport: str = "udp") -> Account:
        """An account of ours with it."""
        port = self.tls_port if transport == "tls" else self.port
        return Account(
            name=user,
            domain=DOMAIN,
            user=user,
            password=USERS[user] if password is None else password,
            servers=(SipUri(self.host, port),),
            transport=transport,
        )


def program() -> Path | None:
    """Where it is; None without it. It may be unpacked, not installed."""
    found = shutil.which("kamailio") or shutil.which("kamailio", path="/usr/sbin:/sbin")
    return Path(found).resolve() if found else None


def modules(binary: Path) -> Path | None:
    """Where its modules are, beside the program."""
    found = sorted((binary.parents[1] / "lib").glob("*/kamailio/modules/tm.so"))
    return found[0].parent if found else None


@contextlib.contextmanager
def running_kamailio(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    algorithm: str = "MD5",
    least: int = 5,
    longest: int = 600,
    nonce: int = 60,
    agents: Sequence[int] = (),
    users: Mapping[str, str] = USERS,
    certificate: Path | None = None,
) -> Iterator[Kamailio]:
    """Run it; the user part ``agents`` is spread over the UDP ports ``agents``.

    With ``certificate``, a PEM file with its key, it listens for TLS as well. Skips the test,
    saying why, where it is not installed.
    """
    binary = program()
    place = modules(binary) if binary is not None else None
    if place is None:
        pytest.skip("needs Kamailio (Debian package kamailio)")
    folder.mkdir(parents=True, exist_ok=True)
    port, tls_port = free_port(), free_port()
    if certificate is not None and not (place / "tls.so").exists():
        pytest.skip("needs Kamailio's TLS (Debian package kamailio-tls-modules)")
    files = f"certificate = {certificate}\nprivate_key = {certificate}\n"
    domains = f"method = TLSv1.2+\nverify_certificate = no\n{files}"
    (folder / "tls.cfg").write_text(f"[server:default]\n{domains}[client:default]\n{domains}")
    passwords = " ".join(f'$sht(pw=>{name}) = "{word}";' for name, word in users.items())
    (folder / "kamailio.cfg").write_text(
        CONFIG.format(
            host=host,
            port=port,
            listen_tls=f"enable_tls=yes\nlisten=tls:{host}:{tls_port}" if certificate else "",
            load_tls='loadmodule "tls.so"' if certificate else "",
            tls_settings='modparam("tls", "config", "tls.cfg")' if certificate else "",
            domain=DOMAIN,
            modules=f"{place}/",
            least=least,
            longest=longest,
            nonce=nonce,
            algorithm=algorithm,
            passwords=passwords,
        )
    )
    lines = [f"1 sip:127.0.0.1:{agent} 0 0\n" for agent in agents or (9,)]
    (folder / "dispatcher.list").write_text("".join(lines))
    command = [str(binary), "-f", "kamailio.cfg", "-DD", "-E", "-w", ".", "-Y", str(folder)]
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(
            [*command, "-P", "./pid", "-m", "32", "-M", "4"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Kamailio(host, port, tls_port, folder)
    try:
        _wait(server, process)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _wait(server: Kamailio, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTS_IN
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection((server.host, server.port), 1).close()
            return
        time.sleep(0.05)
    pytest.fail(f"kamailio did not start: {server.log[-2000:]}")
