"""Calls that ask for more: digest over a lossy link, and ``sips`` all the way (virtual time)."""

from __future__ import annotations

import pytest
from sip_link import OFFER, A, B, Net, answering, request

from ringtrue.telephony.sip.auth_client import Credential
from ringtrue.telephony.sip.auth_server import AuthPolicy, AuthServer, Verdict
from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.events import (
    Answered,
    EndCause,
    Ended,
    IncomingInvite,
    ReInviteAnswered,
)
from ringtrue.telephony.sip.message import Request
from ringtrue.telephony.sip.transport import Hop


@pytest.mark.parametrize("seed", range(12))
def test_digest_over_a_lossy_reordering_link(seed: int) -> None:
    """One call, answered once, changed once, ended once; each count of the nonce taken once."""
    net = Net(seed, loss=0.2, duplicate=0.1, jitter=0.4)
    caller = net.add("a", A, on_event=answering)
    desk = net.add("b", B, on_event=answering)
    desk.ua.auth = AuthServer(AuthPolicy(realm="desk", users={"alice": "s3cret"}))
    credential = Credential("alice", "s3cret", frozenset({"desk"}))
    caller.ua.core.auth.grant("desk", credential, {B})
    call = caller.ua.invite(f"sip:bob@{B}", OFFER, net.now, from_uri=f"sip:alice@{A}")
    net.run(60.0)
    assert len(caller.of(Answered)) == 1
    assert len(desk.of(IncomingInvite)) == 1
    assert desk.ua.auth.counts[Verdict.AUTHENTICATED] == 1
    assert desk.ua.auth.counts[Verdict.WRONG] == 0
    caller.ua.reinvite(call, OFFER, net.now)
    net.run(120.0)
    assert len(caller.of(ReInviteAnswered)) == 1
    caller.ua.bye(call, net.now)
    net.run(300.0)
    (ended,) = desk.of(Ended)
    assert isinstance(ended, Ended)
    assert ended.cause is EndCause.REMOTE_BYE
    assert caller.ua.sizes() == desk.ua.sizes()
    assert sum(caller.ua.sizes().values()) == 0


def test_a_flood_of_strangers_leaves_nothing_behind() -> None:
    """500 a second for four seconds from a scanner that never answers a challenge."""
    net = Net()
    desk = net.add("b", B, policy=Policy(max_server_transactions=64))
    desk.ua.auth = AuthServer(AuthPolicy(realm="desk", users={"alice": "s3cret"}))
    net.tap = lambda *_: False
    net.parses = False
    for number in range(2000):
        net.now = number / 500
        data = request("INVITE", branch=f"f{number}").replace(b"c1", f"c{number}".encode())
        desk.ua.receive(data, Hop("udp", A, 5060), net.now)
        net.flush()
        assert sum(desk.ua.sizes().values()) == 0
    assert desk.ua.auth.counts == {Verdict.CHALLENGED: 2000}
    assert desk.ua.next_timer() is None


def test_sips_asks_for_sips_contacts() -> None:
    """RFC 3261 §8.1.1.8 and §12.1.1; what goes on inside the call goes over TLS too."""
    net = Net()
    caller = net.add("a", A, transport="tls", on_event=answering)
    desk = net.add("b", B, transport="tls", on_event=answering)
    call = caller.ua.invite(f"sips:bob@{B}:5060", OFFER, net.now)
    net.run(1.0)
    assert len(caller.of(Answered)) == 1
    contacts = {
        m.headers.get("contact")
        for station in (caller, desk)
        for _, m in station.sent
        if "contact" in m.headers
    }
    assert contacts == {f"<sips:ringtrue@{A}:5060>", f"<sips:bob@{B}:5060>"}
    caller.ua.bye(call, net.now)
    net.run(2.0)
    bye = next(m for _, m in caller.sent if isinstance(m, Request) and m.method == "BYE")
    assert str(bye.uri) == f"sips:bob@{B}:5060"
    assert bye.via.transport == "TLS"
    assert len(desk.of(Ended)) == 1
