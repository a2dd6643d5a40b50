"""Flows over UDP, registered as such and asked by STUN whether they live (RFC 5626, RFC 8489)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st
from sip_link import A, B
from test_telephony_sip_registration import ACCOUNT, Provider

from ringtrue.telephony.sip.message import Request
from ringtrue.telephony.sip.registration import Registration, RegistrationState
from ringtrue.telephony.sip.stun import (
    LAST_WAIT,
    MAX_WAITING,
    REQUESTS,
    RTO,
    Bindings,
    binding_request,
    is_stun,
    mapped_address,
)
from ringtrue.telephony.sip.transport import Hop

URN = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
FLOW = replace(ACCOUNT, instance=URN)
FAR = Hop("udp", B, 5060)
TRANSACTION = bytes(range(12))


def answer(request: bytes, address: tuple[str, int] = ("192.0.2.7", 40000)) -> bytes:
    """A server's answer, made by another implementation."""
    asked = stun.parse_message(request)
    said = stun.Message(
        message_method=stun.Method.BINDING,
        message_class=stun.Class.RESPONSE,
        transaction_id=asked.transaction_id,
    )
    said.attributes["SOFTWARE"] = "x"
    said.attributes["XOR-MAPPED-ADDRESS"] = address
    return bytes(said)


class Edge(Provider):
    """A registrar that keeps flows, and answers STUN on them as long as ``lives``."""

    def __init__(self, *, agrees: bool = True, transport: str = "udp") -> None:
        super().__init__(transport=transport)
        self.extra_ok = (("require", "outbound"),) if agrees else ()
        self.lives = True
        self.address = ("192.0.2.7", 40000)
        self.asked: list[float] = []
        tap = self.net.tap

        def watched(station: object, hop: Hop, data: bytes) -> bool:
            if not is_stun(data):
                assert tap is not None
                return tap(station, hop, data)  # type: ignore[arg-type]
            self.asked.append(self.net.now)
            if self.lives:
                self.net.inject(answer(data, self.address), hop, Hop("udp", A, 5060))
            return False

        self.net.tap = watched

    def _replies(self, message: Request) -> list[bytes]:
        lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in self.extra_ok)
        end = b"Content-Length"
        return [
            reply.replace(end, lines + end, 1) if b" 200 " in reply[:16] else reply
            for reply in super()._replies(message)
        ]

    def flow(self) -> Registration:
        return self.register(FLOW)


def test_a_flow_is_registered_by_who_and_which_it_is() -> None:
    edge = Edge()
    registration = edge.flow()
    contact = edge.heard[-1][2].headers.get("contact")
    assert contact == f'<sip:100@{A}:5060>;reg-id=1;+sip.instance="<{URN}>"'
    assert edge.heard[-1][2].tokens("supported") == ["path", "outbound"]
    assert registration.state is RegistrationState.REGISTERED
    assert registration.detail == "for 300 s"


def test_without_an_instance_nothing_is_said_of_flows() -> None:
    edge = Edge(agrees=False)
    edge.register()
    assert edge.heard[-1][2].headers.get("contact") == f"<sip:100@{A}:5060>"
    assert edge.heard[-1][2].tokens("supported") == ["path"]


def test_a_registrar_that_agrees_is_asked_by_stun() -> None:
    edge = Edge()
    registration = edge.flow()
    edge.net.run(250.0)
    gaps = [later - earlier for earlier, later in pairwise(edge.asked)]
    assert len(gaps) >= 8
    assert all(24 <= gap <= 29.1 for gap in gaps)
    assert edge.pings == []
    assert registration.state is RegistrationState.REGISTERED


def test_one_that_does_not_is_sent_blank_lines() -> None:
    edge = Edge(agrees=False)
    edge.flow()
    edge.net.run(100.0)
    assert edge.asked == []
    assert len(edge.pings) >= 3


def test_a_flow_that_is_dead_is_set_up_again() -> None:
    edge = Edge()
    edge.flow()
    edge.net.run(20.0)
    edge.lives = False
    registered, asked = len(edge.heard), len(edge.asked)
    edge.net.run(100.0)
    first = edge.asked[asked : asked + REQUESTS]
    assert [later - earlier for earlier, later in pairwise(first)] == pytest.approx(
        [RTO * 2**n for n in range(REQUESTS - 1)]
    )
    again = edge.heard[registered][0]
    assert LAST_WAIT < again - first[-1] <= LAST_WAIT + 2.1
    assert RegistrationState.WAITING in edge.states()


def test_an_answer_to_a_repetition_is_enough() -> None:
    edge = Edge()
    edge.flow()
    edge.net.run(20.0)
    edge.lives, asked = False, len(edge.asked)
    while len(edge.asked) < asked + 4:
        edge.net.run(edge.net.now + 0.1)
    edge.lives = True
    edge.net.run(200.0)
    assert RegistrationState.WAITING not in edge.states()


def test_behind_another_address_it_is_another_flow() -> None:
    edge = Edge()
    registration = edge.flow()
    edge.net.run(60.0)
    registered = len(edge.heard)
    edge.address = ("192.0.2.7", 40001)
    edge.net.run(120.0)
    assert len(edge.heard) == registered + 1
    assert registration.state is RegistrationState.REGISTERED
    edge.net.run(260.0)
    assert edge.states().count(RegistrationState.WAITING) == 1


def test_a_first_hop_that_keeps_no_flows_is_registered_at_all_the_same() -> None:
    """439 First Hop Lacks Outbound Support (§11.6)."""
    edge = Edge(agrees=False)
    edge.status = 439
    registration = edge.flow()
    assert registration.state is not RegistrationState.REGISTERED
    assert "reg-id" not in (edge.heard[-1][2].headers.get("contact") or "")
    assert len(edge.heard) == 2, "once with, once without"


def test_over_a_stream_pings_are_sent() -> None:
    edge = Edge(transport="tcp")
    edge.flow()
    edge.net.run(300.0)
    assert edge.asked == []
    assert len(edge.pings) >= 2


@pytest.mark.parametrize("address", [("192.0.2.7", 40000), ("2001:db8::7", 1)])
def test_the_mapped_address_is_read(address: tuple[str, int]) -> None:
    heard = mapped_address(answer(binding_request(TRANSACTION), address))
    assert heard is not None
    assert heard[1] == address[1]
    assert len(heard[0]) in (4, 16)
    assert stun.parse_message(binding_request(TRANSACTION)).message_method is stun.Method.BINDING


def test_answers_of_others_and_to_nothing_do_nothing() -> None:
    bindings, heard = Bindings(), []
    request = binding_request(TRANSACTION)
    assert bindings.receive(answer(request), FAR)
    bindings.expect(TRANSACTION, FAR, heard.append)
    assert bindings.receive(answer(request), Hop("udp", "10.9.9.9", 5060))
    assert bindings.receive(request, FAR), "a request is no answer"
    assert heard == []
    assert bindings.receive(answer(request), FAR)
    assert bindings.receive(answer(request), FAR)
    assert len(heard) == 1
    assert not bindings.receive(b"OPTIONS sip:x SIP/2.0\r\n\r\n", FAR)


def test_what_is_waited_for_is_bounded() -> None:
    bindings = Bindings()
    for number in range(3 * MAX_WAITING):
        bindings.expect(number.to_bytes(12), FAR, lambda mapped: None)
    assert len(bindings._waiting) == MAX_WAITING


@given(st.binary(max_size=80), st.integers(0, 80), st.integers(0, 255))
def test_no_answer_raises(tail: bytes, at: int, value: int) -> None:
    good = bytearray(answer(binding_request(TRANSACTION)))
    good[min(at, len(good) - 1)] = value
    for data in (bytes(good), bytes(good[:20]) + tail, tail, bytes(good[:at])):
        bindings = Bindings()
        bindings.expect(TRANSACTION, FAR, lambda mapped: None)
        bindings.receive(data, FAR)
