"""Real calls over every transport, in which something tries to send what may not be heard.

Packets are captured below all sockets, decrypted and decoded one by one. The tone that is offered
would be unmistakable in any of them; sealed as it should be, it is there, so that its absence means
something.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import numpy.typing as npt
import pytest
from aiortc.rtp import RtpPacket, is_rtcp
from pipecat.frames.frames import InterruptionFrame
from pydantic import SecretStr
from test_agent_voice_calls import TENANT, ada, make_house

from peers.capture import Capture, captured, websocket_messages
from peers.loopback import ensure_ice_address
from peers.twilio_client import dial
from peers.webrtc_client import calling
from ringtrue.agent.audit.opening import audit_dir
from ringtrue.agent.audit.searching import entries_of
from ringtrue.agent.calls import ActiveCall
from ringtrue.agent.server import Server
from ringtrue.config.settings import TwilioSettings
from ringtrue.loadtest.caller import VirtualCaller
from ringtrue.loadtest.phone import Phone
from ringtrue.streaming.audio_ops import audioop
from ringtrue.streaming.errors import GateError
from ringtrue.streaming.gate import Chunk, Draft, FrameKind, SealedFrame, Ticket
from ringtrue.streaming.ports import Licence
from ringtrue.streaming.provenance import Lane, unsealed
from ringtrue.streaming.session import CallSession
from ringtrue.voices.library import utc_now

pytestmark = [
    pytest.mark.uvloop,
    pytest.mark.keeps("the recognizer's and the engines' threads end with the server"),
]

AUTH = "0123456789abcdef0123456789abcdef"
TONE = 2000.0
"""Of whatever is only offered where it may not pass, in Hz."""

TONE_ONCE = 1200.0
"""Of what may pass once."""

BURST_FRAMES = 10

Packets = list[npt.NDArray[np.float64]]


def tone(rate: int, frequency: float = TONE) -> bytes:
    """20 ms at -4 dBFS."""
    wave = np.sin(2 * np.pi * frequency * np.arange(rate // 50) / rate)
    return bytes((20000 * wave).astype("<i2").tobytes())


def carrying(packets: Packets, rate: int, frequency: float = TONE) -> int:
    """How many packets hold the tone: most of their power is in it, 30 dB below it or louder."""
    found = 0
    for wave in packets:
        phase = np.exp(-2j * np.pi * frequency * np.arange(len(wave)) / rate)
        amplitude = 2 * abs(np.mean(wave * phase))
        found += bool(amplitude > 600 and amplitude**2 > np.mean(wave**2))
    return found


def from_mu_law(payload: bytes) -> npt.NDArray[np.float64]:
    return np.frombuffer(audioop.ulaw2lin(payload, 2), "<i2").astype(float)


@dataclass
class Line:
    """A caller on one transport, and what each packet to it holds that was captured."""

    rate: int
    packets: Callable[[], Packets]


@asynccontextmanager
async def by_sip(server: Server, capture: Capture) -> AsyncIterator[Line]:
    hang_up = asyncio.Event()
    answered: asyncio.Future[VirtualCaller] = asyncio.get_running_loop().create_future()

    async def script(caller: VirtualCaller) -> None:
        answered.set_result(caller)
        await hang_up.wait()
        await caller.hangup()

    def packets() -> Packets:
        offers = [each for each in capture.datagrams(server.sip_port) if each.startswith(b"INVITE")]
        port = re.search(rb"m=audio (\d+) ", offers[0])
        assert port is not None
        sent = [RtpPacket.parse(each) for each in capture.datagrams(int(port[1]))]
        assert {each.payload_type for each in sent} == {0}
        return [from_mu_law(each.payload) for each in sent]

    async with Phone() as phone:
        target = f"sip:ada@127.0.0.1:{server.sip_port}"
        call = asyncio.create_task(phone.call(target, script, name="caller"))
        yield Line((await answered).line.rate, packets)
        hang_up.set()
        assert (await call).ok


@asynccontextmanager
async def by_webrtc(server: Server, capture: Capture) -> AsyncIterator[Line]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.http_port}") as web:

        async def signal(sdp: str) -> str:
            token = (await web.post("/webrtc/session")).json()["token"]
            offer = {"sdp": sdp, "token": token, "agent": "ada"}
            return str((await web.post("/webrtc/offer", json=offer)).json()["sdp"])

        async with calling(signal, frequency=0.0) as caller:

            def packets() -> Packets:
                keys, opus = caller.srtp_of_the_server(), av.CodecContext.create("opus", "r")
                heard: Packets = []
                for data in capture.datagrams(caller.socket_address[1]):
                    if not 128 <= data[0] < 192 or is_rtcp(data):  # STUN, DTLS (RFC 7983 §7)
                        continue
                    sent = RtpPacket.parse(keys.unprotect(data))
                    (frame,) = opus.decode(av.Packet(sent.payload))
                    heard.append(32768 * frame.to_ndarray()[0].astype(float))
                return heard

            yield Line(48000, packets)


@asynccontextmanager
async def by_twilio(server: Server, capture: Capture) -> AsyncIterator[Line]:
    async with dial(f"http://127.0.0.1:{server.http_port}", AUTH) as caller:
        port = caller.websocket.local_address[1]

        def packets() -> Packets:
            sent = map(json.loads, websocket_messages(capture.stream(port)))
            media = [each["media"]["payload"] for each in sent if each["event"] == "media"]
            return [from_mu_law(base64.b64decode(each)) for each in media]

        yield Line(8000, packets)


TRANSPORTS = {"sip": by_sip, "webrtc": by_webrtc, "twilio": by_twilio}


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def arrived(lines: dict[str, Line]) -> None:
    """All of the tone that was allowed was sent on every line."""
    before: list[int] = []
    async with asyncio.timeout(10):
        while True:
            counts = [carrying(line.packets(), line.rate) for line in lines.values()]
            if counts == before and min(counts) >= BURST_FRAMES:
                return
            before = counts
            await asyncio.sleep(0.4)


@dataclass
class Intruder:
    """Code in the server that has hold of one call's gate and leg, and of others' audio."""

    active: ActiveCall
    licence: Licence
    """Of the cloned voice, as its audio carries it."""

    played: Chunk
    """Something that was sent already."""

    earlier: Chunk
    """Made in good order, before a turn that will be cut."""

    foreign: Chunk | None = None
    """Sealed for another call."""

    offered: Counter[str] = field(default_factory=Counter)

    @property
    def session(self) -> CallSession:
        return self.active.graph.session

    @classmethod
    async def into(cls, active: ActiveCall) -> Intruder:
        """As soon as the cloned voice is heard; leaves a tone that is allowed in the call."""
        session = active.graph.session
        await until(lambda: session.gate.stats.speech > 5)
        chunk = session.gate._current[Lane.SPEECH]
        assert chunk.licence is not None
        now, rate = asyncio.get_running_loop().time(), active.call.leg.rate
        tones = session.gate.provenance.utterance(Lane.TONES)
        made = [tones.seal(tone(rate), now, kind=FrameKind.TONE) for _ in range(BURST_FRAMES)]
        intruder = cls(
            active,
            chunk.licence,
            made[-1],
            session.gate.provenance.utterance().seal(tone(rate), now),
        )
        for each in made:
            intruder.put(each)
            await asyncio.sleep(0.02)
        assert not session.gate.stats.refused
        return intruder

    def put(self, chunk: Chunk, ticket: Ticket | None = None) -> None:
        """Offer a chunk to the gate, and what it makes of it to the leg."""
        now = asyncio.get_running_loop().time()
        session = self.session
        frame = session.gate.admit(Draft.whole(ticket or session.gate._ticket, chunk), now)
        session._leg.send(frame, now)

    def offer(self, reason: str, chunk: Chunk) -> None:
        self.offered[reason, "gate"] += 1
        self.put(chunk)

    def speak(self) -> None:
        """What can be tried while the agent speaks."""
        now, rate = asyncio.get_running_loop().time(), self.active.call.leg.rate
        provenance = self.session.gate.provenance
        assert self.foreign is not None
        self.offer("unsealed", unsealed(tone(rate), rate, now))
        self.offer("sequence", self.played)
        self.offer("session", self.foreign)
        stale = provenance.utterance(Lane.TONES).seal(tone(rate), now - 200, kind=FrameKind.TONE)
        self.offer("expired", stale)

    def sealed(self, frequency: float, now: float) -> SealedFrame:
        """A tone that this call may send, out of its gate."""
        gate = self.session.gate
        made = tone(self.active.call.leg.rate, frequency)
        chunk = gate.provenance.utterance(Lane.TONES).seal(made, now, kind=FrameKind.TONE)
        return gate.admit(Draft.whole(gate._ticket, chunk), now)

    def go_around(self, other: Intruder) -> None:
        """Past the gate, at the leg itself."""
        leg, now = self.session._leg, asyncio.get_running_loop().time()
        again = self.sealed(TONE_ONCE, now)
        leg.send(again, now)
        others = other.sealed(TONE, now)
        for reason, frame in (
            ("unsealed", self.played.pcm),
            ("sequence", again),
            ("session", others),
        ):
            self.offered[reason, "leg"] += 1
            with contextlib.suppress(TypeError, GateError):
                leg.send(frame, now)  # type: ignore[arg-type]

    def speak_without_consent(self) -> None:
        now, rate = asyncio.get_running_loop().time(), self.active.call.leg.rate
        gate = self.session.gate
        sealer = gate.provenance.utterance(Lane.TONES)
        self.offered["consent", "gate"] += 1
        ticket = gate._ticket or gate.open_utterance()
        self.put(sealer.seal(tone(rate), now, licence=self.licence), ticket)

    async def speak_of_an_earlier_turn(self) -> None:
        await self.active.graph._worker.queue_frame(InterruptionFrame())
        await until(lambda: self.session.gate.provenance._floor[Lane.SPEECH])
        self.offered["stale_turn", "gate"] += 1
        self.put(self.earlier, self.session.gate.open_utterance())
        self.session.gate.end_utterance()


async def test_nothing_that_may_not_be_heard_is_on_any_wire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_ice_address()
    house = make_house(tmp_path, monkeypatch)
    twilio = TwilioSettings(enabled=True, auth_token=SecretStr(AUTH))
    house.settings = house.settings.model_copy(update={"twilio": twilio})
    voice = await ada(house)
    lines: dict[str, Line] = {}
    intruders: dict[str, Intruder] = {}
    async with house.serving() as server, captured() as capture:

        async def called(name: str, over: asyncio.Event) -> None:
            async with TRANSPORTS[name](server, capture) as lines[name]:
                await over.wait()

        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for name in TRANSPORTS:
                group.create_task(called(name, over))
            await until(lambda: len(server.calls._active) == len(TRANSPORTS), 20)
            for active in server.calls._active.values():
                intruders[active.call.transport] = await Intruder.into(active)
            ring = list(intruders.values())
            for one, other in zip(ring, ring[1:] + ring[:1], strict=True):
                provenance = other.session.gate.provenance
                now, rate = asyncio.get_running_loop().time(), one.active.call.leg.rate
                one.foreign = provenance.utterance(Lane.TONES).seal(tone(rate), now)
            await arrived(lines)
            allowed = {name: len(line.packets()) for name, line in lines.items()}
            for one in ring:
                one.speak()
            for one, other in zip(ring, ring[1:] + ring[:1], strict=True):
                one.go_around(other)
            library = server.library
            assert library is not None
            await library.withdraw(TENANT, voice.id, asked_by="speaker", now=utc_now())
            await until(lambda: all(each.active.record.voice_revoked for each in ring))
            for one in ring:
                one.speak_without_consent()
                await one.speak_of_an_earlier_turn()
            await asyncio.sleep(0.5)
            sent = {name: (line.packets(), line.rate) for name, line in lines.items()}
            over.set()
        await server.calls.last_record()
        await server.audit.flush()
        metric = server.metrics.registry.get_sample_value
        counted = metric("ringtrue_frames_refused_total", {"reason": "unsealed"})
    assert counted == 2 * len(TRANSPORTS)
    for name, (packets, rate) in sent.items():
        since = packets[allowed[name] :]
        assert carrying(packets[: allowed[name]], rate) >= BURST_FRAMES, name
        assert len(since) > 25, name
        assert carrying(since, rate) == 0, name
        # Opus spreads a frame over two packets
        assert 1 <= carrying(since, rate, TONE_ONCE) <= (2 if name == "webrtc" else 1), name
        intruder = intruders[name]
        call = intruder.active.call.id
        entries = entries_of(
            audit_dir(house.settings),
            lambda entry, call=call: entry.get("call") == call and entry["kind"] == "gate.refused",
            b"",
        )
        told = Counter((each["detail"]["reason"], each["detail"]["at"]) for each in entries)
        assert told == intruder.offered, name
        assert len(told) == 9
        assert sum(intruder.active.record.refused.values()) == 9
