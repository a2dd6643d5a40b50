"""Candidates that come late, and callers that come back, over real ICE, DTLS and SRTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from peers.agents import GatedAgent, ToneAgent
from peers.loopback import ensure_ice_address
from peers.webrtc_client import WebRtcCaller, amplitude
from ringtrue.streaming.ports import EndReason, Holdable
from ringtrue.telephony.webrtc import events
from ringtrue.telephony.webrtc.calls import MAX_RESUMES, WebRtcCall
from ringtrue.telephony.webrtc.candidates import Fragment, parse_fragment
from ringtrue.telephony.webrtc.errors import CandidateError, OfferError
from ringtrue.telephony.webrtc.live import LiveCalls

pytestmark = pytest.mark.uvloop


async def until(condition: Callable[[], Any], seconds: float = 8.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


class Line:
    """One call, the agent on it, and all the callers there were."""

    def __init__(self) -> None:
        ensure_ice_address()
        self.call = WebRtcCall(reconnect_seconds=2.0)
        self.agent: GatedAgent = ToneAgent(self.call)
        self.callers: list[WebRtcCaller] = []
        self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        if await self.call.connected():
            await self.agent.run()

    def caller(self, frequency: float = 600) -> WebRtcCaller:
        self.callers.append(WebRtcCaller(frequency))
        return self.callers[-1]

    async def up(self) -> WebRtcCaller:
        """A caller who hears the agent and is heard."""
        caller = self.caller()
        await caller.accept(await self.call.answer(await caller.offer()))
        await until(lambda: amplitude(bytes(caller.heard), 440, 48000) > 5000)
        await until(lambda: amplitude(bytes(self.agent.inbound), 600, 16000) > 5000)
        return caller

    async def close(self) -> None:
        await self.call.hangup(EndReason.SHUTDOWN)
        for caller in self.callers:
            await caller.close()
        await self._running
        assert not self.agent.errors


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    held = Line()
    yield held
    await held.close()


def split(offer: str) -> tuple[str, Fragment]:
    """An offer without candidates, as a page sends it at once, and what it left out."""
    taken = re.findall(r"^a=(?:candidate:.*|end-of-candidates)\r?$", offer, re.MULTILINE)
    bare = re.sub(r"^a=(?:candidate:.*|end-of-candidates)\r?\n", "", offer, flags=re.MULTILINE)
    ufrag = re.search(r"^a=ice-ufrag:.*$", bare, re.MULTILINE)
    assert ufrag is not None
    return bare, parse_fragment("\r\n".join([ufrag[0].strip(), *dict.fromkeys(taken)]))


async def test_candidates_may_come_after_the_offer(line: Line) -> None:
    caller = line.caller()
    bare, late = split(await caller.offer())
    assert late.candidates
    assert late.complete
    answer = await line.call.answer(bare)
    assert "a=candidate" in answer
    assert "a=end-of-candidates" in answer
    for candidate in late.candidates:
        await line.call.add_candidates(Fragment(late.ufrag, (candidate,), False))
    await line.call.add_candidates(Fragment(late.ufrag, (), True))
    await caller.accept(answer)
    assert await asyncio.wait_for(line.call.connected(), 8)
    await until(lambda: amplitude(bytes(caller.heard), 440, 48000) > 5000)


async def test_candidates_that_can_not_be_added_say_why(line: Line) -> None:
    bare, late = split(await line.caller().offer())
    await line.call.answer(bare)
    with pytest.raises(CandidateError, match="ice-ufrag differs"):
        await line.call.add_candidates(Fragment("other", late.candidates, False))
    with pytest.raises(CandidateError, match="allowed: 64"):
        await line.call.add_candidates(Fragment(None, late.candidates[:1] * 65, False))
    line.call._connection._candidates = 0
    await line.call.add_candidates(late)
    with pytest.raises(CandidateError, match="after end-of-candidates"):
        await line.call.add_candidates(Fragment(None, late.candidates[:1], False))
    await line.call.hangup()
    with pytest.raises(CandidateError, match="over"):
        await line.call.add_candidates(late)


async def test_a_lost_caller_comes_back_and_the_call_goes_on(line: Line) -> None:
    lost = await line.up()
    call, leg = line.call, line.call.leg
    assert isinstance(leg, Holdable)
    assert not leg.held
    lost.silence()
    await until(lambda: leg.held)  # the agent waits from here on
    received = leg.stats.packets_received
    call.notify(events.final("said while nobody could hear it"))

    back = line.caller(900)
    await back.accept(await call.resume(await back.offer()))
    await until(lambda: amplitude(bytes(back.heard), 440, 48000) > 5000)
    await until(lambda: amplitude(bytes(line.agent.inbound[-32000:]), 900, 16000) > 5000)
    await until(lambda: not leg.held)
    assert leg.stats.packets_received > received  # counted on
    assert leg.stats.extra["interruptions"] == 1
    await until(lambda: back.events)
    assert back.events[0]["text"] == "said while nobody could hear it"

    await lost.pc.close()  # the connection that was left has no say any more
    await asyncio.sleep(0.2)
    assert not call._over.done()
    back.channel.send('{"type":"hangup"}')
    assert await asyncio.wait_for(call.ended(), 3) is EndReason.CALLER_HUNG_UP


async def test_a_caller_who_stays_away_is_lost(line: Line) -> None:
    caller = await line.up()
    caller.silence()
    assert await asyncio.wait_for(line.call.ended(), 5) is EndReason.FAR_END_LOST
    with pytest.raises(OfferError, match="over"):
        await line.call.resume(await line.caller().offer())


async def test_an_attempt_that_fails_leaves_the_call_as_it_is(line: Line) -> None:
    caller = await line.up()
    with pytest.raises(OfferError, match="media none"):
        await line.call.resume("v=0\r\n")
    abandoned = line.caller()
    await line.call.resume(await abandoned.offer())  # and never accepted
    await line.call.resume(await line.caller().offer())
    caller.heard.clear()
    await until(lambda: amplitude(bytes(caller.heard), 440, 48000) > 5000)
    for _ in range(MAX_RESUMES - 3):
        with pytest.raises(OfferError, match="media none"):
            await line.call.resume("v=0\r\n")
    with pytest.raises(OfferError, match="resumed 20 times"):
        await line.call.resume(await line.caller().offer())


async def test_a_call_that_is_not_up_can_not_be_resumed() -> None:
    call = WebRtcCall()
    with pytest.raises(OfferError, match="not up yet"):
        await call.resume("v=0\r\n")
    await call.hangup()


async def test_a_call_is_found_by_its_secret_until_it_ends() -> None:
    live = LiveCalls()
    call, other = WebRtcCall(), WebRtcCall()
    secret, others = live.add(call), live.add(other)
    assert live.find(call.id, secret) is call
    assert live.find(call.id, others) is None
    assert live.find(call.id, "") is None
    assert live.find("webrtc-0", secret) is None
    await call.hangup()
    await until(lambda: len(live) == 1)
    assert live.find(call.id, secret) is None
    await other.hangup()
    await until(lambda: not len(live))
