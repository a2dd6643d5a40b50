"""Calls of an hour in virtual time: a clock that drifts, a network at its worst."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from rtp_link import TICK, packets, plan, voice

from ringtrue.loadtest.netem import Impairments, Netem
from ringtrue.telephony.codecs import PCMU
from ringtrue.telephony.rtp.packet import RtpPacket
from ringtrue.telephony.rtp.receiver import RtpReceiver

HOUR = 3600 * 50
PAYLOADS = [packet.payload for packet in packets(voice(60))]
Arrivals = Iterator[tuple[float, int]]


def drifting(ppm: float, ticks: int) -> Arrivals:
    """Packets of a sender whose clock is ``ppm`` fast, over a network without fault."""
    step = TICK / (1 + ppm * 1e-6)
    return ((0.0031 + n * step, n) for n in range(ticks))


def through(how: Impairments, seed: int) -> Arrivals:
    """Packets every 20 ms through ``how``."""
    path: Netem[int] = Netem(how, seed)
    for n in range(HOUR):
        path.send(n, n * TICK)
        yield from path.deliver(n * TICK)
    yield from path.deliver(float("inf"))


class Listener:
    """What an hour of packets sounded like, in numbers."""

    def __init__(self, ticks: int = HOUR) -> None:
        self.ticks = ticks
        self.receiver = RtpReceiver(8000, 8000)
        agreed = plan(PCMU)
        self.receiver.configure(agreed.receive, frozenset(), receiving=True)
        self.depths = np.zeros(ticks)
        self.loud = np.zeros(ticks // 3000)
        self.concealed = 0

    def listen(self, arrivals: Arrivals) -> None:
        receiver, buffer = self.receiver, self.receiver.buffer
        upcoming = next(arrivals, None)
        for tick in range(self.ticks):
            now = (tick + 1) * TICK
            while upcoming is not None and upcoming[0] <= now:
                at, n = upcoming
                payload = PAYLOADS[n % len(PAYLOADS)]
                receiver.packet(RtpPacket(0, n & 0xFFFF, n * 160, 7, payload), at)
                upcoming = next(arrivals, None)
            step = receiver.pull(now)
            self.concealed += step.concealed
            self.depths[tick] = buffer.depth
            if tick % 50 == 0:
                self.loud[min(tick // 3000, len(self.loud) - 1)] += np.std(
                    np.frombuffer(step.pcm, "<i2").astype(np.float32)
                )


@pytest.mark.parametrize(("ppm", "ticks"), [(100, HOUR), (-100, HOUR // 3)])
def test_a_drifting_clock_adds_no_delay(ppm: float, ticks: int) -> None:
    """360 ms of drift in the hour; playout follows it by 5 to 15 ms of speech at a time."""
    listener = Listener(ticks)
    listener.listen(drifting(ppm, ticks))
    settled = listener.depths[500 : ticks - 50]
    assert settled.max() < 0.040
    assert settled.min() > 0
    assert listener.concealed < 60, "3 in 10 000"
    assert listener.receiver.lost == listener.receiver.buffer.late == 0
    assert listener.receiver.joins > 10


def test_the_worst_network_for_an_hour() -> None:
    """5 % lost in bursts, 60 ms ± 30 ms, 3 % out of order: no drop, bounded delay."""
    loss = Impairments.bursty(0.05, 3)
    how = Impairments(
        to_bad=loss.to_bad, to_good=loss.to_good, delay=0.030, jitter=0.030, reorder=0.03
    )
    listener = Listener()
    listener.listen(through(how, seed=11))
    receiver = listener.receiver
    assert receiver.lost / HOUR == pytest.approx(0.05, abs=0.005)
    assert receiver.buffer.resets == 0, "the stream was never taken for another"
    assert receiver.buffer.late / HOUR < 0.03
    assert listener.concealed / HOUR < 0.05 + 0.02
    depths = listener.depths[500:]
    assert np.median(depths) < 0.200
    assert np.quantile(depths, 0.999) < 0.300
    assert depths.max() < 0.450
    assert np.mean(depths[-30_000:]) < np.mean(depths[:30_000]) + 0.020, "nothing adds up"
    assert listener.loud.min() > 0.6 * np.median(listener.loud), "every minute is heard"
