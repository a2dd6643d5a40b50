"""Servers that were out of service are tried after others for a while."""

from __future__ import annotations

import pytest
from sip_callee import Callee, Message, add_callee
from sip_link import OFFER, A, Net

from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.driver import Driver
from ringtrue.telephony.sip.message import Request
from ringtrue.telephony.sip.resting import MAX_REST, MAX_RESTING, SILENT_REST, Resting
from ringtrue.telephony.sip.transport import Hop
from ringtrue.telephony.sip.uri import SipUri

ONE, TWO, THREE = (Hop("udp", f"10.0.0.{n}", 5060) for n in (7, 8, 9))


def test_those_that_rest_come_last_until_they_have_rested() -> None:
    resting = Resting()
    assert resting.ordered([ONE, TWO, THREE], 0.0) == [ONE, TWO, THREE]
    resting.note(ONE, 30, 0.0)
    resting.note(TWO, 60, 0.0)
    assert resting.ordered([ONE, TWO, THREE], 29.9) == [THREE, ONE, TWO]
    assert resting.ordered([ONE, TWO, THREE], 30.0) == [ONE, THREE, TWO]
    assert resting.ordered([ONE, TWO, THREE], 60.0) == [ONE, TWO, THREE]
    assert resting.ordered([TWO], 10.0) == [TWO], "the only one is tried all the same"


def test_rest_and_memory_are_bounded() -> None:
    resting = Resting()
    resting.note(ONE, 1e9, 0.0)
    assert resting.ordered([ONE, TWO], MAX_REST - 1) == [TWO, ONE]
    assert resting.ordered([ONE, TWO], MAX_REST) == [ONE, TWO]
    for number in range(MAX_RESTING + 1):
        resting.note(Hop("udp", "10.0.0.1", number + 1), 60, 0.0)
    assert resting.ordered([ONE, Hop("udp", "10.0.0.1", 1), TWO], 1.0)[0] == ONE
    assert len(resting._until) == MAX_RESTING


@pytest.mark.parametrize(
    ("status", "line", "rests"),
    [
        (503, "Retry-After: 120", 120),
        (503, "X-Nothing: said", 0),  # as good as a 500 (RFC 3261 §21.5.4)
        (486, "Retry-After: 120", 0),  # the callee's, not the server's
        (None, "", SILENT_REST),
    ],
)
def test_what_a_call_finds_out_counts_for_the_next(
    status: int | None, line: str, rests: float
) -> None:
    def answer(callee: Callee, message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE" and status is not None:
            callee.answer(message, status, line)

    net = Net()
    a = net.add("a", A)
    add_callee(net, ONE.host, answer)
    a.ua.invite("sip:bob@biloxi.example", OFFER, net.now, via=ONE, ring_limit=100.0)
    net.run(40.0)
    said = 32.0 if status is None else 0.02
    resting = a.ua.core.resting
    first = [ONE, TWO]
    assert resting.ordered(first, said + rests - 1) == ([TWO, ONE] if rests else first)
    assert resting.ordered(first, said + rests + 1) == first


@pytest.mark.virtual_time
async def test_a_domains_servers_are_ordered_so() -> None:
    class Both:
        async def locate(self, uri: SipUri) -> list[Hop]:
            return [ONE, TWO]

    driver = Driver(Policy(), None, lambda event: None)
    driver.locator = Both()  # type: ignore[assignment]
    domain = SipUri("biloxi.example", None, "bob")
    assert await driver.ways(domain) == [ONE, TWO]
    driver.ua.core.resting.note(ONE, 60, driver.now())
    assert await driver.ways(domain) == [TWO, ONE]
