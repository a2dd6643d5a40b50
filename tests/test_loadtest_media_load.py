"""Callers that only fill their lines, against a real endpoint; and how lateness is judged."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from rtp_link import Speaker

from ringtrue.loadtest.batches import Batch, Receiver
from ringtrue.loadtest.media_load import MediaSpec, fill_lines, lateness
from ringtrue.streaming.clock import MediaClock
from ringtrue.streaming.ports import MediaLeg
from ringtrue.telephony.rtp.ports import PortPool
from ringtrue.telephony.rtp.session import session_factory
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.handles import ServerInvite


class Answering:
    """One side of a call: sends silence, hears what comes."""

    def __init__(self, leg: MediaLeg, name: str) -> None:
        self.leg = leg
        self.speaker = Speaker(leg.rate, name)

    def tick_in(self, now: float) -> None:
        """Hear."""
        self.leg.pull(now)

    def tick_out(self, now: float) -> None:
        """Speak."""
        self.leg.send(self.speaker.frame(bytes(320), now), now)


@pytest.mark.uvloop
async def test_lines_are_filled_both_ways() -> None:
    pool, clock = PortPool("127.0.0.1"), MediaClock()
    stats = []

    async def invited(invite: ServerInvite) -> None:
        call = await invite.answer(session_factory(pool, codecs=("PCMU",)))
        answering = Answering(call.leg, call.id)
        clock.add(answering)
        await call.ended()
        clock.remove(answering)
        stats.append(call.leg.stats)

    async with SipEndpoint("127.0.0.1", 0, on_invite=invited) as endpoint:
        target = f"sip:tone@127.0.0.1:{endpoint.port}"
        result = await fill_lines(MediaSpec(target, 3, seconds=1.0, per_second=50, settle=0.4))
        await endpoint.idle()
    assert result.up == 3
    assert result.missing == 0
    assert 3 * 40 <= result.packets <= 3 * 60
    assert len(stats) == 3
    for counted in stats:
        assert 60 <= counted.packets_received <= 70
        assert counted.packets_refused == counted.packets_lost == 0
    assert pool.in_use == 0


def test_batches_arrive_with_their_source_and_their_time() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind(("127.0.0.1", 0))
        there = []
        for _ in range(3):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            there.append(sock)
        try:
            batch = Batch([sock.getsockname() for sock in there], 5)
            batch.data[:] = np.arange(15).reshape(3, 5)
            assert batch.send(here) == 3
            assert [list(sock.recv(99)) for sock in there] == batch.data.tolist()
            receiver = Receiver(here)
            assert [len(column) for column in receiver.read()] == [0, 0, 0]
            for sock in there:
                sock.sendto(b"\x07" * 9, here.getsockname())
            data, ports, times = receiver.read()
            assert data[:, :9].tolist() == [[7] * 9] * 3
            assert list(ports) == [sock.getsockname()[1] for sock in there]
            assert np.ptp(times) < 5
            assert times[0] > 1.6e9
        finally:
            for sock in there:
                sock.close()


def test_a_batch_to_nobody_sends_nothing() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert Batch([], 172).send(sock) == 0


def test_lateness_is_against_a_calls_own_best() -> None:
    numbers = np.arange(65530, 65550) % 65536
    times = 5.0 + 0.02 * np.arange(20)
    times[7] += 0.030
    late, missing = lateness(numbers, times)
    assert missing == 0
    assert late[7] == pytest.approx(0.030)
    assert np.delete(late, 7) == pytest.approx(0)


def test_what_never_came_is_missing_and_moves_nothing() -> None:
    keep = [0, 1, 3, 2, 2, 9]
    late, missing = lateness(np.array(keep), 1.0 + 0.02 * np.array(keep))
    assert missing == 5
    assert late == pytest.approx(0)
