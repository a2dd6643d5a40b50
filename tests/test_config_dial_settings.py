"""Settings of placed calls: what is wrong is named, and nothing is allowed by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ringtrue.agent.calls import Calls
from ringtrue.agent.outbound_setup import dial_ledger, outbound_of
from ringtrue.config.errors import ConfigError, SettingsError
from ringtrue.config.settings import load_settings


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "ringtrue.yaml"
    path.write_text(text)
    return path


def test_by_default_nobody_calls() -> None:
    outbound = load_settings(environ={}).outbound
    assert not outbound.enabled
    assert outbound.tenants == {}
    assert outbound.trunks == {}


def test_from_the_environment_and_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, "outbound: {usage_file: used.json, tenants: {acme: {}}}")
    environ = {
        "RINGTRUE_OUTBOUND__TENANTS__ACME__COUNTRIES": "US, GB",
        "RINGTRUE_API_KEY": "no setting",
    }
    outbound = load_settings(path, environ=environ).outbound
    assert outbound.tenants["acme"].countries == ("US", "GB")
    assert outbound.usage_file == tmp_path / "used.json"


@pytest.mark.parametrize(
    ("text", "key", "allowed"),
    [
        ("{enabled: true}", "outbound", "tenants is empty"),
        ("{ring_seconds: 1}", "outbound.ring_seconds", "5"),
        ("{trunks: {t: {uri: tel:1}}}", "outbound.trunks.t.uri", "sip:carrier.example.com"),
        ("{trunks: {t: {uri: 'sip:a@b'}}}", "outbound.trunks.t.uri", "sip:carrier.example.com"),
        ("{trunks: {t: {uri: 'sip:b', caller: bob}}}", "outbound.trunks.t.caller", "+15551234567"),
        ("{trunks: {t: {uri: 'sip:b', prefixes: ['44']}}}", "prefixes", "like +44"),
        ("{tenants: {a: {countries: [usa]}}}", "countries", "like US"),
        ("{tenants: {a: {uris: ['sip:*@*']}}}", "outbound.tenants.a.uris", "host has to be named"),
        ("{tenants: {a: {uris: ['sip:*@*.b.c']}}}", "outbound.tenants.a.uris", "host has to be"),
        ("{tenants: {a: {callers: ['<sip:x@y>']}}}", "outbound.tenants.a.callers", "+15551234567"),
        ("{tenants: {a: {tiers: [premium]}}}", "tiers", "ordinary"),
        ("{tenants: {a: {max_concurrent: 0}}}", "outbound.tenants.a.max_concurrent", "1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, key: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(written(tmp_path, f"outbound: {text}"), environ={})
    assert key in str(error.value)
    assert allowed in str(error.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("outbound: {enabled: true, tenants: {a: {}}}\nsip: {enabled: false}", "sip.enabled"),
        ("outbound: {enabled: true, tenants: {a: {}}}\nvoices: {enabled: false}", "voices.enabled"),
        (
            "outbound: {enabled: true, tenants: {a: {}}, trunks: {t: {uri: 'sip:b', account: x}}}",
            "outbound.trunks.t.account is 'x'; sip.registrations: none",
        ),
    ],
)
def test_rules_that_could_never_place_a_call(tmp_path: Path, text: str, named: str) -> None:
    settings = load_settings(written(tmp_path, text), environ={})
    nothing: Any = None
    calls: Calls = nothing
    with pytest.raises(ConfigError, match=named):
        outbound_of(settings, dial_ledger(settings), calls, lambda: None, nothing)
