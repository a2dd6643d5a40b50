"""Places are called for callers by the rules for all calls, and by no others."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from outbound_line import REMINDER, callee, line
from test_telephony_sip_moving import three, until

from ringtrue.agent.consultation import Consultation
from ringtrue.agent.dial_ledger import DialLedger
from ringtrue.agent.dial_plan import DialPlan, DialRefusedError
from ringtrue.agent.referrals import Follower, place_of
from ringtrue.agent.transfer_line import TransferLine, check_transfers
from ringtrue.config.agent_schema import load_agents
from ringtrue.config.agent_transfers import TransferTarget
from ringtrue.config.dial_settings import OutboundSettings
from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import load_settings
from ringtrue.streaming.ports import EndReason, TransferOutcome, TransferResult
from ringtrue.telephony.sip.events import Referred
from ringtrue.telephony.sip.handles import ServerInvite
from ringtrue.telephony.sip.moving import Referral

NOW = datetime(2026, 3, 4, tzinfo=UTC)
RULES = OutboundSettings.model_validate(
    {"enabled": True, "tenants": {"default": {"uris": ["sip:phone@127.0.0.1:*"]}}}
)


def follower(endpoint: object, rules: OutboundSettings = RULES) -> Follower:
    return Follower(
        DialPlan(rules),
        DialLedger(None, clock=lambda: NOW),
        lambda: endpoint,  # type: ignore[arg-type, return-value]
    )


async def test_somebody_answers() -> None:
    async with line() as made:
        ours = TransferLine(made.outbound, follower(made.endpoint))
        assert ours.usable("default")
        assert not ours.usable("somebody")

        async def answer(invite: ServerInvite) -> None:
            call = await invite.answer(made.shelf)
            await call.ended()

        consultation = Consultation(asks=True)
        async with callee(answer) as port:
            reached = await ours.call(
                REMINDER, f"sip:bob@127.0.0.1:{port}", within=20, desk=consultation.desk
            )
            assert reached.answered
            call = await made.desk.running.get()
            assert call.id == reached.call
            await call.hangup(EndReason.TRANSFERRED)
            await until(lambda: made.desk.records)
        assert made.desk.agents == [REMINDER]
        (placed,) = made.outbound._held.all()
        assert placed.tenant == "default"


async def test_nobody_does() -> None:
    async with line() as made:
        ours = TransferLine(made.outbound, follower(made.endpoint))

        async def busy(invite: ServerInvite) -> None:
            await invite.reject(486)

        async with callee(busy) as port:
            to = f"sip:bob@127.0.0.1:{port}"
            reached = await ours.call(REMINDER, to, within=20, desk=Consultation(asks=True).desk)
        assert (reached.answered, reached.status) == (False, 486)


async def test_what_the_tenant_may_not_call_is_not_called() -> None:
    async with line() as made:
        ours = TransferLine(made.outbound, follower(made.endpoint))
        with pytest.raises(DialRefusedError):
            await ours.call(
                REMINDER, "sip:x@elsewhere.example", within=5, desk=Consultation(asks=True).desk
            )


async def test_a_caller_who_hangs_up_has_it_given_up() -> None:
    rung, gone = asyncio.Event(), asyncio.Event()

    async def ring(invite: ServerInvite) -> None:
        await invite.ring()
        rung.set()
        await invite.cancelled
        gone.set()

    async with line() as made, callee(ring) as port:
        ours = TransferLine(made.outbound, follower(made.endpoint))
        work = asyncio.ensure_future(
            ours.call(
                REMINDER,
                f"sip:bob@127.0.0.1:{port}",
                within=20,
                desk=Consultation(asks=True).desk,
            )
        )
        await rung.wait()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        async with asyncio.timeout(5):
            await gone.wait()


def test_agents_that_could_never_ask_are_refused() -> None:
    agents = load_agents()
    settings = load_settings(environ={})
    check_transfers(settings, agents)
    sales = agents["reception"].transfers["sales"].model_copy(update={"how": "attended"})
    asking = agents["reception"].model_copy(update={"transfers": {"sales": sales}})
    with pytest.raises(ConfigError, match=r"transfers\.sales\.how needs calls to be placed"):
        check_transfers(settings, {"reception": asking})
    environ = {
        "RINGTRUE_OUTBOUND__ENABLED": "true",
        "RINGTRUE_OUTBOUND__TENANTS__DEFAULT__COUNTRIES": "US",
    }
    check_transfers(load_settings(environ=environ), {"reception": asking})


# -- where phones send us ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("sip:sales@pbx.example.com", "sales"),
        ("sip:sales@PBX.example.com.;transport=tcp", "sales"),
        ("sip:%73ales@pbx.example.com", "sales"),
        ("sip:sales@pbx.example.com:5062", None),
        ("sip:sales@evil.example", None),
        ("sip:sale@pbx.example.com", None),
        ("sip:pbx.example.com", None),
        ("sip:+1-201-555-0150@anywhere.example;user=phone", "office"),
        ("sip:+12015550151@anywhere.example", None),
        ("nonsense", None),
        ("sip:", None),
    ],
)
def test_which_place_is_meant(target: str, place: str | None) -> None:
    places = {
        "sales": TransferTarget(to="sip:sales@pbx.example.com", title="sales"),
        "office": TransferTarget(to="+12015550150", title="our office"),
    }
    assert place_of(target, places) == place


async def test_we_follow_within_the_tenants_rules() -> None:
    async with three() as (a, us, c):
        to_us = await a.call(us)
        ours = await us.next()
        going = follower(us.endpoint)
        referred: list[Referral] = []
        ours.on_referred = lambda referral: not referred.append(referral)
        asked = asyncio.ensure_future(to_us.transfer(c.uri, within=5))
        await until(lambda: referred)
        with pytest.raises(DialRefusedError):
            await going.follow("default", "sip:x@elsewhere", ours, referred[0], within=5)
        status = await going.follow("default", c.uri, ours, referred[0], within=5)
        assert status == 200
        assert await asked == TransferResult(TransferOutcome.TRANSFERRED, 200)
        ledger = going._ledger
        assert ledger.used("default", asyncio.get_running_loop().time())[0] >= 0
        assert len(ledger._account("default").running) == 1
        await (await c.next()).hangup()
        await ours.ended()
        await until(lambda: not ledger._account("default").running)
        await going.close()


async def test_a_day_that_is_used_up_ends_it() -> None:
    rules = OutboundSettings.model_validate(
        {
            "enabled": True,
            "tenants": {"default": {"uris": ["sip:phone@127.0.0.1:*"], "max_call_seconds": 30}},
        }
    )
    async with three() as (a, us, c):
        await a.call(us)
        ours = await us.next()
        going = follower(us.endpoint, rules)
        referral = Referral(ours, Referred(ours._handle, c.uri, None))
        status = await going.follow("default", c.uri, ours, referral, within=5)
        assert status == 200
        (charge,) = going._ledger._account("default").running
        assert charge.answered_at is not None
        charge.answered_at -= 31
        assert await ours.ended() is EndReason.MAX_DURATION
        await going.close()
