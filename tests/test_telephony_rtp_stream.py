"""A whole stream: what it sends, what it reports, whom it believes."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rtp_link import EVENTS, FAR, FAR_RTCP, Speaker, packets, plan, run, stream, voice

from ringtrue.loadtest.netem import Impairments
from ringtrue.streaming.errors import GateError
from ringtrue.streaming.gate import DigitEvent
from ringtrue.telephony.codecs import G722, PCMA, PCMU
from ringtrue.telephony.rtp.dtmf import TelephoneEvent
from ringtrue.telephony.rtp.packet import RtpPacket
from ringtrue.telephony.rtp.rtcp import (
    Goodbye,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    SourceDescription,
    build_compound,
    parse_compound,
)
from ringtrue.telephony.rtp.stream import REPORT_INTERVAL

ATTACKER = ("198.51.100.66", 31337)
SPEECH = voice(60)
SENT = packets(SPEECH)


def speak(call, speaker: Speaker, frames: int, start: int = 1, pcm: bytes | None = None):  # type: ignore[no-untyped-def]
    """The packets of ``frames`` ticks."""
    return [
        RtpPacket.parse(data)
        for n in range(start, start + frames)
        for data in call.send(speaker.frame(pcm, n * 0.02), n * 0.02)
    ]


def test_packets_follow_the_clock() -> None:
    call, speaker = stream(), Speaker()
    sent = speak(call, speaker, 50, pcm=SPEECH[:160].tobytes())
    assert len(sent) == 50
    assert {len(packet.payload) for packet in sent} == {160}
    assert {packet.payload_type for packet in sent} == {0}
    assert len({packet.ssrc for packet in sent}) == 1
    for before, after in zip(sent, sent[1:], strict=False):
        assert (after.sequence_number - before.sequence_number) & 0xFFFF == 1
        assert (after.timestamp - before.timestamp) & 0xFFFFFFFF == 160
    assert [packet.marker for packet in sent] == [True] + [False] * 49


def test_silence_is_sent_and_a_talkspurt_is_marked() -> None:
    call, speaker = stream(), Speaker()
    quiet = speak(call, speaker, 5)
    loud = speak(call, speaker, 2, start=6, pcm=SPEECH[:160].tobytes())
    assert [packet.payload for packet in quiet] == [PCMU.encoder().encode(bytes(320))] * 5
    assert [packet.marker for packet in loud] == [True, False]


def test_wideband_frames_take_the_same_timestamps() -> None:
    call, speaker = stream(G722), Speaker(16000)
    sent = speak(call, speaker, 3)
    assert (sent[1].timestamp - sent[0].timestamp) & 0xFFFFFFFF == 160
    assert {len(packet.payload) for packet in sent} == {160}


def test_skipped_ticks_are_a_gap_in_time_not_in_numbers() -> None:
    call, speaker = stream(), Speaker()
    before = speak(call, speaker, 1)[0]
    after = speak(call, speaker, 1, start=12)[0]
    assert (after.timestamp - before.timestamp) & 0xFFFFFFFF == 11 * 160
    assert (after.sequence_number - before.sequence_number) & 0xFFFF == 1
    assert after.marker


def test_on_hold_nothing_is_sent_and_time_goes_on() -> None:
    call, speaker = stream(), Speaker()
    before = speak(call, speaker, 1)[0]
    call.configure(plan(sending=False), 0.03)
    assert speak(call, speaker, 10, start=2) == []
    call.configure(plan(), 0.25)
    after = speak(call, speaker, 1, start=12)[0]
    assert (after.timestamp - before.timestamp) & 0xFFFFFFFF == 11 * 160
    assert after.marker


def test_only_sealed_frames_of_one_call_each_once() -> None:
    call, speaker = stream(), Speaker()
    frame = speaker.frame()
    call.send(frame, 0.02)
    with pytest.raises(GateError):
        call.send(frame, 0.04)
    with pytest.raises(GateError):
        call.send(Speaker(call_id="another").frame(), 0.04)
    for fake in (bytes(320), RtpPacket(0, 0, 0, 0, bytes(160)), None):
        with pytest.raises(TypeError):
            call.send(fake, 0.04)  # type: ignore[arg-type]
    assert call.sender.packets == 1


def dial(call, speaker: Speaker, digit: str, count: int = 5) -> list[RtpPacket]:  # type: ignore[no-untyped-def]
    sent = []
    for n in range(count):
        step = DigitEvent(digit, (n + 1) * 160, first=n == 0, last=n == count - 1)
        tone = SPEECH[:160].tobytes()
        frame = speaker.frame(tone, n * 0.02, digit=step)
        sent += [RtpPacket.parse(data) for data in call.send(frame, n * 0.02)]
    return sent


def test_a_digit_goes_out_as_events_instead_of_audio() -> None:
    call, speaker = stream(), Speaker()
    sent = dial(call, speaker, "4")
    assert {packet.payload_type for packet in sent} == {EVENTS}
    assert len(sent) == 4 + 3
    assert len({packet.timestamp for packet in sent}) == 1
    assert TelephoneEvent.parse(sent[-1].payload) == TelephoneEvent(4, True, 10, 800)
    after = speak(call, speaker, 1, start=6)[0]
    assert (after.timestamp - sent[0].timestamp) & 0xFFFFFFFF == 6 * 160


def test_without_events_a_digit_is_a_tone() -> None:
    call, speaker = stream(), Speaker()
    call.configure(replace(plan(), event_type=None), 0.0)
    sent = dial(call, speaker, "4")
    assert [packet.payload_type for packet in sent] == [0] * 5
    assert sent[0].payload == PCMU.encoder().encode(SPEECH[:160].tobytes())


def test_one_stream_hears_the_digits_of_another_through_loss() -> None:
    speaking, hearing, speaker = stream(), stream(), Speaker()
    rng, now, heard = random.Random(4), 0.0, ""
    script: list[DigitEvent | None] = [None] * 20
    for digit in "159#D0":
        script += [DigitEvent(digit, n * 160, first=n == 1, last=n == 5) for n in range(1, 6)]
        script += [None] * 8
    for step in script + [None] * 30:
        now += 0.02
        frame = speaker.frame(bytes(320) if step else None, now, digit=step)
        for data in speaking.send(frame, now):
            if rng.random() > 0.3:
                hearing.receive(data, FAR, now)
        heard += "".join(hearing.pull(now).digits)
    assert heard == "159#D0"


def test_digits_are_silence_to_the_recognizer_and_not_loss() -> None:
    call = stream()
    run(call, SENT[:100], extra=0.0)
    start = SENT[99].timestamp  # the last one's time had not come yet
    concealed = 0
    for n in range(12):
        event = TelephoneEvent(7, n == 11, 10, 160 * (n + 1))
        packet = RtpPacket(EVENTS, 99 + n, start, 0xCAFE, event.serialize())
        call.receive(packet.serialize(), FAR, 2.0 + n * 0.02)
        concealed += call.pull(2.01 + n * 0.02).concealed
    assert concealed <= 2, "only until the event's first packet is known"
    assert call.stats.packets_lost == 0


def test_reports_come_about_every_five_seconds() -> None:
    call, speaker = stream(random_source=random.Random(9)), Speaker()
    times = []
    for n in range(1, 6000):
        call.send(speaker.frame(now=n * 0.02), n * 0.02)
        if call.report(n * 0.02) is not None:
            times.append(n * 0.02)
    gaps = np.diff(times)
    assert gaps.min() >= REPORT_INTERVAL * 0.5
    assert gaps.max() <= REPORT_INTERVAL * 1.5 + 0.02
    assert gaps.mean() == pytest.approx(REPORT_INTERVAL, rel=0.15)
    assert gaps.std() > 0.5


def test_a_sender_report_says_what_was_sent_and_heard() -> None:
    call, speaker = stream(), Speaker()
    run(call, SENT[:100], extra=0.0)
    speak(call, speaker, 10)
    report, description = parse_compound(call.report(20.0) or b"")
    assert isinstance(report, SenderReport)
    assert (report.packet_count, report.octet_count) == (10, 1600)
    assert report.reports[0].ssrc == 0xCAFE
    assert report.reports[0].cumulative_lost == 0
    assert isinstance(description, SourceDescription)
    assert len(description.cname) == 24
    again = parse_compound(call.report(40.0) or b"")[0]
    assert isinstance(again, ReceiverReport), "nothing was sent since"
    last = parse_compound(call.goodbye(41.0))
    assert isinstance(last[0], ReceiverReport | SenderReport)
    assert last[-1] == Goodbye((call.sender.ssrc,))


def test_round_trip_and_the_far_ends_view() -> None:
    call, speaker = stream(), Speaker()
    speak(call, speaker, 10)
    report = parse_compound(call.report(10.0) or b"")[0]
    assert isinstance(report, SenderReport)
    block = ReportBlock(
        ssrc=call.sender.ssrc,
        fraction_lost=64,
        cumulative_lost=3,
        highest_sequence=0,
        jitter=0,
        last_sr=report.ntp >> 16 & 0xFFFFFFFF,
        delay_since_last_sr=int(0.5 * 65536),
    )
    call.receive_rtcp(build_compound([ReceiverReport(0xCAFE, (block,))]), FAR_RTCP, 10.64)
    assert call.stats.round_trip_ms == pytest.approx(140, abs=1)
    assert call.stats.extra["far_lost"] == 3
    assert call.stats.extra["far_fraction_lost"] == 0.25
    assert call.last_heard == 10.64


def test_reports_of_strangers_are_refused() -> None:
    call = stream()
    forged = build_compound([ReceiverReport(0xCAFE, ()), Goodbye((0xCAFE,))])
    call.receive_rtcp(forged, ATTACKER, 1.0)
    assert call.last_heard is None
    assert call.stats.packets_refused == 1


def test_reports_on_the_media_port_where_agreed() -> None:
    call = stream()
    call.configure(replace(plan(), rtcp_mux=True, remote_rtcp=FAR), 0.0)
    call.receive(build_compound([ReceiverReport(0xCAFE)]), FAR, 1.0)
    assert call.last_heard == 1.0
    assert call.stats.packets_received == 0


def test_an_off_path_sender_is_neither_heard_nor_sent_to() -> None:
    call, attack = stream(), packets(voice(60, seed=9), ssrc=0xBAD)

    def inject(now: float) -> None:
        number = round(now * 50) - 1
        if number < len(attack):
            call.receive(attack[number].serialize(), ATTACKER, now - 0.001)

    heard = run(call, SENT[:1000], each=inject, extra=0.0)
    alone = run(stream(), SENT[:1000], extra=0.0)
    assert np.array_equal(heard.pcm, alone.pcm)
    assert call.latch.destination == FAR
    assert call.stats.packets_refused >= 990


def test_an_off_path_sender_who_is_first_is_not_heard_either() -> None:
    call = stream()
    for n, packet in enumerate(packets(voice(5, seed=9), ssrc=0xBAD)):
        call.receive(packet.serialize(), ATTACKER, n * 0.02)
        assert not any(call.pull(n * 0.02).pcm)
    assert call.last_heard is None
    assert call.latch.destination == FAR


def test_unknown_payload_types_and_absurd_lengths_are_refused() -> None:
    call = stream()
    call.receive(RtpPacket(33, 1, 1, 1, bytes(160)).serialize(), FAR, 0.0)
    call.receive(RtpPacket(0, 1, 1, 1, bytes(1900)).serialize(), FAR, 0.0)
    call.receive(b"", FAR, 0.0)
    call.receive(RtpPacket(EVENTS, 1, 1, 1, b"\1").serialize(), FAR, 0.0)
    assert call.stats.packets_refused == 4
    assert call.last_heard is None or call.stats.packets_received == 1


def test_not_receiving_is_silence_and_not_loss() -> None:
    call = stream()
    call.configure(plan(receiving=False), 0.0)
    heard = run(call, SENT[:200], extra=0.0)
    assert not heard.pcm.any()
    assert heard.concealed == 0
    assert call.last_heard is not None
    call.configure(plan(), 4.0)
    back = run(call, SENT[200:400], extra=0.0, begin=0.0)
    assert back.pcm.any()


def test_when_the_far_end_stops_concealment_fades_to_silence_and_is_flagged() -> None:
    call = stream()
    heard = run(call, SENT[:200], extra=2.0)
    assert all(step.concealed for step in heard.steps[210:])
    assert not any(any(step.pcm) for step in heard.steps[210:])


@pytest.mark.parametrize("codec", [PCMU, PCMA, G722], ids=lambda codec: codec.name)
def test_a_rough_network_leaves_speech_mostly_whole(codec) -> None:  # type: ignore[no-untyped-def]
    pcm = voice(30, codec.pcm_rate)
    call = stream(codec)
    how = Impairments(to_bad=0.01, to_good=0.6, jitter=0.005, reorder=0.02, duplicate=0.02)
    heard = run(call, packets(pcm, codec), how, extra=0.0)
    assert 0 < heard.concealed < 0.05
    loud_in, loud_out = pcm.astype(float).std(), heard.pcm.astype(float).std()
    assert loud_out == pytest.approx(loud_in, rel=0.1)
    assert (
        np.abs(np.diff(heard.pcm.astype(int))).max() < 1.3 * np.abs(np.diff(pcm.astype(int))).max()
    )


@given(st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=30))
def test_any_datagrams_leave_a_stream_that_works(hostile: list[tuple[bytes, bool]]) -> None:
    call = stream()
    for n, (data, reports) in enumerate(hostile):
        for prefix in (b"", b"\x80\x00", b"\x80\x65\x00\x01", b"\x81\xc8", b"\x81\xca"):
            (call.receive_rtcp if reports else call.receive)(prefix + data, FAR, n * 0.01)
        assert len(call.pull(n * 0.02).pcm) == 320
    at = len(hostile) * 0.02
    tail = packets(SPEECH[:16_000], ssrc=0xF00D)
    for n, packet in enumerate(tail):
        call.receive(packet.serialize(), FAR, at + n * 0.02)
        step = call.pull(at + n * 0.02 + 0.01)
    assert any(step.pcm)
    assert not step.concealed
