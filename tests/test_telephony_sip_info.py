"""INFO: which keys it tells of, once each, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sip_link import OFFER, TARGET, B, Station, pair

from ringtrue.telephony.sip.context import Discard
from ringtrue.telephony.sip.events import Pressed
from ringtrue.telephony.sip.headers import Headers
from ringtrue.telephony.sip.info import PLAIN, RELAY, key_told
from ringtrue.telephony.sip.message import Request, Response, parse_target
from ringtrue.telephony.sip.transport import Hop


def info(body: bytes, kind: str | None = RELAY) -> Request:
    lines = [] if kind is None else [("content-type", kind)]
    return Request(method="INFO", uri=parse_target(TARGET), headers=Headers(lines), body=body)


@pytest.mark.parametrize(
    ("kind", "body", "key"),
    [
        (RELAY, b"Signal=5\r\nDuration=160\r\n", "5"),
        (RELAY, b"Signal= 5 \nDuration=250", "5"),
        (RELAY, b"Duration=250\r\nsignal = #\r\n", "#"),
        (RELAY, b"Signal=10\r\n", "*"),
        (RELAY, b"Signal=11", "#"),
        (RELAY, b"Signal=d", "D"),
        (RELAY, b"Signal=16\r\n", ""),
        (RELAY, b"Signal=\r\nDuration=5\r\n", ""),
        (RELAY, b"NoSignal=5\r\n", ""),
        (RELAY, b"\xff\xfe\r\n", ""),
        (PLAIN, b"7", "7"),
        (PLAIN, b" *\r\n", "*"),
        (PLAIN, b"77", ""),
        (PLAIN, b"", ""),
        (None, b"", ""),
        ("application/media_control+xml", b"<x/>", None),
        (None, b"5", None),
    ],
)
def test_bodies(kind: str | None, body: bytes, key: str | None) -> None:
    assert key_told(info(body, kind)) == key


@given(st.binary(max_size=300), st.sampled_from([RELAY, PLAIN]))
def test_any_body_is_a_key_or_none(body: bytes, kind: str) -> None:
    for text in (body, b"Signal=" + body):
        assert key_told(info(text, kind)) in ("", *"0123456789*#ABCD")


def send(station: Station, call: str, body: bytes, kind: str, now: float) -> None:
    """An INFO inside the dialog of ``call``."""
    request = station.ua._calls[call].dialog.request("INFO")  # type: ignore[attr-defined]
    request.headers.add("content-type", kind)
    request.body = body
    station.ua.core.request(request, Hop("UDP", B, 5060), Discard(), now)


def answers(station: Station) -> list[int]:
    return [
        message.status
        for _, message in station.sent
        if isinstance(message, Response) and message.cseq_method == "INFO"
    ]


def test_keys_of_a_call_each_once_whatever_comes_twice() -> None:
    net, a, b = pair()
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    net.duplicate = 1.0
    for number, key in enumerate(b"42"):
        send(a, call, b"Signal=%c\r\n" % key, RELAY, net.now)
        net.run(2.0 + number)
    assert [event.key for event in b.of(Pressed)] == ["4", "2"]  # type: ignore[attr-defined]
    assert set(answers(b)) == {200}
    net.duplicate = 0.0
    send(a, call, b"<x/>", "application/media_control+xml", net.now)
    net.run(5.0)
    assert answers(b)[-1] == 415
    accept = [m for _, m in b.sent if isinstance(m, Response) and m.status == 415][0]
    assert accept.headers.get("accept") == "application/dtmf-relay, application/dtmf"
    assert len(b.of(Pressed)) == 2


def test_outside_of_a_call_there_is_nothing_to_press() -> None:
    net, a, b = pair()
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    b.ua.bye(next(iter(b.ua._calls)), net.now)
    usage = a.ua._calls[call]
    net.run(2.0)
    request = usage.dialog.request("INFO")  # type: ignore[attr-defined]
    request.headers.add("content-type", PLAIN)
    request.body = b"5"
    a.ua.core.request(request, Hop("UDP", B, 5060), Discard(), net.now)
    net.run(3.0)
    assert answers(b) == [481]
    assert not b.of(Pressed)
