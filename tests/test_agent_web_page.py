"""The page in a real browser, calling agents made of a clock and a gate."""

import asyncio
import math
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from peers.agents import EchoAgent, GatedAgent, ToneAgent
from peers.chromium import BrowserCaller, browser_caller, chromium, find_chromium, write_microphone
from peers.http import serving
from peers.loopback import ensure_ice_address
from peers.webrtc_client import amplitude
from ringtrue.agent.web.router import AgentChoice, Answer, BusyError, OfferRequest, webrtc_router
from ringtrue.streaming.ports import EndReason
from ringtrue.telephony.webrtc import events
from ringtrue.telephony.webrtc.calls import WebRtcCall
from ringtrue.telephony.webrtc.live import LiveCalls

MICROPHONE_HZ = 500


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


async def until_true(condition: Callable[[], Awaitable[bool]], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.2)


class Office:
    """Two agents behind the page: a tone and an echo."""

    def __init__(self) -> None:
        self.live = LiveCalls()
        self.calls: list[WebRtcCall] = []
        self.agents: list[GatedAgent] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.busy = False
        self.url = ""

    async def accept(self, request: OfferRequest) -> Answer:
        if self.busy:
            raise BusyError(5)
        call = WebRtcCall(local=request.agent, remote=request.client)
        answer = await call.answer(request.sdp)
        self.calls.append(call)
        self.tasks.append(asyncio.create_task(self._run(call)))
        return Answer(answer, call.id, self.live.add(call))

    async def _run(self, call: WebRtcCall) -> None:
        if await call.connected():
            kind = {"tone": ToneAgent, "echo": EchoAgent}[call.local]
            self.agents.append(kind(call))
            await self.agents[-1].run()


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    ensure_ice_address()
    find_chromium()
    held = Office()
    app = FastAPI()
    agents = [AgentChoice("tone", "A tone"), AgentChoice("echo", "An echo", "Says it again")]
    router = webrtc_router(held.accept, agents=agents, name="Test line", live=held.live)
    app.include_router(router)
    async with serving(app) as held.url:
        yield held
        for call in held.calls:
            await call.hangup(EndReason.SHUTDOWN)
        await asyncio.gather(*held.tasks)


@pytest.fixture
async def caller(office: Office, tmp_path: Path) -> AsyncIterator[BrowserCaller]:
    wave = [8000 * math.sin(2 * math.pi * MICROPHONE_HZ * n / 16000) for n in range(32000)]
    pcm = struct.pack(f"<{len(wave)}h", *(int(value) for value in wave))
    microphone = write_microphone(tmp_path / "microphone.wav", pcm, 16000)
    async with chromium(microphone) as browser, browser_caller(browser) as held:
        await held.open(office.url)
        yield held
        assert not [problem for problem in held.problems if "503" not in problem]


async def test_a_browser_calls_and_hears_the_agent(office: Office, caller: BrowserCaller) -> None:
    await caller.call("tone")
    await until(lambda: office.agents)

    async def heard() -> bool:
        try:
            audio = await caller.received()
        except LookupError:
            return False
        return audio.seconds > 3 and audio.level > 0.1

    await until_true(heard)
    audio = await caller.received()
    # a tone of amplitude 8000/32768 carries about 0.03 of energy a second
    assert audio.energy / audio.seconds > 0.015
    assert audio.packets > 100
    assert audio.lost == 0
    # and the agent hears the microphone
    agent = office.agents[0]
    await until(lambda: amplitude(bytes(agent.inbound[-32000:]), MICROPHONE_HZ, 16000) > 500)
    assert not agent.errors
    await caller.hang_up()
    assert await asyncio.wait_for(office.calls[0].ended(), 5) is EndReason.CALLER_HUNG_UP
    await caller.wait_for_state("ended")


async def test_events_show_on_the_page_and_keys_reach_the_agent(
    office: Office, caller: BrowserCaller
) -> None:
    await caller.call("echo")
    await until(lambda: office.agents)
    call = office.calls[0]
    call.notify(events.partial("what are your"))
    await caller.page.wait_for_selector("#transcript .partial")
    call.notify(events.final("What are your <b>hours</b>?"))
    call.notify(events.agent("We are", turn=1))
    call.notify(events.agent("We are open", turn=1, interrupted=True))
    call.notify(events.latency(1, 431.2, {"endpointing": 300, "synthesis": 120, "ttfa": 131}))
    call.notify(events.state("speaking"))
    await caller.wait_for_state("speaking")
    assert await caller.transcript() == [
        ("caller", "What are your <b>hours</b>?"),
        ("agent interrupted", "We are open"),
    ]
    row = await caller.page.inner_text("#latency tr")
    assert [cell.strip() for cell in row.split("\t")] == [
        "1",
        "End of your turn 300 ms, Synthesis 120 ms",
        "431 ms",
    ]
    assert await caller.page.inner_text("#figure") == "431 ms"
    call.notify(events.latency(2, 200.4))
    await caller.page.wait_for_selector("#latency tr:nth-child(2)")
    assert await caller.page.inner_text("#figure") == "200 ms, median 200 ms"
    await caller.press("4")
    await caller.page.click("summary")
    await caller.page.click("#keypad button[data-key='#']")
    await until(lambda: office.agents[0].digits == ["4", "#"])
    await call.hangup()
    await caller.wait_for_state("ended")
    assert await caller.page.inner_text("#state") == "The agent hung up"
    assert await caller.page.is_visible("#call")


async def test_muting_silences_the_microphone(office: Office, caller: BrowserCaller) -> None:
    await caller.call("tone")
    await until(lambda: office.agents)
    inbound = office.agents[0].inbound
    await until(lambda: amplitude(bytes(inbound[-32000:]), MICROPHONE_HZ, 16000) > 500)
    await caller.page.click("#mute")
    assert await caller.page.get_attribute("#mute", "aria-pressed") == "true"
    await until(lambda: not any(inbound[-3200:]) or max(map(abs, _samples(inbound[-3200:]))) < 50)


def _samples(pcm: bytearray) -> tuple[int, ...]:
    return struct.unpack(f"<{len(pcm) // 2}h", pcm)


async def test_a_page_that_is_left_has_hung_up(office: Office, caller: BrowserCaller) -> None:
    await caller.call("tone")
    await until(lambda: office.agents)
    await caller.page.goto("about:blank")
    assert await asyncio.wait_for(office.calls[0].ended(), 8) is EndReason.CALLER_HUNG_UP


async def test_two_calls_from_one_page(office: Office, caller: BrowserCaller) -> None:
    for count in (1, 2):
        await caller.call("tone")
        await until(lambda count=count: len(office.agents) == count)
        await caller.hang_up()
        await asyncio.wait_for(office.calls[-1].ended(), 5)
        await caller.wait_for_state("ended")


async def test_a_busy_server_and_a_dead_one_are_told_apart(
    office: Office, caller: BrowserCaller
) -> None:
    office.busy = True
    await caller.page.click("#call:enabled")
    await caller.page.wait_for_selector("#error:visible")
    assert "busy" in await caller.error()
    assert await caller.page.is_visible("#call")
    await caller.page.route("**/webrtc/session", lambda route: route.abort())
    await caller.page.click("#call:enabled")
    await caller.page.wait_for_selector("#error:visible:has-text('reached')")
    caller.problems.clear()


async def test_a_refused_microphone_is_explained(office: Office) -> None:
    async with (
        chromium() as browser,
        browser_caller(browser, microphone_allowed=False) as caller,
    ):
        await caller.open(office.url)
        await caller.page.click("#call:enabled")
        await caller.page.wait_for_selector("#error:visible")
        assert "microphone was refused" in await caller.error()
        assert not office.calls
        assert await caller.state() == "idle"


async def test_an_insecure_page_says_so_at_once(office: Office) -> None:
    async with chromium() as browser, browser_caller(browser) as caller:
        await caller.page.add_init_script(
            "Object.defineProperty(window, 'isSecureContext', {value: false})"
        )
        await caller.open(office.url)
        await caller.page.wait_for_selector("#error:visible")
        assert "https or from localhost" in await caller.error()
        assert await caller.page.is_disabled("#call")
