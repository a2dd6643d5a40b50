"""Sessions over real sockets: two ends agree, hear each other, hold, move and let go.

Time is virtual, except where the kernel's own times of arrival matter.
"""

from __future__ import annotations

import asyncio
import os
import socket

import numpy as np
import pytest
from rtp_link import Speaker, voice

from ringtrue.streaming.ports import MediaLeg
from ringtrue.telephony.rtp.leg import PROBE_PULLS, RtpLeg
from ringtrue.telephony.rtp.packet import RtpPacket
from ringtrue.telephony.rtp.ports import PortPool
from ringtrue.telephony.rtp.rtcp import Goodbye, parse_compound
from ringtrue.telephony.rtp.session import MediaOptions, RtpSession, session_factory
from ringtrue.telephony.sdes import Security, SrtpMode
from ringtrue.telephony.sip.media import MediaError, MediaSession

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def pool():  # type: ignore[no-untyped-def]
    made = PortPool("127.0.0.1")
    yield made
    assert made.in_use == 0, "every port must have been given back"


class End:
    """One side of a call: speaks a voice, keeps what it hears."""

    def __init__(self, session: RtpSession, name: str) -> None:
        self.session, self.leg = session, session.leg
        self.speaker = Speaker(self.leg.rate, name)
        self.said = voice(5, self.leg.rate, seed=len(name))
        self.heard: list[bytes] = []
        self.digits = ""
        self._at = 0

    def tick(self, now: float) -> None:
        step = self.leg.pull(now)
        self.heard.append(step.pcm)
        self.digits += "".join(step.digits)
        size = self.leg.rate // 50
        pcm = self.said[self._at : self._at + size].tobytes()
        self._at = (self._at + size) % (len(self.said) - size)
        self.leg.send(self.speaker.frame(pcm, now), now)

    @property
    def loudness(self) -> float:
        return float(np.frombuffer(b"".join(self.heard[-20:]), "<i2").astype(float).std())


async def talk(*ends: End, ticks: int = 50) -> None:
    """Run the media clock for ``ticks`` of 20 ms."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    for _ in range(ticks):
        due += 0.02
        await asyncio.sleep(max(0, due - loop.time()))
        for end in ends:
            end.tick(due)


async def connected(pool: PortPool, *codecs: str) -> tuple[RtpSession, RtpSession]:
    calling, called = RtpSession(pool, codecs=codecs), RtpSession(pool)
    await calling.set_answer(await called.answer(await calling.offer()))
    return calling, called


@pytest.mark.parametrize("codec", ["PCMU", "PCMA", "G722"])
@pytest.mark.uvloop
async def test_two_ends_hear_each_other(pool: PortPool, codec: str) -> None:
    calling, called = await connected(pool, codec)
    ends = End(calling, "a"), End(called, "bb")
    await talk(*ends)
    for end in ends:
        assert end.leg.codec == codec
        assert end.leg.rate == (16000 if codec == "G722" else 8000)
        assert end.loudness > 500
        stats = end.leg.stats
        assert stats.packets_sent == 50
        assert stats.packets_received >= 48
        assert stats.packets_lost == stats.packets_refused == 0
        assert stats.extra["send_errors"] == 0
        assert end.leg.last_heard() is not None
    calling.close()
    called.close()


async def test_the_contracts_are_met(pool: PortPool) -> None:
    session = session_factory(pool)()
    with pytest.raises(RuntimeError, match="offer/answer"):
        _ = session.leg
    calling, called = await connected(pool, "PCMU")
    assert isinstance(called, MediaSession)
    assert isinstance(called.leg, MediaLeg)
    assert called.leg.heard_position() is None
    called.leg.clear()
    for ended in (session, calling, called):
        ended.close()
        ended.close()


async def test_hold_and_resume(pool: PortPool) -> None:
    calling, called = await connected(pool, "PCMU")
    ends = End(calling, "a"), End(called, "bb")
    await talk(*ends, ticks=25)
    offer = await calling.offer()
    held = await called.update(offer.replace(b"a=sendrecv", b"a=inactive"))
    assert b"a=inactive" in held
    await calling.set_answer(held)
    assert called.leg.held
    sent = called.leg.stats.packets_sent
    await talk(*ends, ticks=25)
    assert called.leg.stats.packets_sent == sent
    assert ends[0].loudness == 0
    again = await called.update(await calling.offer())
    assert b"a=sendrecv" in again
    await calling.set_answer(again)
    await talk(*ends, ticks=50)
    assert ends[0].loudness > 500
    assert ends[1].loudness > 500
    calling.close()
    called.close()


@pytest.mark.parametrize("hold", [b"a=inactive", b"a=sendonly", b"a=recvonly"])
async def test_a_held_call_is_no_lost_far_end(pool: PortPool, hold: bytes) -> None:
    """Many phones send nothing while they hold, and some not even reports."""
    calling, called = await connected(pool, "PCMU")
    ends = End(calling, "a"), End(called, "bb")
    await talk(*ends, ticks=5)
    loop = asyncio.get_running_loop()
    await called.update((await calling.offer()).replace(b"a=sendrecv", hold))
    await talk(ends[1], ticks=25)
    heard = called.leg.last_heard()
    assert heard is not None
    assert loop.time() - heard < 0.1
    await talk(ends[1], ticks=25)
    resumed = loop.time()
    await called.update((await calling.offer()).replace(hold, b"a=sendrecv"))
    heard = called.leg.last_heard()
    assert heard is not None
    assert heard >= resumed
    await talk(ends[1], ticks=25)
    assert loop.time() - (called.leg.last_heard() or 0) > 0.4
    calling.close()
    called.close()


async def test_a_codec_change_keeps_the_legs_rate(pool: PortPool) -> None:
    calling, called = await connected(pool, "G722", "PCMU")
    ends = End(calling, "a"), End(called, "bb")
    assert called.leg.codec == "G722"
    offer = (await calling.offer()).replace(b"RTP/AVP 9 0 13 101", b"RTP/AVP 0 101")
    await calling.set_answer(await called.update(offer))
    assert called.leg.codec == calling.leg.codec == "PCMU"
    assert called.leg.rate == 16000
    await talk(*ends)
    assert {len(pcm) for pcm in ends[1].heard} == {640}
    assert ends[1].loudness > 500
    calling.close()
    called.close()


async def test_a_refused_offer_leaves_the_call_as_it_was(pool: PortPool) -> None:
    calling, called = await connected(pool, "PCMU")
    ends = End(calling, "a"), End(called, "bb")
    for offer, status in [(b"rubbish", 400), (await calling.offer(), 488)]:
        bad = offer.replace(b"RTP/AVP 0 13 101", b"RTP/AVP 18").replace(b"PCMU", b"G729")
        with pytest.raises(MediaError) as refused:
            await called.update(bad)
        assert refused.value.status == status
        assert str(refused.value).isascii()
    await talk(*ends, ticks=25)
    assert ends[0].loudness > 500
    assert ends[1].loudness > 500
    calling.close()
    called.close()


async def test_refusals_carry_the_status_they_deserve(pool: PortPool) -> None:
    session = RtpSession(pool)
    for body, status in [
        (b"", 400),
        (b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nm=audio 4000 RTP/AVP 0\r\n", 400),
        (b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nm=video 4000 RTP/AVP 31\r\n", 488),
    ]:
        with pytest.raises(MediaError) as refused:
            await session.answer(body)
        assert refused.value.status == status
    with pytest.raises(MediaError) as early:
        await session.set_answer(b"")
    assert early.value.status == 400
    session.close()
    with pytest.raises(MediaError):
        await session.offer()


async def test_no_port_left_is_503() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        even = taken.getsockname()[1] & ~1
        pool = PortPool("127.0.0.1", even, even + 1)
        with pytest.raises(MediaError) as refused:
            await RtpSession(pool).offer()
    assert refused.value.status == 503


async def test_an_unreachable_host_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="advertised_host"):
        RtpSession(PortPool("0.0.0.0"))
    session = RtpSession(PortPool("0.0.0.0"), advertised_host="203.0.113.1")
    assert b"c=IN IP4 203.0.113.1" in await session.offer()
    session.close()


async def test_a_stranger_on_loopback_is_not_heard(pool: PortPool) -> None:
    calling, called = await connected(pool, "PCMU")
    ends = End(calling, "a"), End(called, "bb")
    await talk(*ends, ticks=10)
    before = called.leg.stats.packets_received
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.2", 0))
        target = ("127.0.0.1", called.leg._pair.port)
        for n in range(20):
            stranger.sendto(RtpPacket(0, n, n * 160, 7, bytes(160)).serialize(), target)
        stranger.sendto(b"", target)
    for _ in range(PROBE_PULLS):
        called.leg.pull(asyncio.get_running_loop().time())
    assert called.leg.stats.packets_received - before <= 3
    assert called.leg.stats.packets_refused >= 20
    calling.close()
    called.close()


@pytest.mark.uvloop
async def test_a_stranger_ahead_of_every_packet_delays_none(pool: PortPool) -> None:
    """Reading stops early only at what the far end sent."""
    calling, called = await connected(pool, "PCMU")
    ends = End(called, "bb"), End(calling, "a")
    await talk(*ends, ticks=10)
    before = called.leg.stats.packets_received
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.2", 0))
        target = ("127.0.0.1", called.leg._pair.port)
        for n in range(40):
            stranger.sendto(RtpPacket(0, n, n * 160, 7, bytes(160)).serialize(), target)
            await talk(*ends, ticks=1)
    called.leg.pull(asyncio.get_running_loop().time())
    assert called.leg.stats.packets_received - before >= 39
    assert called.leg.stats.packets_refused >= 39
    calling.close()
    called.close()


@pytest.mark.parametrize("at_once", [2, 3, 7])
@pytest.mark.uvloop
async def test_bursts_are_read_in_time(pool: PortPool, at_once: int) -> None:
    """Packets that come several at a time are all in the buffer before they are due."""
    calling, called = await connected(pool, "PCMU")
    hearing, speaking = End(called, "bb"), End(calling, "a")
    await talk(hearing, speaking, ticks=20)
    loop, before = asyncio.get_running_loop(), called.leg.stats.packets_received
    due = loop.time()
    for n in range(42):
        due += 0.02
        await asyncio.sleep(max(0, due - loop.time()))
        if n % at_once == at_once - 1:
            for late in range(at_once):
                speaking.tick(due - 0.02 * (at_once - 1 - late))
        hearing.tick(due)
    for _ in range(PROBE_PULLS):
        called.leg.pull(due)
    assert called.leg.stats.packets_received - before >= 41
    calling.close()
    called.close()


async def test_closing_says_goodbye(pool: PortPool) -> None:
    calling, called = await connected(pool, "PCMU")
    listening = calling.leg._pair.rtcp
    called.close()
    data = b""
    for _ in range(50):
        await asyncio.sleep(0.01)
        try:
            data = listening.recv(2048)
            break
        except BlockingIOError:
            continue
    assert isinstance(parse_compound(data)[-1], Goodbye)
    calling.close()


async def test_reports_on_the_media_port_where_both_want_it(pool: PortPool) -> None:
    security = Security(SrtpMode.REQUIRE)
    calling = RtpSession(pool, options=MediaOptions(security, rtcp_mux=True))
    called = RtpSession(pool, options=MediaOptions(security))
    await calling.set_answer(await called.answer(await calling.offer()))
    ends = End(calling, "a"), End(called, "bb")
    await talk(*ends, ticks=10)
    for end in ends:
        end.leg._stream.report_at = 0.0
    await talk(*ends, ticks=5)
    loop = asyncio.get_running_loop()
    for end in ends:
        stats = end.leg.stats
        assert end.leg.codec == "opus"
        assert stats.packets_refused == stats.extra["srtp_failures"] == 0
        assert "far_lost" in stats.extra, "a report came"
        latch = end.leg._stream.latch
        assert latch.rtcp_destination == latch.destination, "on no port of its own"
        assert loop.time() - (end.leg.last_heard() or 0) < 1
    calling.close()
    called.close()


async def test_a_closed_leg_sends_nothing_and_still_answers(pool: PortPool) -> None:
    calling, called = await connected(pool, "PCMU")
    end = End(called, "bb")
    called.close()
    end.tick(asyncio.get_running_loop().time())
    assert end.leg.stats.extra["send_errors"] == 0
    with pytest.raises(TypeError):
        end.leg.send(b"pcm", 0.0)  # type: ignore[arg-type]
    calling.close()


async def test_two_hundred_calls_leave_nothing_behind(pool: PortPool) -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(200):
        calling, called = await connected(pool, "PCMU")
        assert isinstance(called.leg, RtpLeg)
        calling.close()
        called.close()
    assert len(os.listdir("/proc/self/fd")) == open_before
