"""Opus, the inbound path and the outgoing track, without a network."""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError

from peers.webrtc_client import amplitude
from ringtrue.streaming.errors import GateError
from ringtrue.streaming.gate import Draft, Gate, SealedFrame
from ringtrue.telephony.codecs.opus import OpusEncoder, packet_units
from ringtrue.telephony.webrtc.inbound import OpusInbound, PacketTap
from ringtrue.telephony.webrtc.track import MAX_FRAMES, SealedTrack

FRAME = 640


def tone(frames: int, frequency: float = 440) -> bytes:
    time = np.arange(frames * 320) / 16000
    return (8000 * np.sin(2 * np.pi * frequency * time)).astype("<i2").tobytes()


def packets(pcm: bytes) -> list[bytes]:
    encoder = OpusEncoder()
    return [encoder.encode(pcm[start : start + FRAME]) for start in range(0, len(pcm), FRAME)]


@dataclass
class Packet:
    sequence_number: int
    timestamp: int
    payload: bytes
    ssrc: int = 1


def play(arrivals: list[tuple[float, Packet]], ticks: int) -> tuple[OpusInbound, list[bytes]]:
    inbound, heard = OpusInbound(), []
    arrivals = sorted(arrivals, key=lambda arrival: arrival[0])
    for tick in range(ticks):
        now = tick * 0.02
        while arrivals and arrivals[0][0] <= now:
            at, packet = arrivals.pop(0)
            inbound.packet(packet, at)
        heard.append(inbound.pull(now).pcm)
    assert {len(pcm) for pcm in heard} == {FRAME}
    return inbound, heard


def stream(count: int, *, first_timestamp: int = 0, frequency: float = 440) -> list[Packet]:
    return [
        Packet(index & 0xFFFF, (first_timestamp + index * 960) & 0xFFFFFFFF, payload)
        for index, payload in enumerate(packets(tone(count, frequency)))
    ]


def test_steady_packets_are_heard_whole() -> None:
    arrivals = [(index * 0.02, packet) for index, packet in enumerate(stream(200))]
    inbound, heard = play(arrivals, 200)
    assert amplitude(b"".join(heard), 440, 16000) == pytest.approx(8000, rel=0.1)
    assert inbound.receiver.frames_concealed <= 3
    assert inbound.receiver.lost == 0


@pytest.mark.parametrize("wrap_after", [10, 50])
def test_the_timestamp_may_wrap(wrap_after: int) -> None:
    first = 0x1_0000_0000 - wrap_after * 960 + 7
    arrivals = [
        (index * 0.02, packet) for index, packet in enumerate(stream(150, first_timestamp=first))
    ]
    inbound, heard = play(arrivals, 150)
    assert inbound.receiver.frames_concealed <= 3
    assert inbound.receiver.buffer.resets == 0
    assert amplitude(b"".join(heard[wrap_after - 5 : wrap_after + 40]), 440, 16000) > 7000


def test_loss_reordering_and_jitter_leave_no_standing_delay() -> None:
    rng = random.Random(3)
    arrivals = [
        (index * 0.02 + rng.random() * 0.03, packet)
        for index, packet in enumerate(stream(1500))
        if rng.random() > 0.03
    ]
    inbound, heard = play(arrivals, 1500)
    receiver = inbound.receiver
    assert 20 <= receiver.lost <= 80
    assert receiver.buffer.excess < 0.040
    assert receiver.buffer.depth < 0.120
    assert amplitude(b"".join(heard), 440, 16000) > 6000


def test_one_lost_packet_costs_no_lasting_delay() -> None:
    arrivals = [(index * 0.02, packet) for index, packet in enumerate(stream(400)) if index != 100]
    inbound, _ = play(arrivals, 400)
    assert inbound.receiver.lost == 1
    assert inbound.receiver.buffer.depth <= 0.060


def test_the_tap_hands_everything_on_and_completes_nothing() -> None:
    taken: list[Any] = []
    tap = PacketTap(taken.append)
    packet = Packet(1, 2, b"\x08")
    assert tap.add(packet) == (False, None)
    assert taken == [packet]


class Speaker:
    def __init__(self, rate: int = 16000, call_id: str = "call") -> None:
        self.gate = Gate(call_id, rate, opened_at=0.0, last_heard=lambda: 0.0)
        self.rate = rate
        self.ticket = self.gate.open_utterance()
        self.sealer = self.gate.provenance.utterance()

    def speech(self) -> SealedFrame:
        pcm = b"\x00\x20" * (self.rate // 50)
        return self.gate.admit(Draft.whole(self.ticket, self.sealer.seal(pcm, 0.0)), 0.0)


async def test_the_track_yields_what_was_sealed_in_order() -> None:
    track, speaker = SealedTrack(), Speaker()
    waiting = asyncio.create_task(track.recv())
    await asyncio.sleep(0)
    assert not waiting.done()  # nothing sealed, nothing sent
    track.put(speaker.speech())
    first = await waiting
    track.put(speaker.speech())
    second = await track.recv()
    assert (first.pts, second.pts) == (0, 320)
    assert packet_units(bytes(first)) == 960
    track.stop()


async def test_a_stalled_sender_costs_the_oldest_frames_and_no_time() -> None:
    track, speaker = SealedTrack(), Speaker()
    for _ in range(MAX_FRAMES + 5):
        track.put(speaker.speech())
    assert (track.waiting, track.dropped) == (MAX_FRAMES, 5)
    assert (await track.recv()).pts == 5 * 320
    track.stop()


@pytest.mark.parametrize("thing", [bytes(640), None, object()])
def test_the_track_takes_sealed_frames_only(thing: Any) -> None:
    track = SealedTrack()
    with pytest.raises(TypeError, match="SealedFrame only"):
        track.put(thing)
    assert track.waiting == 0


def test_the_track_takes_each_frame_once_of_one_call_at_its_rate() -> None:
    track, frame = SealedTrack(), Speaker().speech()
    track.put(frame)
    with pytest.raises(GateError, match="sent before"):
        track.put(frame)
    with pytest.raises(GateError, match="another call"):
        track.put(Speaker(call_id="other").speech())
    with pytest.raises(GateError, match="8000 Hz"):
        SealedTrack().put(Speaker(rate=8000).speech())


async def test_an_ended_track_ends_its_reader() -> None:
    track = SealedTrack()
    waiting = asyncio.create_task(track.recv())
    await asyncio.sleep(0)
    track.stop()
    with pytest.raises(MediaStreamError):
        await waiting
    track.put(Speaker().speech())
    assert track.waiting == 0
    with pytest.raises(MediaStreamError):
        await track.recv()
