"""Placed calls on loopback: outcomes, early media, ends, caps; every one is recorded."""

from __future__ import annotations

import asyncio
import socket

import pytest
from outbound_line import REMINDER, callee, line
from sip_media import ANSWER, MediaShelf
from sip_peer import Peer

from ringtrue.agent.dial_outcomes import DialOutcome, PlacedState, outcome_of
from ringtrue.agent.dial_plan import DialRefusal, DialRefusedError
from ringtrue.agent.outbound import Order, with_variables
from ringtrue.agent.problems import Problem
from ringtrue.streaming.ports import EndReason
from ringtrue.telephony.sip.account import Account
from ringtrue.telephony.sip.auth_server import AuthPolicy
from ringtrue.telephony.sip.errors import CallFailedError, CallTimeoutError
from ringtrue.telephony.sip.handles import ServerInvite
from ringtrue.telephony.sip.uri import SipUri


async def test_from_the_order_to_the_record() -> None:
    shelf, answer = MediaShelf(), asyncio.Event()

    async def handler(invite: ServerInvite) -> None:
        await invite.ring()
        await answer.wait()
        await (await invite.answer(shelf)).ended()

    async with callee(handler) as port, line() as made:
        agent = with_variables(REMINDER, {"customer": "Ms Rivera"})
        placed = made.outbound.place(made.order(port, agent=agent))
        assert (placed.state, placed.outcome) == (PlacedState.DIALLING, None)
        assert placed.to == f"sip:***ob@127.0.0.1:{port}"
        await made.outbound.wait("default", placed.id, placed.version, 5)
        assert placed.state.value == "ringing"
        answer.set()
        call = await made.desk.running.get()
        assert (placed.state, placed.outcome) == (PlacedState.ANSWERED, DialOutcome.ANSWERED)
        assert placed.call == call.id
        assert made.desk.agents[0].variables["customer"] == "Ms Rivera"
        assert made.desk.agents[0].variables["company"] == REMINDER.variables["company"]
        await call.hangup(EndReason.AGENT_HUNG_UP)
        await made.settled(placed)
        assert (placed.state, placed.ended) == (PlacedState.ENDED, EndReason.AGENT_HUNG_UP)
        (record,) = made.desk.records
        assert record.dialled_at is not None
        assert record.direction == "outbound"
        assert made.outbound.get("default", placed.id) is placed
        with pytest.raises(Problem, match="no call"):
            made.outbound.get("other", placed.id)
        assert made.told == [
            (PlacedState.DIALLING, None),
            (PlacedState.ANSWERED, None),
            (PlacedState.ENDED, None),
        ]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (486, DialOutcome.BUSY),
        (600, DialOutcome.BUSY),
        (603, DialOutcome.DECLINED),
        (480, DialOutcome.NO_ANSWER),
        (404, DialOutcome.UNREACHABLE),
        (403, DialOutcome.REFUSED),
        (302, DialOutcome.FAILED),
        (488, DialOutcome.FAILED),
        (503, DialOutcome.FAILED),
    ],
)
async def test_what_is_not_answered_has_an_outcome(status: int, outcome: DialOutcome) -> None:
    async def handler(invite: ServerInvite) -> None:
        await invite.reject(status, retry_after=9)

    async with callee(handler) as port, line() as made:
        placed = await made.settled(made.outbound.place(made.order(port)))
        assert (placed.state, placed.outcome) == (PlacedState.FAILED, outcome)
        assert (placed.sip_status, placed.retry_after) == (status, 9)
        (record,) = made.desk.records
        assert (record.outcome, record.sip_status) == (outcome.value, status)
        assert record.sip_reason == placed.sip_reason
        written = record.as_dict()
        assert written["duration_ms"] == 0
        assert written["setup_ms"] >= 0


async def test_nobody_answers_in_time() -> None:
    async def handler(invite: ServerInvite) -> None:
        await invite.ring()
        await invite.cancelled

    async with callee(handler) as port, line() as made:
        placed = await made.settled(made.outbound.place(made.order(port, ring_seconds=0.2)))
        assert placed.outcome is DialOutcome.NO_ANSWER


async def test_nobody_is_there() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        async with line() as made:
            placed = made.outbound.place(made.order(deaf.getsockname()[1]))
            await made.settled(placed)
            assert (placed.outcome, placed.sip_status) == (DialOutcome.UNREACHABLE, None)


def test_outcomes_of_silence() -> None:
    silent = CallTimeoutError(408, "Request Timeout", heard=False)
    assert outcome_of(silent, rang=False) is DialOutcome.UNREACHABLE
    assert outcome_of(silent, rang=True) is DialOutcome.NO_ANSWER
    assert outcome_of(CallFailedError(503, "x", heard=False), rang=False) is DialOutcome.UNREACHABLE
    assert outcome_of(CallFailedError(503, "x"), rang=False) is DialOutcome.FAILED


@pytest.mark.parametrize("when", ["dialling", "ringing", "answered"])
async def test_ended_by_its_owner(when: str) -> None:
    shelf, arrived = MediaShelf(), asyncio.Event()

    async def handler(invite: ServerInvite) -> None:
        arrived.set()
        if when != "dialling":
            await invite.ring()
        if when == "answered":
            await (await invite.answer(shelf)).ended()
        else:
            await invite.cancelled

    async with callee(handler) as port, line() as made:
        placed = made.outbound.place(made.order(port))
        if when == "answered":
            await made.desk.running.get()
        elif when == "ringing":
            await made.outbound.wait("default", placed.id, 1, 5)
        made.outbound.cancel("default", placed.id)
        made.outbound.cancel("default", placed.id)
        await made.settled(placed)
        if when == "answered":
            assert (placed.state, placed.ended) == (PlacedState.ENDED, EndReason.CANCELLED)
        else:
            assert (placed.state, placed.outcome) == (PlacedState.FAILED, DialOutcome.CANCELLED)
        assert len(made.desk.records) == 1


async def test_early_media_is_listened_to_and_not_spoken_on() -> None:
    """The leg is pulled on the clock, nothing is sent on it, and the answer takes it over."""
    async with line() as made:
        with Peer(made.endpoint.port) as peer:
            placed = made.outbound.place(made.order(peer.port))
            invite = await peer.heard("INVITE")
            await peer.respond(invite, 183, body=ANSWER)
            await asyncio.sleep(0.2)
            (media,) = made.shelf.made
            assert [what for what, _ in media.log] == ["offer", "preview"]
            assert media.leg.sent == []
            assert len(made.desk.clock) == 1
            await peer.respond(invite, 200, body=ANSWER)
            await made.desk.running.get()
            assert len(made.desk.clock) == 0
            assert [what for what, _ in media.log] == ["offer", "preview", "set_answer"]
            assert placed.early_media_ms >= 100
            made.outbound.cancel("default", placed.id)
            await peer.respond(await peer.heard("BYE"), 200)
            await made.settled(placed)
        assert made.desk.records[0].early_media_ms == placed.early_media_ms


async def test_a_tenant_whose_minutes_are_used_up_is_cut_off() -> None:
    shelf = MediaShelf()

    async def handler(invite: ServerInvite) -> None:
        await (await invite.answer(shelf)).ended()

    async with callee(handler) as port, line(max_minutes_per_day=2.5 / 60) as made:
        placed = made.outbound.place(made.order(port))
        await made.settled(placed)
        assert placed.ended is EndReason.MAX_DURATION


async def test_refusals_place_nothing() -> None:
    async with line(max_concurrent=1) as made:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
            deaf.bind(("127.0.0.1", 0))
            port = deaf.getsockname()[1]
            made.outbound.place(made.order(port))
            with pytest.raises(DialRefusedError) as refused:
                made.outbound.place(made.order(port))
            assert refused.value.reason is DialRefusal.CONCURRENT
            with pytest.raises(DialRefusedError) as refused:
                made.outbound.place(made.order(port, user="911"))
            assert refused.value.reason is DialRefusal.EMERGENCY
            made.outbound.stop_dialling()
            with pytest.raises(DialRefusedError) as refused:
                made.outbound.place(made.order(port))
            assert refused.value.reason is DialRefusal.FULL
    assert [reason for _, reason in made.told if reason] == [
        DialRefusal.CONCURRENT,
        DialRefusal.EMERGENCY,
        DialRefusal.FULL,
    ]
    assert [record.outcome for record in made.desk.records] == ["cancelled"]


async def test_a_full_server_places_nothing_and_keeps_no_charge() -> None:
    async with line(max_concurrent=1) as made:
        made.desk.room = 0
        for _ in range(3):
            with pytest.raises(DialRefusedError) as refused:
                made.outbound.place(made.order(5))
            assert refused.value.reason is DialRefusal.FULL
            await asyncio.sleep(0.01)
        made.desk.room = 10


async def test_hold_and_resume() -> None:
    """The far end is told by re-INVITE, and may refuse."""
    shelf, calls = MediaShelf(), []

    async def handler(invite: ServerInvite) -> None:
        calls.append(await invite.answer(shelf))
        await calls[0].ended()

    async with callee(handler) as port, line() as made:
        placed = made.outbound.place(made.order(port))
        with pytest.raises(Problem, match="dialling"):
            await made.outbound.hold("default", placed.id, True, music=True)
        await made.desk.running.get()
        for on in (True, True, False):
            await made.outbound.hold("default", placed.id, on, music=True)
            assert placed.on_hold is on
        assert [what for what, _ in made.shelf.made[0].log] == [
            *("offer", "set_answer"),
            *("hold", "set_answer", "resume", "set_answer"),
        ]
        assert [what for what, _ in shelf.made[0].log] == ["answer", "update", "update"]
        shelf.made[0].refuses = True
        with pytest.raises(Problem, match="did not agree"):
            await made.outbound.hold("default", placed.id, True, music=True)
        assert not placed.on_hold
        with pytest.raises(Problem, match="no call"):
            await made.outbound.hold("acme", placed.id, True, music=True)
        made.outbound.cancel("default", placed.id)
        await made.settled(placed)
        with pytest.raises(Problem, match="ended"):
            await made.outbound.hold("default", placed.id, True, music=True)


@pytest.mark.parametrize(("password", "outcome"), [("s3cret", "answered"), ("wrong", "refused")])
async def test_a_number_goes_over_the_trunks_account(password: str, outcome: str) -> None:
    """tel: becomes the trunk's SIP URI, from the tenant's number; its challenge is answered."""
    shelf, seen = MediaShelf(), []

    async def handler(invite: ServerInvite) -> None:
        seen.append((invite.request_uri, invite.from_uri))
        await (await invite.answer(shelf)).ended()

    auth = AuthPolicy(realm="carrier.example", users={"trunk": "s3cret"})
    async with callee(handler, auth) as port:
        account = Account(
            name="carrier",
            domain="carrier.example",
            user="trunk",
            password=password,
            servers=(SipUri("127.0.0.1", port),),
            register=False,
        )
        trunks = {"main": {"uri": "sip:carrier.example", "account": "carrier"}}
        limits = {"countries": ["US"], "callers": ["+12015550100"]}
        async with line(trunks=trunks, accounts=[account], **limits) as made:
            order = Order("default", "test", "tel:+1-201-555-0123", REMINDER)
            placed = made.outbound.place(order)
            assert placed.to == "tel:***23"
            if outcome == "answered":
                call = await made.desk.running.get()
                await call.hangup(EndReason.AGENT_HUNG_UP)
            await made.settled(placed)
            assert str(placed.outcome) == outcome
    if outcome == "answered":
        assert seen == [
            (
                "sip:+12015550123@carrier.example;user=phone",
                "sip:+12015550100@carrier.example;user=phone",
            )
        ]
    else:
        assert (seen, placed.sip_status) == ([], 401)
