"""Twilio's audio: what the caller hears, confirmed by marks."""

import asyncio
import json
from typing import Any

import pytest

from peers.twilio_frames import started
from ringtrue.streaming.errors import GateError
from ringtrue.streaming.gate import Draft, Gate, SealedFrame
from ringtrue.streaming.ports import Confirming, MediaLeg
from ringtrue.telephony.codecs.g711 import UlawCodec
from ringtrue.telephony.media_streams.leg import MAX_BACKLOG, MAX_DIGITS, MAX_OUTSTANDING
from ringtrue.telephony.twilio.leg import TwilioLeg
from ringtrue.telephony.twilio.protocol import Audio, MediaStreamProtocol

LOUD = b"\x00\x20" * 160


class Speaker:
    """A gate that seals one frame after the other."""

    def __init__(self, rate: int = 8000, call_id: str = "call") -> None:
        self.gate = Gate(call_id, rate, opened_at=0.0, last_heard=lambda: 0.0)
        self.rate = rate
        self.ticket = self.gate.open_utterance()
        self.sealer = self.gate.provenance.utterance()

    def speech(self) -> SealedFrame:
        pcm = LOUD * (self.rate // 8000)
        return self.gate.admit(Draft.whole(self.ticket, self.sealer.seal(pcm, 0.0)), 0.0)

    def silence(self) -> SealedFrame:
        return self.gate.admit(Draft(), 0.0)


async def sent(leg: TwilioLeg) -> list[dict[str, Any]]:
    """What waits for the websocket."""
    messages = []
    while leg._outbox:  # the queue is the leg's own; the adapter sees it only by awaiting
        text = await leg.outgoing()
        assert text is not None
        messages.append(json.loads(text))
    return messages


def marks(messages: list[dict[str, Any]]) -> list[str]:
    return [message["mark"]["name"] for message in messages if message["event"] == "mark"]


@pytest.fixture
def leg() -> TwilioLeg:
    return TwilioLeg(started())


def test_it_is_a_media_leg(leg: TwilioLeg) -> None:
    assert isinstance(leg, MediaLeg)
    assert leg.rate == 8000


async def test_a_sealed_frame_goes_out_as_ulaw(leg: TwilioLeg) -> None:
    leg.send(Speaker().speech(), 0.0)
    (message,) = await sent(leg)
    assert message["event"] == "media"
    assert message["media"]["payload"]
    assert leg.stats.packets_sent == 1


@pytest.mark.parametrize("thing", [b"\xff" * 160, LOUD, None, object()])
def test_only_sealed_frames_are_sent(leg: TwilioLeg, thing: Any) -> None:
    with pytest.raises(TypeError, match="SealedFrame only"):
        leg.send(thing, 0.0)
    assert not leg._outbox


def test_a_frame_is_sent_once_and_in_its_own_call_only(leg: TwilioLeg) -> None:
    frame = Speaker().speech()
    leg.send(frame, 0.0)
    with pytest.raises(GateError, match="sent before"):
        leg.send(frame, 0.0)
    with pytest.raises(GateError, match="another call"):
        leg.send(Speaker(call_id="other").speech(), 0.0)
    with pytest.raises(GateError, match="16000 Hz"):
        TwilioLeg(MediaStreamProtocol()).send(Speaker(rate=16000).speech(), 0.0)


async def test_heard_position_follows_the_marks(leg: TwilioLeg) -> None:
    speaker = Speaker()
    for _ in range(9):
        leg.send(speaker.speech(), 0.0)
    names = marks(await sent(leg))
    assert len(names) == 3
    assert leg.heard_position() == 0
    leg.played(names[0])
    assert leg.heard_position() == 3 * 160
    leg.played(names[2])
    assert leg.heard_position() == 9 * 160
    leg.played(names[1])
    leg.played("never sent")
    leg.played(names[2])
    assert leg.heard_position() == 9 * 160
    assert leg.stats.extra["unplayed_ms"] == 0


async def test_between_two_marks_playing_goes_on_in_real_time(leg: TwilioLeg) -> None:
    speaker = Speaker()
    for _ in range(12):
        leg.send(speaker.speech(), 0.0)
    assert isinstance(leg, Confirming)
    assert leg.played_by(5.0) == 0, "nothing was confirmed"
    first, second, *_ = marks(await sent(leg))
    leg.alive(10.0)
    leg.played(first)
    assert leg.played_by(10.0) == 3 * 160
    assert leg.played_by(10.03) == 3 * 160 + 240
    assert leg.played_by(99.0) == 6 * 160, "the next mark has not come back"
    leg.alive(10.07)
    leg.played(second)
    assert leg.played_by(10.0) == 6 * 160, "never before a mark"
    leg.clear()
    leg.played("1920")
    assert leg.heard_position() == 6 * 160, "a mark that clear returned tells nothing"
    assert leg.played_by(10.07) == 12 * 160, "nothing is left to be played"


async def test_the_end_of_speech_is_marked_at_once(leg: TwilioLeg) -> None:
    speaker = Speaker()
    for _ in range(4):
        leg.send(speaker.speech(), 0.0)
    leg.send(speaker.silence(), 0.0)
    messages = await sent(leg)
    assert marks(messages) == [str(3 * 160), str(4 * 160)]
    assert [message["event"] for message in messages[-2:]] == ["mark", "media"]


async def test_clear_drops_what_waits_and_counts_it_unheard(leg: TwilioLeg) -> None:
    speaker = Speaker()
    for _ in range(6):
        leg.send(speaker.speech(), 0.0)
    early = marks(await sent(leg))
    for _ in range(5):
        leg.send(speaker.speech(), 0.0)
    leg.clear()
    messages = await sent(leg)
    assert [message["event"] for message in messages] == ["clear"]
    leg.played(early[0])
    leg.played(early[1])
    assert leg.heard_position() == 0
    for _ in range(25):
        leg.send(speaker.silence(), 0.0)
    leg.played(marks(await sent(leg))[-1])
    assert leg.heard_position() == 36 * 160


async def test_a_slow_websocket_costs_old_audio_never_marks_or_memory(leg: TwilioLeg) -> None:
    speaker = Speaker()
    frames = 3 * MAX_OUTSTANDING + 500
    for _ in range(frames):
        leg.send(speaker.speech(), 0.0)
    messages = await sent(leg)
    assert sum(message["event"] == "media" for message in messages) == MAX_BACKLOG
    assert len(marks(messages)) == MAX_OUTSTANDING
    assert leg.stats.extra["backlog_dropped"] == frames - MAX_BACKLOG


async def test_outgoing_waits_and_ends_on_close(leg: TwilioLeg) -> None:
    waiting = asyncio.create_task(leg.outgoing())
    await asyncio.sleep(0)
    assert not waiting.done()
    leg.send(Speaker().silence(), 0.0)
    assert await waiting is not None
    leg.close()
    leg.close()
    assert await leg.outgoing() is None


def test_caller_audio_comes_out_in_ticks_of_20_ms(leg: TwilioLeg) -> None:
    ulaw = UlawCodec().encode(LOUD)
    assert leg.pull(0.0).concealed
    for chunk in range(1, 6):
        leg.receive(Audio(chunk, chunk * 20, ulaw), chunk * 0.02)
    steps = [leg.pull(0.0) for _ in range(6)]
    assert [step.concealed for step in steps] == [False] * 5 + [True]
    assert all(len(step.pcm) == 320 for step in steps)
    assert steps[0].pcm == UlawCodec().decode(ulaw)
    assert leg.stats.frames_concealed == 2
    assert leg.stats.jitter_ms < 0.001


def test_what_came_before_anybody_listened_does_not_stand_in_the_way(leg: TwilioLeg) -> None:
    for chunk in range(1, 16):
        leg.receive(Audio(chunk, chunk * 20, bytes([chunk]) * 160), chunk * 0.02)
    assert leg.pull(0.0).pcm == UlawCodec().decode(bytes([14]) * 160)
    assert leg.stats.jitter_buffer_ms == 20
    assert leg.stats.extra["drained_ms"] == 260


def test_lost_and_repeated_chunks_are_counted(leg: TwilioLeg) -> None:
    ulaw = b"\xff" * 160
    for chunk in (1, 2, 5, 5, 3):
        leg.receive(Audio(chunk, chunk * 20, ulaw), 0.0)
    stats = leg.stats
    assert (stats.packets_received, stats.packets_lost, stats.packets_duplicate) == (5, 2, 2)


def test_digits_come_with_the_next_tick_and_are_bounded(leg: TwilioLeg) -> None:
    for digit in "12#":
        leg.press(digit)
    assert leg.pull(0.0).digits == ("1", "2", "#")
    assert leg.pull(0.0).digits == ()
    for _ in range(MAX_DIGITS + 5):
        leg.press("1")
    assert len(leg.pull(0.0).digits) == MAX_DIGITS
    assert leg.stats.extra["digits_dropped"] == 5


def test_after_close_nothing_is_kept(leg: TwilioLeg) -> None:
    leg.close()
    leg.send(Speaker().speech(), 0.0)
    leg.clear()
    assert not leg._outbox
    assert leg.pull(0.0).pcm == bytes(320)
