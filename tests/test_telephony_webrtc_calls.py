"""Browser calls over real ICE, DTLS and SRTP on loopback."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription

from peers.agents import EchoAgent, GatedAgent, ToneAgent
from peers.loopback import ensure_ice_address
from peers.webrtc_client import WebRtcCaller, amplitude, calling
from ringtrue.streaming.ports import Call, EndReason, MediaLeg
from ringtrue.telephony.webrtc import events
from ringtrue.telephony.webrtc.calls import WebRtcCall
from ringtrue.telephony.webrtc.connection import MAX_CANDIDATES
from ringtrue.telephony.webrtc.errors import OfferError

pytestmark = pytest.mark.uvloop


async def until(condition: Callable[[], Any], seconds: float = 8.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


class Office:
    """Answers calls and puts an agent on each once it is connected."""

    def __init__(self) -> None:
        self.agent: type[GatedAgent] = EchoAgent
        self.options: dict[str, Any] = {}
        self.calls: list[WebRtcCall] = []
        self.agents: list[GatedAgent] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def signal(self, offer: str) -> str:
        call = WebRtcCall(local="demo", **self.options)
        self.calls.append(call)
        answer = await call.answer(offer)
        self.tasks.append(asyncio.create_task(self._run(call)))
        return answer

    async def _run(self, call: WebRtcCall) -> None:
        if await call.connected():
            agent = self.agent(call)
            self.agents.append(agent)
            await agent.run()


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    ensure_ice_address()
    held = Office()
    yield held
    for call in held.calls:
        await call.hangup(EndReason.SHUTDOWN)
    await asyncio.gather(*held.tasks)
    assert not [error for agent in held.agents for error in agent.errors]


async def test_audio_flows_both_ways(office: Office) -> None:
    async with calling(office.signal, 600) as caller:
        await until(lambda: amplitude(bytes(caller.heard), 600, 48000) > 5000)
        call, agent = office.calls[0], office.agents[0]
        assert isinstance(call, Call)
        assert isinstance(call.leg, MediaLeg)
        assert (call.transport, call.leg.rate, call.local) == ("webrtc", 16000, "demo")
        assert amplitude(bytes(agent.inbound), 600, 16000) > 5000
        stats = call.leg.stats
        assert stats.packets_received > 25
        assert stats.packets_sent > 25
        assert stats.packets_lost == 0
        assert stats.extra["frames_dropped"] == 0
        assert stats.extra["mos_listening"] > 4
        heard = call.leg.last_heard()
        assert heard is not None
        assert asyncio.get_running_loop().time() - heard < 1


async def test_what_plays_between_frames_is_only_what_the_gate_sealed(office: Office) -> None:
    office.agent = ToneAgent
    async with calling(office.signal, 600) as caller:
        await until(lambda: amplitude(bytes(caller.heard), 440, 48000) > 7000)
        gate, leg = office.agents[0].gate, office.calls[0].leg
        sealed, sent = gate.stats.sealed, leg.stats.packets_sent
        assert sent <= sealed
        with pytest.raises(TypeError, match="SealedFrame only"):
            leg.send(b"\0" * 640, 0.0)  # type: ignore[arg-type]


async def test_a_page_that_closes_has_hung_up(office: Office) -> None:
    async with calling(office.signal) as caller:
        await until(lambda: office.agents)
        await caller.pc.close()
        assert await asyncio.wait_for(office.calls[0].ended(), 3) is EndReason.CALLER_HUNG_UP


async def test_a_page_that_vanishes_is_lost(office: Office) -> None:
    office.options = {"reconnect_seconds": 0.6}
    async with calling(office.signal) as caller:
        await until(lambda: office.agents)
        caller.silence()
        assert await asyncio.wait_for(office.calls[0].ended(), 4) is EndReason.FAR_END_LOST


async def test_a_page_that_never_connects_is_given_up(office: Office) -> None:
    office.options = {"connect_timeout": 0.5}
    caller = WebRtcCaller()
    try:
        await office.signal(await caller.offer())
        assert await asyncio.wait_for(office.calls[0].connected(), 4) is False
        assert await office.calls[0].ended() is EndReason.FAR_END_LOST
    finally:
        await caller.close()


async def test_the_agent_hangs_up_and_the_page_learns_why(office: Office) -> None:
    async with calling(office.signal) as caller:
        await until(lambda: office.agents and caller.channel.readyState == "open")
        await office.calls[0].hangup()
        await until(lambda: caller.events)
        assert caller.events[-1] == {"type": "state", "state": "ended", "reason": "agent_hung_up"}
        assert await office.calls[0].ended() is EndReason.AGENT_HUNG_UP
        await office.calls[0].hangup(EndReason.ERROR)
        assert await office.calls[0].ended() is EndReason.AGENT_HUNG_UP


async def test_events_go_to_the_page_and_digits_come_from_it(office: Office) -> None:
    async with calling(office.signal) as caller:
        call = office.calls[0]
        call.notify(events.state("answered"))  # before the channel is open
        await until(lambda: caller.events)
        call.notify(events.agent("Hallo Welt – grüß dich", turn=1))
        await until(lambda: len(caller.events) == 2)
        assert caller.events[1]["text"] == "Hallo Welt – grüß dich"
        await until(lambda: office.agents)
        for message in ('{"type":"dtmf","digit":"7"}', "nonsense", "x" * 10_000, b"\0"):
            caller.channel.send(message)
        caller.channel.send(json.dumps({"type": "dtmf", "digit": "#"}))
        await until(lambda: len(office.agents[0].digits) == 2)
        assert office.agents[0].digits == ["7", "#"]
        assert call.refused_messages == 3
        caller.channel.send('{"type":"hangup"}')
        assert await asyncio.wait_for(call.ended(), 3) is EndReason.CALLER_HUNG_UP


async def real_offer() -> str:
    caller = WebRtcCaller()
    try:
        return await caller.offer()
    finally:
        await caller.close()


def _no_opus(offer: str) -> str:
    return offer.replace("opus", "nopus")


def _many_candidates(offer: str) -> str:
    line = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n"
    return offer + line * (MAX_CANDIDATES + 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda offer: "", "media none"),
        (lambda offer: "v=0\r\nm=audio", "fingerprint"),
        (lambda offer: "x" * 70_000, "70000 characters"),
        (lambda offer: offer + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n", "video"),
        (lambda offer: offer.replace("m=application", "m=text"), "other than"),
        (lambda offer: offer.replace("sha-", "md"), "fingerprint"),
        (lambda offer: offer.replace("a=ice-pwd", "a=ice-pw"), "can't be answered"),
        (lambda offer: offer.replace("a=rtcp-mux\r\n", ""), "can't be answered"),
        (lambda offer: offer.replace("m=audio ", "m=audio x"), "can't be answered"),
        (_no_opus, "can't be answered"),
        (_many_candidates, "candidates"),
    ],
)
async def test_a_bad_offer_is_one_documented_error(change: Callable[[str], str], says: str) -> None:
    ensure_ice_address()
    offer = change(await real_offer())
    call = WebRtcCall()
    with pytest.raises(OfferError, match=says):
        await call.answer(offer)
    assert await call.ended() is EndReason.ERROR
    assert await call.connected() is False


async def test_a_call_never_answered_can_be_hung_up() -> None:
    call = WebRtcCall()
    await call.hangup(EndReason.CANCELLED)
    assert await call.ended() is EndReason.CANCELLED


class Attacker:
    """Sends datagrams to a call from an address that is not its caller's."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((target[0], 0))
        self._target = target

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self._socket.sendto(datagram, self._target)

    def close(self) -> None:
        self._socket.close()


ATTACK = (
    b"",
    b"\x16\xfe\xfd" + bytes(10),  # a DTLS handshake record
    b"\x15\xfe\xfd\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x01\x00",  # a DTLS close_notify
    b"\x80" + bytes(40),  # RTP
    b"\x00",
    b"\x00\x01\x00\x00" + b"\x21\x12\xa4\x42" + bytes(12),  # STUN without anything
    b"\x00\x01\x00\x08" + b"\x21\x12\xa4\x42" + bytes(12) + b"\x00\x06\x00\x04\xff\xff\xff\xff",
    b"\x00\x01\x00\x08" + b"\x21\x12\xa4\x42" + bytes(12) + b"\x00\x20\x00\x04\xff\xff\xff\xff",
    bytes(range(256)) * 40,
)


def media_address(pc: RTCPeerConnection) -> tuple[str, int]:
    connection = pc.getTransceivers()[0].receiver.transport.transport._connection
    return connection._nominated[1].local_addr


async def test_datagrams_of_strangers_do_nothing_to_a_call(office: Office) -> None:
    async with calling(office.signal) as caller:
        await until(lambda: office.agents and amplitude(bytes(caller.heard), 600, 48000) > 5000)
        call = office.calls[0]
        attacker = Attacker(media_address(call._connection._pc))
        try:
            for _ in range(5):
                attacker.send(*ATTACK)
            guard = call._connection.guard.stats
            await until(lambda: guard.empty == 5 and guard.oversized == 5)
            received = call.leg.stats.packets_received
            await until(lambda: call.leg.stats.packets_received > received + 25)
        finally:
            attacker.close()
        assert guard.unknown_source >= 15
        assert guard.malformed >= 5
        caller.heard.clear()
        await until(lambda: amplitude(bytes(caller.heard), 600, 48000) > 5000)


async def test_without_the_guard_one_empty_datagram_kills_a_call() -> None:
    """The attack is real: the same datagram ends a connection that has no guard."""
    ensure_ice_address()
    bare = WebRtcCaller(500)  # aiortc as it comes
    caller = WebRtcCaller(600)
    try:
        await bare.pc.setRemoteDescription(RTCSessionDescription(await caller.offer(), "offer"))
        await bare.pc.setLocalDescription(await bare.pc.createAnswer())
        await caller.accept(bare.pc.localDescription.sdp)
        await until(lambda: bare.pc.connectionState == "connected")
        attacker = Attacker(media_address(bare.pc))
        try:
            attacker.send(b"")
            await until(lambda: bare.pc.connectionState == "closed")
        finally:
            attacker.close()
    finally:
        await caller.close()
        await bare.close()
