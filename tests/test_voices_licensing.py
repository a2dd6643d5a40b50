"""Grants: true for one term after a look, gone for good where the register says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from ringtrue.voices.consent.decision import Decision, Reason
from ringtrue.voices.licensing import (
    START_SECONDS,
    WEIGH_SECONDS,
    ConsentRefusedError,
    ConsentWatch,
    Grant,
    Question,
)

pytestmark = pytest.mark.virtual_time
TERM = 0.45
START = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
QUESTION = Question("acme", "v_1", "reception", "desk")


@dataclass
class Register:
    """Answers as told, and counts."""

    answer: Reason = Reason.COVERED
    until: datetime | None = None
    version: int = 1
    hangs: bool = False
    fails: bool = False
    slow: float = 0.0
    """Seconds that each question takes."""

    deciding: float = 0.0
    """Seconds that a decision takes, beside that."""

    asked: int = 0
    begun: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    def clock(self) -> datetime:
        passed = asyncio.get_running_loop().time() - self.begun
        return START + timedelta(seconds=passed)

    async def decide(
        self, *, tenant: str, voice: str, agent: str, purpose: str, now: datetime
    ) -> Decision:
        await self._wait()
        await asyncio.sleep(self.deciding)
        self.asked += 1
        return Decision(self.answer, f"serial-{self.version}", self.until)

    async def versions(self, voices: Collection[str]) -> Mapping[str, int]:
        await self._wait()
        return dict.fromkeys(voices, self.version)

    async def _wait(self) -> None:
        await asyncio.sleep(0.003 + self.slow)
        if self.hangs:
            await asyncio.sleep(3600)
        if self.fails:
            raise OSError("no database")


@asynccontextmanager
async def watching() -> AsyncIterator[tuple[Register, ConsentWatch]]:
    register = Register()
    watch = ConsentWatch(register, register.versions, term=TERM, clock=register.clock)
    try:
        yield register, watch
    finally:
        await watch.close()


def now() -> float:
    return asyncio.get_running_loop().time()


async def lost(grant: Grant, within: float = 2.0) -> tuple[float, Reason]:
    """How long the grant lasts from now on, and why it ends; it doesn't hold any more then."""
    done: asyncio.Future[Reason] = asyncio.get_running_loop().create_future()
    grant.on_lost(done.set_result)
    began = now()
    last = began
    async with asyncio.timeout(within):
        while not done.done():
            if grant.holds(now()):
                last = now()
            await asyncio.sleep(0.005)
    assert not grant.holds(now())
    return last - began, done.result()


async def test_it_holds_as_long_as_the_register_says_so_and_costs_little() -> None:
    async with watching() as (register, watch):
        grant = await watch.grant(QUESTION)
        asked = register.asked
        for _ in range(1000):
            await asyncio.sleep(0.01)
            assert grant.holds(now())
        assert grant.consent == "serial-1"
        assert register.asked - asked <= 10 / WEIGH_SECONDS + 1
        assert watch.looks <= 10 * 3 / TERM + 1


@pytest.mark.parametrize(
    "reason", [reason for reason in Reason if reason not in (Reason.COVERED, Reason.UNAVAILABLE)]
)
async def test_a_change_nobody_told_of_ends_it_within_a_term(reason: Reason) -> None:
    async with watching() as (register, watch):
        grant = await watch.grant(QUESTION)
        await asyncio.sleep(1.234)
        register.answer, register.version = reason, 2
        lasted, why = await lost(grant)
        assert lasted <= TERM / 3 + 0.02
        assert why is reason


async def test_news_ends_it_at_once() -> None:
    async with watching() as (register, watch):
        grant = await watch.grant(QUESTION)
        await asyncio.sleep(0.51)
        register.answer = Reason.WITHDRAWN
        watch.suspect("v_2")
        await asyncio.sleep(0.02)
        assert grant.holds(now())
        watch.suspect("v_1")
        lasted, _ = await lost(grant)
        assert lasted <= 0.02


async def test_false_news_changes_nothing() -> None:
    async with watching() as (_, watch):
        grant = await watch.grant(QUESTION)
        for _ in range(50):
            watch.suspect("v_1")
            await asyncio.sleep(0.01)
            assert grant.holds(now())


@pytest.mark.parametrize("how", ["hangs", "fails", "unavailable"])
async def test_a_register_that_is_away_ends_it_after_the_term_and_gives_no_new_one(
    how: str,
) -> None:
    async with watching() as (register, watch):
        grant = await watch.grant(QUESTION)
        await asyncio.sleep(1.0)
        if how == "unavailable":
            register.answer, register.version = Reason.UNAVAILABLE, 2
        else:
            setattr(register, how, True)
        lasted, why = await lost(grant)
        assert lasted <= TERM
        assert why is Reason.UNAVAILABLE
        with pytest.raises(ConsentRefusedError):
            await watch.grant(QUESTION)


async def test_a_register_that_can_not_say_ends_it_even_where_nothing_changed() -> None:
    async with watching() as (register, watch):
        grant = await watch.grant(QUESTION)
        register.answer = Reason.UNAVAILABLE
        lasted, why = await lost(grant, within=2 * WEIGH_SECONDS)
        assert lasted <= WEIGH_SECONDS + TERM + 0.2
        assert why is Reason.UNAVAILABLE


async def test_many_that_are_due_at_once_all_stand() -> None:
    async with watching() as (register, watch):
        grants = [
            await watch.grant(Question("acme", f"v_{number}", "reception", "desk"))
            for number in range(300)
        ]
        for _ in range(2000):
            await asyncio.sleep(0.01)
            assert all(grant.holds(now()) for grant in grants)
        assert register.asked >= 900


async def test_a_register_that_stumbles_ends_nothing() -> None:
    async with watching() as (register, watch):
        grant = await watch.grant(QUESTION)
        for _ in range(20):
            register.fails = True
            await asyncio.sleep(TERM / 3)
            register.fails = False
            await asyncio.sleep(TERM)
            assert grant.lost is None
            assert grant.holds(now())


async def test_a_register_that_is_slow_at_first_costs_no_voice_and_lets_none_speak() -> None:
    async with watching() as (register, watch):
        register.slow = 0.3
        grant = await watch.grant(QUESTION)
        assert not grant.holds(now())  # what is known of it is true of too long ago
        await asyncio.sleep(START_SECONDS - 0.2)
        assert grant.lost is None
        register.slow = 0.0
        await asyncio.sleep(TERM)
        for _ in range(100):
            assert grant.holds(now())
            await asyncio.sleep(0.01)


async def test_a_register_that_stays_slow_costs_a_new_call_its_voice() -> None:
    async with watching() as (register, watch):
        register.slow = 0.5
        grant = await watch.grant(QUESTION)
        lasted, why = await lost(grant, within=START_SECONDS + TERM)
        assert lasted == 0.0
        assert why is Reason.UNAVAILABLE


async def test_voices_that_speak_do_not_wait_behind_those_that_are_to() -> None:
    async with watching() as (register, watch):
        speaking = await watch.grant(QUESTION)
        register.deciding = 0.3
        asking = [
            asyncio.create_task(watch.grant(Question("acme", f"v_{number}", "reception", "desk")))
            for number in range(2, 12)
        ]
        for _ in range(250):
            assert speaking.holds(now())
            await asyncio.sleep(0.01)
        grants = await asyncio.gather(*asking)
        assert all(grant.holds(now()) for grant in grants)


async def test_a_slow_answer_takes_nothing_from_what_is_known_since() -> None:
    async with watching() as (register, watch):
        speaking = await watch.grant(QUESTION)
        register.deciding = 0.6
        again = asyncio.create_task(watch.grant(QUESTION))
        for _ in range(100):
            assert speaking.holds(now())
            await asyncio.sleep(0.01)
        assert again.done()


async def test_it_ends_when_the_consent_expires() -> None:
    async with watching() as (register, watch):
        register.until = register.clock() + timedelta(seconds=3)
        grant = await watch.grant(QUESTION)
        register.version = 2  # weighed again, and still it ends then
        lasted, why = await lost(grant, within=4)
        assert 2.9 < lasted <= 3.0
        assert why is Reason.EXPIRED


async def test_a_voice_that_changes_without_a_new_version_is_found_out() -> None:
    async with watching() as (register, watch):
        grant = await watch.grant(QUESTION)
        register.answer = Reason.SIGNATURE
        lasted, why = await lost(grant, within=2 * WEIGH_SECONDS)
        assert lasted <= WEIGH_SECONDS + TERM
        assert why is Reason.SIGNATURE


async def test_it_is_refused_with_the_registers_reason() -> None:
    async with watching() as (register, watch):
        register.answer = Reason.PURPOSE
        with pytest.raises(ConsentRefusedError) as caught:
            await watch.grant(QUESTION)
        assert caught.value.decision.reason is Reason.PURPOSE
        assert watch._task is None


async def test_calls_share_a_grant_and_the_last_ends_the_watching() -> None:
    async with watching() as (_, watch):
        one, two = await watch.grant(QUESTION), await watch.grant(QUESTION)
        other = await watch.grant(Question("acme", "v_1", "other", "desk"))
        assert one is two
        assert other is not one
        watch.release(one)
        await asyncio.sleep(1)
        assert two.holds(now())
        watch.release(two)
        watch.release(other)
        await asyncio.sleep(1)
        assert watch._task is None


async def test_once_lost_it_stays_lost_and_a_new_one_is_another() -> None:
    async with watching() as (register, watch):
        grant = await watch.grant(QUESTION)
        watch.revoke("v_1", Reason.WITHDRAWN)
        assert grant.lost is Reason.WITHDRAWN
        again = await watch.grant(QUESTION)
        assert again.holds(now())
        assert not grant.holds(now())
        watch.release(grant)
        await asyncio.sleep(1)
        assert again.holds(now())
        told: list[Reason] = []
        grant.on_lost(told.append)
        assert told == [Reason.WITHDRAWN]
        assert register.asked >= 2


async def test_one_callback_that_fails_keeps_no_other_from_being_told() -> None:
    async with watching() as (_, watch):
        grant = await watch.grant(QUESTION)
        told: list[Reason] = []

        def broken(_: Reason) -> None:
            raise RuntimeError

        grant.on_lost(broken)
        grant.on_lost(told.append)
        watch.revoke("v_1", Reason.WITHDRAWN)
        assert told == [Reason.WITHDRAWN]


async def test_a_loop_that_was_held_up_takes_no_voice_away() -> None:
    async with watching() as (_, watch):
        grant = await watch.grant(QUESTION)
        await asyncio.sleep(0.3)
        grant._until = now() - 0.2  # as after a stall: the term ran out while nothing ran
        assert not grant.holds(now())
        await asyncio.sleep(TERM / 3 + 0.02)
        assert grant.holds(now())
