"""What the server prints once it takes calls."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

import pytest

from ringtrue.agent.banner import banner
from ringtrue.agent.server import AgentChoice
from ringtrue.config.settings import Settings, load_settings


@dataclass
class Started:
    """A server as the banner sees it."""

    settings: Settings
    sip_port: int | None = 5060
    http_port: int | None = 8080


def printed(ports: dict[str, Any] | None = None, **changed: str) -> str:
    environ = {f"RINGTRUE_{key}": value for key, value in changed.items()}
    settings = load_settings(environ=environ)
    return banner(Started(settings, **(ports or {})), AgentChoice(settings).agents)


def test_what_to_try_on_a_server_as_shipped() -> None:
    text = printed()
    name = socket.gethostname()
    assert text.startswith("Ringtrue takes calls.\n")
    assert f"SIP         sip:reception@{name}:5060 (UDP/TCP)\n" in text
    assert f"sip:demo@{name}:5060\n" in text
    assert f"sip:reminder@{name}:5060\n" in text
    assert "http://localhost:8080/ " in text
    assert "http://localhost:8080/readyz" in text
    assert "http://localhost:8080/metrics" in text
    assert "Twilio      off" in text


def test_addresses_as_they_can_be_dialled() -> None:
    text = printed(SIP__HOST="192.0.2.7", SIP__TCP="false", HTTP__HOST="192.0.2.8")
    assert "sip:reception@192.0.2.7:5060 (UDP)\n" in text
    assert "http://192.0.2.8:8080/" in text
    text = printed(SIP__HOST="::1", HTTP__HOST="::1")
    assert "sip:reception@[::1]:5060 (UDP/TCP)\n" in text
    assert "http://[::1]:8080/" in text
    text = printed(SIP__ADVERTISED_HOST="203.0.113.1", HTTP__PUBLIC_URL="https://voice.example.com")
    assert "sip:reception@203.0.113.1:5060 (UDP/TCP)\n" in text
    assert "https://voice.example.com/ " in text


def test_twilio_is_told_where_its_webhook_is_and_no_secret() -> None:
    text = printed(
        TWILIO__ENABLED="true",
        TWILIO__AUTH_TOKEN="c0ffee-secret",
        HTTP__PUBLIC_URL="https://voice.example.com",
    )
    assert "https://voice.example.com/twilio/voice" in text
    assert "c0ffee" not in text


def test_carriers_are_told_where_to_come() -> None:
    text = printed(
        CARRIERS__PLIVO__ENABLED="true",
        CARRIERS__PLIVO__AUTH_ID="MA0",
        CARRIERS__PLIVO__AUTH_TOKEN="c0ffee-secret",
        CARRIERS__GENESYS__ENABLED="true",
        CARRIERS__GENESYS__API_KEY="c0ffee-key",
        HTTP__PUBLIC_URL="https://voice.example.com",
    )
    assert "https://voice.example.com/plivo/voice" in text
    assert "wss://voice.example.com/genesys/audiohook" in text
    assert "Telnyx" not in text
    assert "c0ffee" not in text


@pytest.mark.parametrize(
    ("ports", "changed", "missing"),
    [
        ({"sip_port": None}, {}, "sip:"),
        ({"http_port": None}, {}, "http:"),
        ({}, {"WEBRTC__ENABLED": "false"}, "Browser"),
        ({}, {"WEBRTC__PUBLIC": "false"}, "Browser"),
        ({}, {"HTTP__METRICS": "false"}, "metrics"),
    ],
)
def test_what_is_off_is_not_offered(
    ports: dict[str, Any], changed: dict[str, str], missing: str
) -> None:
    assert missing in printed()
    assert missing not in printed(ports, **changed)
