"""Checks of SIP signalling: accounts, certificates, and where a running server is registered."""

from __future__ import annotations

import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from prometheus_client.parser import text_string_to_metric_families

from ringtrue.agent.cli_common import server_url
from ringtrue.agent.findings import Check, CheckFunction, State
from ringtrue.agent.metrics_sip import REGISTRATION
from ringtrue.agent.sip_setup import accounts_of, auth_policy, tls_client, tls_listener
from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import Settings
from ringtrue.telephony.sip.registration import RegistrationState

ASK_SECONDS: Final = 2.0
SOON: Final = timedelta(days=14)
_WELL: Final = frozenset({RegistrationState.REGISTERED, RegistrationState.STATIC})


def _registrations(settings: Settings) -> list[Check]:
    if not settings.sip.enabled or not settings.sip.registrations:
        return [Check("sip accounts", State.OK, "none; sip.registrations adds them")]
    try:
        accounts = accounts_of(settings)
    except ConfigError as error:
        return [_broken("sip accounts", error)]
    states = _running(settings)
    found = []
    for account in accounts:
        name = f"sip account {account.name}"
        if states is None:
            found.append(Check(name, State.OK, f"{account.aor}; no server runs to ask"))
        elif (state := states.get(account.name, "not known to the running server")) in _WELL:
            found.append(Check(name, State.OK, f"{account.aor}: {state}"))
        else:
            found.append(
                Check(
                    name,
                    State.DEGRADED,
                    f"{account.aor}: {state}",
                    "its calls don't reach this server",
                    "read the log's sip.registration; rejected: check user and password",
                )
            )
    return found


def _running(settings: Settings) -> dict[str, str] | None:
    """Each account's state in the server that runs here; None where none can be asked."""
    url = server_url(settings)
    if url is None or not settings.http.metrics:
        return None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/metrics", timeout=ASK_SECONDS) as answer:
            text = answer.read(4_000_000).decode()
        families = list(text_string_to_metric_families(text))
    except (OSError, ValueError, urllib.error.URLError):
        return None
    if not any(family.name == "ringtrue_calls_active" for family in families):
        return None
    return {
        sample.labels["account"]: sample.labels["state"]
        for family in families
        if family.name == REGISTRATION
        for sample in family.samples
    }


def _callers(settings: Settings) -> Check:
    if not settings.sip.enabled:
        return Check("sip callers", State.OK, "sip is off")
    try:
        policy = auth_policy(settings)
    except ConfigError as error:
        return _broken("sip callers", error)
    if policy is None:
        return Check("sip callers", State.OK, "anybody may call; sip.callers.required asks them")
    trusted = f", {len(policy.trusted)} trusted networks" if policy.trusted else ""
    return Check("sip callers", State.OK, f"{len(policy.users)} users{trusted}")


def _tls(settings: Settings) -> Check:
    tls = settings.sip.tls
    try:
        tls_client(settings)
        listener = tls_listener(settings)
    except ConfigError as error:
        return _broken("sip tls", error)
    if listener is None or tls.certificate is None:
        return Check("sip tls", State.OK, "not listened for; sip.tls.enabled does")
    until = x509.load_pem_x509_certificates(tls.certificate.read_bytes())[0].not_valid_after_utc
    found = f"port {listener.port}, certificate good until {until:%Y-%m-%d}"
    if until < datetime.now(UTC) + SOON:
        return Check(
            "sip tls", State.DEGRADED, found, "far ends refuse it then", "renew sip.tls.certificate"
        )
    return Check("sip tls", State.OK, found)


def _broken(name: str, error: ConfigError) -> Check:
    return Check(name, State.MISSING, str(error), "the server can't start", "correct section sip")


SIP_CHECKS: Final[tuple[CheckFunction, ...]] = (_registrations, _callers, _tls)
"""All of this module, in the order they are shown."""
