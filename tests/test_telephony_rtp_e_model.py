"""The E-model against values of the Recommendations, and what a stream says of its call."""

from __future__ import annotations

import pytest
from rtp_link import EVENTS, FAR, FAR_RTCP, Speaker, packets, run, stream, voice

from ringtrue.loadtest.netem import Impairments
from ringtrue.telephony.rtp.dtmf import TelephoneEvent
from ringtrue.telephony.rtp.e_model import (
    BEST,
    delay_impairment,
    loss_impairment,
    opinion_score,
    rating,
)
from ringtrue.telephony.rtp.packet import RtpPacket
from ringtrue.telephony.rtp.rtcp import ReceiverReport, ReportBlock, build_compound


@pytest.mark.parametrize(
    ("r", "mos"), [(93.2, 4.41), (90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58)]
)
def test_opinion_scores_of_g107_annex_b(r: float, mos: float) -> None:
    assert opinion_score(r) == pytest.approx(mos, abs=0.01)


def test_the_ends_of_the_scale() -> None:
    assert opinion_score(-5) == opinion_score(0) == opinion_score(3) == 1
    assert opinion_score(100) == opinion_score(120) == 4.5
    assert rating(0, 1, 0) == BEST
    assert rating(1, 50, 2) == 0


def test_delay_costs_nothing_up_to_100_ms_and_then_more_and_more() -> None:
    assert delay_impairment(0.1) == 0
    assert delay_impairment(0.2) == pytest.approx(3.1, abs=0.5)
    assert delay_impairment(0.4) == pytest.approx(24, abs=0.5)
    steps = [delay_impairment(0.1 + n * 0.02) for n in range(20)]
    assert steps == sorted(steps)


def test_loss_costs_more_in_bursts() -> None:
    assert loss_impairment(0, 1) == 0
    assert loss_impairment(0.05, 1) == pytest.approx(95 * 5 / 30.1)
    assert loss_impairment(0.05, 3) > loss_impairment(0.05, 1)


def test_a_stream_rates_its_call() -> None:
    sent = packets(voice(60))
    clean, rough = stream(), stream()
    run(clean, sent, extra=0.0)
    run(rough, sent, Impairments.bursty(0.05, 3), extra=0.0)
    good, bad = clean.stats.extra, rough.stats.extra
    assert good["mos_listening"] == pytest.approx(4.41, abs=0.01)
    assert good["loss_and_late"] == 0
    assert 3.5 < bad["mos_listening"] < 4.1
    assert bad["mos_conversational"] <= bad["mos_listening"]
    assert bad["loss_and_late"] == pytest.approx(rough.stats.packets_lost / len(sent), abs=0.003)
    assert bad["burst_density"] > 0.1
    assert bad["burst_ms"] > 60
    assert "far_mos_listening" not in good


def test_a_key_held_for_seconds_is_no_loss() -> None:
    call, sent = stream(), packets(voice(10))
    for n, packet in enumerate(sent[:400]):
        if 100 <= n < 300:
            duration = 160 * (n - 99)
            payload = TelephoneEvent(5, n == 299, 10, duration).serialize()
            packet = RtpPacket(EVENTS, n, sent[100].timestamp, packet.ssrc, payload)
        call.receive(packet.serialize(), FAR, n * 0.02)
        call.pull(n * 0.02 + 0.005)
    assert call.stats.extra["loss_and_late"] == 0
    assert call.stats.packets_lost == 0


def test_what_the_caller_would_say_counts_the_way_there_and_back() -> None:
    call, speaker = stream(), Speaker()
    run(call, packets(voice(10)), extra=0.0)
    for n in range(100):
        call.send(speaker.frame(now=n * 0.02), n * 0.02)
    near = call.stats.extra["mos_conversational"]
    report = call.report(60.0)
    assert report is not None
    middle = int((60.0 - 0.0 + 1) * 65536)
    block = ReportBlock(call.sender.ssrc, 0, 10, 0, 80, middle & 0xFFFFFFFF, 0)
    call.receive_rtcp(build_compound([ReceiverReport(0xCAFE, (block,))]), FAR_RTCP, 60.8)
    extra = call.stats.extra
    assert call.stats.round_trip_ms == pytest.approx(800, abs=1)
    assert extra["mos_conversational"] < near - 0.5
    assert extra["far_jitter_ms"] == 10
    assert extra["far_mos_listening"] == pytest.approx(opinion_score(rating(0.1, 1, 0)), abs=1e-6)
