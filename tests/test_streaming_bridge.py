"""Calls joined: everybody hears everybody else, the agent by its own gate, and nothing unsealed."""

from __future__ import annotations

import asyncio

import numpy as np
import numpy.typing as npt
import pytest
from gates import Leave
from legs import ScriptedLeg

from ringtrue.streaming.bridge import MAX_SEATS, Bridge
from ringtrue.streaming.clock import TICK
from ringtrue.streaming.dsp import FrameRerater, mixed
from ringtrue.streaming.echo.guard import EchoGuard
from ringtrue.streaming.gate import FrameKind, GatePolicy, Refusal, UtteranceDigest
from ringtrue.streaming.ports import Licence, frame_bytes
from ringtrue.streaming.record import CallRecord
from ringtrue.streaming.recording import StereoChunk, StereoTap
from ringtrue.streaming.session import CallSession

pytestmark = pytest.mark.virtual_time

MARK = 8


class Mark:
    """A watermark that can be seen: a constant, and the same under silence."""

    id = "seen"

    def mark(self, pcm: bytes, kind: FrameKind) -> bytes:
        return (np.frombuffer(pcm, "<i2") + np.int16(MARK)).astype("<i2").tobytes()


class Party:
    """A call without a graph."""

    def __init__(self, name: str, rate: int = 8000, tap: StereoTap | None = None) -> None:
        self.leg = ScriptedLeg(rate)
        self.digests: list[UtteranceDigest] = []
        self.heard: list[bytes] = []
        self.digits: list[str] = []
        record = CallRecord(name, "sip", "inbound", "test", rate, now())
        self.session = CallSession(
            self.leg,
            record,
            hear=self._hear,
            on_digit=self._digit,
            on_digest=self.digests.append,
            policy=GatePolicy(far_end_timeout=5.0, far_end_grace=5.0),
            watermarker=Mark(),
            tap=tap,
        )

    async def _hear(self, pcm: bytes) -> None:
        self.heard.append(pcm)

    async def _digit(self, digit: str) -> None:
        self.digits.append(digit)

    def say(self, pcm: bytes, licence: Licence | None = None) -> None:
        """Let the agent say it."""
        sealer = self.session.gate.provenance.utterance()
        self.session.playout.begin("words")
        self.session.playout.write(sealer.seal(pcm, now(), licence=licence))
        self.session.playout.finish()

    async def listened(self) -> bytes:
        """What the agent hears."""
        feeding = asyncio.create_task(self.session.feed())
        await asyncio.sleep(0.001)
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        return b"".join(self.heard)

    def sent(self, ticks: int) -> npt.NDArray[np.int16]:
        return np.frombuffer(b"".join(f.pcm for f in self.leg.sent[-ticks:]), "<i2")

    def kinds(self, ticks: int) -> set[FrameKind]:
        return {frame.kind for frame in self.leg.sent[-ticks:]}


def now() -> float:
    return asyncio.get_running_loop().time()


class Room:
    """Parties on one clock."""

    def __init__(self, *parties: Party) -> None:
        self.parties = parties
        self.at = now()

    def tick(self, count: int) -> None:
        for _ in range(count):
            self.at += TICK
            for party in self.parties:
                party.session.tick_in(self.at)
            for party in self.parties:
                party.session.tick_out(self.at)


def noise(seconds: float, seed: int, rate: int = 8000, level: int = 5000) -> bytes:
    rng = np.random.default_rng(seed)
    return rng.integers(-level, level, int(seconds * rate)).astype("<i2").tobytes()


def sine(seconds: float, hertz: float, rate: int, level: float = 8000) -> bytes:
    time = np.arange(int(seconds * rate)) / rate
    return np.rint(level * np.sin(2 * np.pi * hertz * time)).astype("<i2").tobytes()


def samples(pcm: bytes) -> npt.NDArray[np.int16]:
    return np.frombuffer(pcm, "<i2")


async def test_two_people_hear_each_other_unmarked_and_in_the_same_tick() -> None:
    caller, human = Party("caller"), Party("human")
    room = Room(caller, human)
    room.tick(5)
    assert set(caller.sent(5)) == {MARK}
    bridge = Bridge()
    caller.session.join(bridge)
    human.session.join(bridge)
    one, two = noise(1.0, 1), noise(1.0, 2)
    caller.leg.play(one)
    human.leg.play(two)
    room.tick(50)
    assert caller.sent(50).tobytes() == two
    assert human.sent(50).tobytes() == one
    assert caller.kinds(50) == human.kinds(50) == {FrameKind.RELAY}
    assert caller.session.held
    assert not any(await caller.listened())  # the agent hears nothing of it
    caller.session.part()
    human.session.part()
    room.tick(5)
    assert set(caller.sent(5)) == {MARK}
    (digest,) = caller.digests
    assert (digest.relayed, digest.made_here, digest.watermark) == ("human", False, "none")
    assert digest.samples == 8000
    assert caller.session.gate.stats.refused == {}
    assert len(bridge) == 0


async def test_three_hear_the_sum_of_the_others() -> None:
    parties = [Party("a"), Party("b"), Party("c")]
    room, bridge = Room(*parties), Bridge()
    voices = [noise(0.4, seed, level=9000) for seed in range(3)]
    for party, voice in zip(parties, voices, strict=True):
        party.session.join(bridge)
        party.leg.play(voice)
    room.tick(20)
    for number, party in enumerate(parties):
        others = [samples(voice).astype(int) for at, voice in enumerate(voices) if at != number]
        assert np.array_equal(party.sent(20), sum(others))


async def test_loud_voices_are_limited_and_never_wrap() -> None:
    parties = [Party("a"), Party("b"), Party("c")]
    room, bridge = Room(*parties), Bridge()
    for party, level in zip(parties, (0, 30000, 30000), strict=True):
        party.session.join(bridge)
        party.leg.play(np.full(1600, level, "<i2").tobytes())
    room.tick(10)
    assert set(parties[0].sent(10)) == {32767}
    low = np.full(160, -30000, "<i2").tobytes()
    assert set(samples(mixed(low, low))) == {-32768}


@pytest.mark.parametrize(("rate", "other"), [(8000, 16000), (16000, 8000)])
async def test_every_call_keeps_its_rate(rate: int, other: int) -> None:
    caller, human = Party("caller", rate), Party("human", other)
    room, bridge = Room(caller, human), Bridge()
    caller.session.join(bridge)
    human.session.join(bridge)
    human.leg.play(sine(2.0, 440, other))
    room.tick(100)
    heard = caller.sent(95).astype(float)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    peak = np.argmax(spectrum) * rate / len(heard)
    assert peak == pytest.approx(440, abs=2)
    around = spectrum[np.abs(np.arange(len(spectrum)) * rate / len(heard) - 440) < 5]
    assert np.sum(around**2) / np.sum(spectrum**2) > 0.999  # no seams between frames
    assert np.sqrt(np.mean(heard**2)) == pytest.approx(8000 / np.sqrt(2), rel=0.02)
    assert all(len(frame.pcm) == frame_bytes(rate) for frame in caller.leg.sent)


async def test_the_agent_is_heard_by_all_marked_and_hears_all() -> None:
    caller, human = Party("caller"), Party("human", 16000)
    room, bridge = Room(caller, human), Bridge()
    caller.session.join(bridge, agent=True)
    human.session.join(bridge)
    words, licence = noise(0.4, 3), Leave()
    caller.say(words, licence)
    caller.leg.play(noise(0.8, 4, level=2000))
    human.leg.play(bytes(frame_bytes(16000) * 40))
    room.tick(40)
    assert not caller.session.held
    assert np.array_equal(caller.sent(40)[:3200], samples(words) + MARK)
    assert [f.kind for f in human.leg.sent].count(FrameKind.SPEECH) == 20
    assert human.kinds(20) == {FrameKind.RELAY}
    assert caller.session.gate.stats.refused == human.session.gate.stats.refused == {}
    caller.session.part()
    human.session.part()
    spoken = [digest for digest in human.digests if digest.made_here]
    assert [(d.samples, d.voice, d.relayed, d.watermark) for d in spoken] == [
        (20 * 320, "v_1", "caller", "seen")
    ]
    heard = samples(await caller.listened())
    assert len(heard) > 6000  # the agent's own far end, and the other's silence
    assert np.sqrt(np.mean(heard.astype(float) ** 2)) == pytest.approx(1155, rel=0.1)


async def test_a_voice_without_consent_is_not_heard_in_the_other_call_either() -> None:
    caller, human = Party("caller"), Party("human")
    room, bridge = Room(caller, human), Bridge()
    caller.session.join(bridge, agent=True)
    human.session.join(bridge)
    caller.say(noise(1.0, 3), Leave(until=room.at + 0.5))
    room.tick(50)
    assert 20 <= [f.kind for f in human.leg.sent].count(FrameKind.SPEECH) <= 26


async def test_a_far_end_that_is_gone_is_passed_on_no_more() -> None:
    caller, human = Party("caller"), Party("human")
    room, bridge = Room(caller, human), Bridge()
    caller.session.join(bridge)
    human.session.join(bridge)
    human.leg.alive, human.leg.heard = False, room.at
    human.leg.play(noise(10.0, 1))
    room.tick(400)
    relayed = [frame.kind is FrameKind.RELAY for frame in caller.leg.sent]
    assert 249 <= sum(relayed) <= 252  # 5 s after it was heard last
    assert not any(relayed[252:])
    human.session.close(room.at, "far_end_lost")
    room.tick(2)
    assert set(caller.sent(2)) == {MARK}


async def test_a_call_whose_clock_stands_is_not_repeated() -> None:
    caller, human = Party("caller"), Party("human")
    room, bridge = Room(caller, human), Bridge()
    caller.session.join(bridge)
    human.session.join(bridge)
    human.leg.play(noise(1.0, 1))
    room.tick(10)
    room.parties = (caller,)
    room.tick(10)
    assert [frame.kind for frame in caller.leg.sent[10:]].count(FrameKind.RELAY) <= 1


async def test_what_was_being_said_goes_on_after_the_bridge() -> None:
    caller, human = Party("caller"), Party("human")
    room, bridge = Room(caller, human), Bridge()
    words = noise(1.0, 3)
    caller.say(words)
    room.tick(10)
    caller.session.join(bridge)
    human.session.join(bridge)
    room.tick(30)
    caller.session.part()
    room.tick(50)
    said = [f.pcm for f in caller.leg.sent if f.kind is FrameKind.SPEECH]
    assert np.array_equal(samples(b"".join(said)), samples(words) + MARK)
    assert caller.session.gate.stats.refused == {}


async def test_hold_music_ends_where_people_meet() -> None:
    caller, human = Party("caller"), Party("human")
    room, bridge = Room(caller, human), Bridge()
    caller.session.hold(True)
    room.tick(10)
    assert caller.kinds(10) == {FrameKind.TONE}
    caller.session.join(bridge)
    caller.session.hold(False)
    human.session.join(bridge)
    room.tick(10)
    assert caller.kinds(10) == {FrameKind.RELAY}


async def test_keys_are_for_the_agent_only_where_it_takes_part() -> None:
    caller, human = Party("caller"), Party("human")
    room, bridge = Room(caller, human), Bridge()
    caller.session.join(bridge)
    human.session.join(bridge, agent=True)
    caller.leg.press("1")
    human.leg.press("2")
    room.tick(6)
    await caller.listened()
    await human.listened()
    assert (caller.digits, human.digits) == ([], ["2"])


async def test_a_recording_has_the_caller_on_one_side_and_all_others_on_the_other() -> None:
    chunks: list[StereoChunk] = []
    tap = StereoTap(8000, chunks.append)
    caller, human = Party("caller", tap=tap), Party("human")
    room, bridge = Room(caller, human), Bridge()
    caller.session.join(bridge)
    human.session.join(bridge)
    one, two = noise(3.0, 1), noise(3.0, 2)
    caller.leg.play(one)
    human.leg.play(two)
    room.tick(150)
    tap.close()
    assert b"".join(chunk.caller for chunk in chunks) == one
    assert b"".join(chunk.agent for chunk in chunks) == two


async def test_what_was_held_back_before_the_bridge_does_not_come_after_it() -> None:
    """The echo guard holds a first sound back until it knows what it is."""
    caller, guest = Party("caller"), Party("guest")
    caller.session._echo = EchoGuard(8000)
    room = Room(caller, guest)
    caller.say(noise(2.0, 1))
    room.tick(3)
    words = noise(0.2, 2)
    caller.leg.play(words + noise(1.0, 3))
    room.tick(10)
    assert words not in await caller.listened(), "it is held back"
    bridge = Bridge()
    for party in (caller, guest):
        party.session.join(bridge)
    assert words in await caller.listened()
    room.tick(50)
    before = len(await caller.listened())
    for party in (caller, guest):
        party.session.part()
    room.tick(50)
    assert not any((await caller.listened())[before:])


async def test_a_bridge_is_bounded() -> None:
    bridge = Bridge()
    seats = [bridge.seat(str(number), 8000, lambda now: True) for number in range(MAX_SEATS)]
    with pytest.raises(ValueError, match="at most 8"):
        bridge.seat("one more", 8000, lambda now: True)
    seats[0].leave()
    seats[0].leave()
    assert len(bridge) == MAX_SEATS - 1


async def test_an_hour_is_digested_in_stretches() -> None:
    caller, human = Party("caller"), Party("human")
    room, bridge = Room(caller, human), Bridge()
    caller.session.join(bridge)
    human.session.join(bridge)
    room.tick(3050)
    assert [digest.samples for digest in caller.digests] == [60 * 8000]
    assert caller.session.gate.stats.refused[Refusal.SEQUENCE] == 0


@pytest.mark.parametrize("rates", [(8000, 16000), (16000, 8000)])
def test_frames_of_another_rate_lose_nothing(rates: tuple[int, int]) -> None:
    source, target = rates
    pcm = sine(4.0, 300, source)
    rerater, size = FrameRerater(source, target), frame_bytes(source)
    frames = [rerater.frame(pcm[at : at + size]) for at in range(0, len(pcm), size)]
    assert {len(frame) for frame in frames} == {frame_bytes(target)}
    heard = samples(b"".join(frames)).astype(float)
    expected = samples(sine(4.0, 300, target)).astype(float)
    lag = max(range(target // 200), key=lambda n: float(heard[n:8000] @ expected[: 8000 - n]))
    error = heard[lag + 100 :] - expected[100 : len(expected) - lag]
    assert np.sqrt(np.mean(error**2)) < 60
