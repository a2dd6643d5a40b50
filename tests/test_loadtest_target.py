"""Targets: what may be called, and what a report shows of it."""

from __future__ import annotations

import pytest

from ringtrue.loadtest.results import Transport
from ringtrue.loadtest.target import TargetError, read_target


@pytest.mark.parametrize(
    ("text", "transport", "address", "agent", "local"),
    [
        ("sip:a@127.0.0.1:5060", Transport.SIP, "sip:a@127.0.0.1:5060", "a", True),
        ("sip:10.1.1.1;transport=tcp", Transport.SIP, "sip:10.1.1.1;transport=tcp", None, False),
        ("ws://127.0.0.1:8080", Transport.TWILIO, "http://127.0.0.1:8080", None, True),
        ("wss://voice.example", Transport.TWILIO, "https://voice.example", None, False),
        ("webrtc:http://[::1]:80/demo", Transport.WEBRTC, "http://[::1]:80", "demo", True),
        ("webrtc://host:81", Transport.WEBRTC, "http://host:81", None, False),
    ],
)
def test_the_three_transports(
    text: str, transport: Transport, address: str, agent: str | None, local: bool
) -> None:
    target = read_target(text)
    assert (target.transport, target.address) == (transport, address)
    assert (target.agent, target.is_local) == (agent, local)


@pytest.mark.parametrize(
    "text", ["", "sip:", "tel:+15551234567", "ws:", "http://x", "webrtc:ftp://x", "ws://x:y"]
)
def test_anything_else_says_what_is_allowed(text: str) -> None:
    with pytest.raises(TargetError, match="allowed: sip:agent@host"):
        read_target(text)


def test_a_number_is_not_shown() -> None:
    assert read_target("sip:+15551234567@10.0.0.1").shown == "sip:+…@10.0.0.1"
