"""The scanner sends what it says: INVITEs of calls that are all different, at its rate."""

from __future__ import annotations

import socket
import time

from ringtrue.loadtest.scanner import FAR, scanning
from ringtrue.telephony.sip.call_rate import makes_call
from ringtrue.telephony.sip.message import Request, parse_message


def test_invites_are_real_and_as_many_as_asked() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        began = time.monotonic()
        with scanning(server.getsockname()[1], per_second=200) as scan:
            got = [server.recvfrom(4096) for _ in range(40)]
        took = time.monotonic() - began
    assert 40 <= scan.sent <= 200 * took + 1
    assert {source[0] for _, source in got} == {FAR}
    calls = set()
    for data, _ in got:
        assert makes_call(data)
        message = parse_message(data)
        assert isinstance(message, Request)
        calls.add(message.call_id)
    assert len(calls) == 40
