"""The jitter buffer, minutes of audio at a time, in virtual time under an emulated network."""

from __future__ import annotations

import numpy as np
import pytest
from rtp_link import Heard, packets, run, stream, voice

from ringtrue.loadtest.netem import Impairments
from ringtrue.telephony.codecs import G722, PCMU
from ringtrue.telephony.rtp.jitter import CAPACITY, JitterBuffer, Kind, Put
from ringtrue.telephony.rtp.packet import RtpPacket
from ringtrue.telephony.rtp.stream import RtpStream

MINUTES = 3
SPEECH = voice(60 * MINUTES)
SENT = packets(SPEECH)


def hear(how: Impairments | None = None, **options: object) -> tuple[RtpStream, Heard]:
    call = stream()
    return call, run(call, SENT, how, extra=0.0, **options)  # type: ignore[arg-type]


def test_a_clean_network_costs_little_delay_and_no_concealment() -> None:
    call, heard = hear()
    assert not any(step.concealed for step in heard.steps)
    assert max(heard.depths[100:]) < 0.030
    assert call.stats.packets_late == call.stats.packets_lost == 0


def test_every_sample_is_heard_on_a_clean_network() -> None:
    call, heard = hear()
    decoded = np.frombuffer(
        b"".join(PCMU.decoder().decode(packet.payload) for packet in SENT), "<i2"
    )
    settled = heard.pcm[160 * 200 : 160 * 8000]
    at = _find(decoded, settled[:800])
    assert call.receiver.joins < 10
    assert np.array_equal(decoded[at : at + len(settled)], settled)


@pytest.mark.parametrize("ppm", [100, -100, 1000, -1000])
def test_clock_drift_stays_bounded(ppm: float) -> None:
    call, heard = hear(ppm=ppm)
    assert max(heard.depths[100:-20]) < 0.060  # a fast sender is done before the last ticks
    assert heard.concealed < 0.003
    assert call.stats.packets_lost == 0
    if abs(ppm) == 1000:  # 180 ms over the run: only joins can have absorbed it
        assert call.receiver.joins > 5 or heard.concealed > 0


def test_depth_follows_jitter_up_and_down() -> None:
    half = len(SENT) // 2
    call = stream()
    rough = run(call, SENT[:half], Impairments(jitter=0.015), extra=0.0)
    call_two = stream()
    both = run(call_two, SENT[:half], Impairments(jitter=0.002), extra=0.0)
    assert np.mean(rough.targets[500:]) > 2 * np.mean(both.targets[500:])
    assert rough.concealed < 0.02
    assert both.concealed < 0.005


def test_standing_delay_after_a_stall_is_drained() -> None:
    call = stream()
    stall = 500 * 0.02 + 0.14
    arrivals = [
        (max(n * 0.02, stall) if 500 <= n < 510 else n * 0.02, packet)
        for n, packet in enumerate(SENT[:2000])
    ]
    heard = _feed(call, arrivals)
    depths = np.array(heard.depths)
    assert depths[100:500].max() < 0.040
    assert depths[505:560].max() > 0.120, "the stall must have been felt"
    assert depths[1100:].max() < 0.060, "the statistics forget it within 10 s"
    assert sum(step.concealed for step in heard.steps) < 12
    assert call.stats.packets_late == 0, "no word of the caller's may be dropped"
    assert call.receiver.joins > 3


@pytest.mark.parametrize("seed", range(4))
def test_everything_at_once_stays_bounded(seed: int) -> None:
    how = Impairments(
        to_bad=0.01,
        to_good=0.5,
        delay=0.05,
        jitter=0.008,
        spike=0.001,
        spike_delay=0.1,
        reorder=0.05,
        duplicate=0.02,
    )
    call, heard = hear(how, seed=seed, ppm=-100)
    lost = call.stats.packets_lost / len(SENT)
    assert 0.005 < lost < 0.05
    assert heard.concealed < lost + 0.04
    assert max(heard.depths[100:]) < 0.45
    assert np.median(heard.depths) < 0.120
    assert call.stats.packets_duplicate > 0
    assert all(len(step.pcm) == 320 for step in heard.steps)


@pytest.mark.parametrize("rise", [0.15, 0.3, 0.6, 0.95])
def test_a_delay_that_rises_for_good_is_followed(rise: float) -> None:
    """A path that got longer, or a sender whose own clock stood still for a while."""
    call = stream()
    arrivals = [(n * 0.02 + rise * (n >= 500), packet) for n, packet in enumerate(SENT[:2000])]
    heard = _feed(call, arrivals)
    concealed = [step.concealed for step in heard.steps]
    assert sum(concealed) < rise / 0.02 + 12
    assert not any(concealed[600:2000])
    assert call.stats.packets_late < 10
    assert max(heard.depths[600:]) < 0.25
    assert max(heard.depths[1200:2000]) < 0.060


def test_a_delay_that_falls_again_is_followed_too() -> None:
    call = stream()
    arrivals = [(n * 0.02 + 0.4 * (500 <= n < 600), packet) for n, packet in enumerate(SENT[:2000])]
    heard = _feed(call, arrivals)
    assert not any(step.concealed for step in heard.steps[650:2000])
    assert max(heard.depths[630:2000]) < 0.25
    assert call.stats.packets_late < 30


def test_what_was_held_up_once_does_not_move_the_delay() -> None:
    """Half a second's packets, all at once: what is old is dropped, and the network as it was."""
    call = stream()
    stall = 500 * 0.02 + 0.5
    arrivals = [(max(n * 0.02, stall if n >= 500 else 0), p) for n, p in enumerate(SENT[:2000])]
    heard = _feed(call, arrivals)
    assert 20 < call.stats.packets_late <= 25
    assert max(heard.depths[530:2000]) < 0.25
    assert not any(step.concealed for step in heard.steps[530:2000])


def test_reordered_packets_are_put_in_order() -> None:
    call = stream()
    swapped = list(SENT[:1000])
    for at in range(200, 1000, 10):
        swapped[at], swapped[at + 1] = swapped[at + 1], swapped[at]
    run(call, swapped, Impairments(), extra=0.0)
    assert call.stats.packets_lost == 0
    assert call.receiver.frames_concealed <= 4, "only the first swaps may surprise"


@pytest.mark.parametrize("ptime", [10, 30, 40, 60])
def test_other_packet_lengths_are_played_whole(ptime: int) -> None:
    call = stream()
    heard = run(call, packets(SPEECH[:160_000], ptime_ms=ptime), ptime_ms=ptime, extra=0.0)
    assert heard.concealed < 0.005
    assert max(heard.depths[100:]) < 0.1


def test_wideband_is_played_at_its_rate() -> None:
    call = stream(G722)
    heard = run(call, packets(voice(20, 16000), G722), Impairments(jitter=0.003), extra=0.0)
    assert {len(step.pcm) for step in heard.steps} == {640}
    assert heard.concealed < 0.005


def test_a_pause_of_the_sender_is_silence_not_loss() -> None:
    call = stream()
    speech = [RtpPacket(0, p.sequence_number, p.timestamp, p.ssrc, p.payload) for p in SENT[:150]]
    later = packets(SPEECH[:48_000], first=150)
    for packet in later:  # talkspurts: numbers go on, time jumps over the pause
        packet.timestamp += 150 * 160 + 4 * 160
    arrivals = [(n * 0.02, p) for n, p in enumerate(speech)]
    arrivals += [((154 + n) * 0.02, p) for n, p in enumerate(later)]
    heard = _feed(call, arrivals)
    assert call.stats.packets_lost == 0
    assert sum(step.concealed for step in heard.steps[: len(arrivals)]) <= 4


@pytest.mark.parametrize("jump", [1 << 20, -(1 << 20), 1 << 31])
def test_a_timestamp_jump_is_followed(jump: int) -> None:
    call = stream()
    sent = [
        RtpPacket(
            0,
            p.sequence_number,
            (p.timestamp + (jump if n >= 500 else 0)) & 0xFFFFFFFF,
            p.ssrc,
            p.payload,
        )
        for n, p in enumerate(SENT[:1000])
    ]
    heard = run(call, sent, extra=0.0)
    assert call.receiver.buffer.resets == 1
    assert sum(step.concealed for step in heard.steps) < 15
    assert not any(step.concealed for step in heard.steps[600:])


def test_one_absurd_timestamp_is_not_followed() -> None:
    call = stream()
    sent = [RtpPacket(0, p.sequence_number, p.timestamp, p.ssrc, p.payload) for p in SENT[:1000]]
    sent[500].timestamp = 0xDEADBEEF
    heard = run(call, sent, extra=0.0)
    assert call.receiver.buffer.resets == 0
    assert 1 <= sum(step.concealed for step in heard.steps) <= 2


def test_timestamps_and_sequence_numbers_wrap() -> None:
    call = stream()
    sent = packets(SPEECH[:160_000], first=65_300)
    for packet in sent:
        packet.timestamp = (packet.timestamp - 80_000) & 0xFFFFFFFF
    heard = run(call, sent, extra=0.0)
    assert heard.concealed == 0
    assert call.stats.packets_lost == 0


def test_a_new_source_takes_over_and_a_stray_one_does_not() -> None:
    call = stream()
    other = packets(SPEECH[:160_000], ssrc=0xBEEF, first=9000)
    arrivals = [(n * 0.02, p) for n, p in enumerate(SENT[:500])]
    stray = (4.01, RtpPacket(0, 77, 77, 0xDEAD, bytes(160)))
    arrivals = sorted([*arrivals, stray], key=lambda item: item[0])
    heard = _feed(call, arrivals)
    assert not any(step.concealed for step in heard.steps[50:490])
    assert call.receiver.reception is not None
    assert call.receiver.reception.ssrc == 0xCAFE
    again = _feed(call, [(10 + n * 0.02, p) for n, p in enumerate(other)], start=10.0)
    assert call.receiver.reception.ssrc == 0xBEEF
    assert not any(step.concealed for step in again.steps[50:950])


def test_a_payload_type_change_changes_the_decoder() -> None:
    call = stream()
    wide = packets(voice(10, 16000), G722, first=500)
    for packet in wide:
        packet.timestamp += 500 * 160
    heard = run(call, [*SENT[:500], *wide], extra=0.0)
    assert heard.concealed == 0
    assert {len(step.pcm) for step in heard.steps} == {320}
    assert heard.pcm[-40_000:].astype(float).std() > 300


def test_what_comes_after_its_time_is_counted_late() -> None:
    buffer = JitterBuffer(8000)
    for number in (0, 1, 3):
        buffer.put(number, number * 160, bytes(160), PCMU, number * 0.02)
    kinds = [buffer.get(0.04 + n * 0.02, 0).kind for n in range(4)]
    assert kinds == [Kind.PACKET, Kind.PACKET, Kind.LOST, Kind.PACKET]
    assert buffer.put(2, 320, bytes(160), PCMU, 0.12) is Put.LATE
    assert buffer.put(3, 480, bytes(160), PCMU, 0.12) is Put.DUPLICATE
    assert (buffer.late, buffer.duplicates) == (1, 1)


def test_a_late_packet_is_played_when_nothing_overtook_it() -> None:
    buffer = JitterBuffer(8000)
    buffer.put(0, 0, bytes(160), PCMU, 0.0)
    assert [buffer.get(0.04 + n * 0.02, 0).kind for n in range(2)] == [Kind.PACKET, Kind.EMPTY]
    assert buffer.put(1, 160, bytes(160), PCMU, 0.065) is Put.HELD
    assert buffer.get(0.08, 0).kind is Kind.PACKET
    assert buffer.excess == pytest.approx(0.02 - 0.015, abs=0.001)


def test_it_holds_a_bounded_number_of_packets() -> None:
    buffer = JitterBuffer(8000)
    for number in range(3 * CAPACITY):
        buffer.put(number, number * 160, bytes(160), PCMU, number * 0.001)
    assert len(buffer) == CAPACITY
    assert buffer.late == 2 * CAPACITY


def test_silly_limits_are_named() -> None:
    with pytest.raises(ValueError, match="minimum <= initial"):
        JitterBuffer(8000, minimum=0.1, initial=0.04)


def _feed(call: RtpStream, arrivals: list[tuple[float, RtpPacket]], start: float = 0.0) -> Heard:
    heard = Heard()
    waiting = list(arrivals)
    tick = 0
    while waiting:
        tick += 1
        now = start + tick * 0.02
        while waiting and waiting[0][0] <= now:
            at, packet = waiting.pop(0)
            call.receive(packet.serialize(), ("192.0.2.7", 40000), at)
        heard.steps.append(call.pull(now))
        heard.depths.append(call.receiver.buffer.depth)
    return heard


def _find(haystack: np.ndarray, needle: np.ndarray) -> int:
    windows = np.lib.stride_tricks.sliding_window_view(haystack[:80_000], len(needle))
    return int(np.argmin(np.abs(windows.astype(np.int32) - needle).sum(axis=1)))
