"""SRTP around a stream: two ends understand each other, and nobody else either of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rtp_link import FAR, FAR_RTCP, Speaker, packets, plan, stream, voice

from ringtrue.telephony.rtp.packet import RtpPacket
from ringtrue.telephony.rtp.rtcp import ReceiverReport, build_compound
from ringtrue.telephony.rtp.srtp import OVERLAP, SrtpContext
from ringtrue.telephony.rtp.stream import RtpStream
from ringtrue.telephony.sdes import SUITES, CryptoSuite, SrtpKeys, new_key, suite_named

SUITE = suite_named("AES_CM_128_HMAC_SHA1_80")
NAT = ("203.0.113.50", 6000)
TAGS = {
    "AES_CM_128_HMAC_SHA1_80": 10,
    "AES_CM_128_HMAC_SHA1_32": 4,
    "AEAD_AES_128_GCM": 16,
    "AEAD_AES_256_GCM": 16,
}


def pair(suite: CryptoSuite = SUITE) -> tuple[SrtpKeys, SrtpKeys]:
    one, other = new_key(suite), new_key(suite)
    return SrtpKeys(suite, one, other), SrtpKeys(suite, other, one)


def secured(keys: SrtpKeys, now: float = 0.0) -> RtpStream:
    call = stream()
    call.configure(replace(plan(), srtp=keys), now)
    return call


class Ends:
    """Two streams; what the first says reaches the second."""

    def __init__(self, suite: CryptoSuite = SUITE) -> None:
        near, far = pair(suite)
        self.here, self.there = secured(near), secured(far)
        self.speaker, self.now = Speaker(), 0.0
        self.said = voice(20)
        self.wire: list[bytes] = []

    def talk(self, ticks: int) -> np.ndarray:
        heard = b""
        for _ in range(ticks):
            self.now += 0.02
            at = round(self.now * 50) * 160 % 150_000
            frame = self.speaker.frame(self.said[at : at + 160].tobytes(), self.now)
            for data in self.here.send(frame, self.now):
                self.wire.append(data)
                self.there.receive(data, FAR, self.now)
            heard += self.there.pull(self.now + 0.001).pcm
        return np.frombuffer(heard, "<i2")


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_two_ends_understand_each_other(suite: CryptoSuite) -> None:
    ends = Ends(suite)
    heard = ends.talk(100)
    assert heard[1600:].astype(float).std() > 500
    assert ends.there.stats.packets_received == 100
    assert {len(data) for data in ends.wire} == {12 + 160 + TAGS[suite.name]}
    payload = RtpPacket.parse(ends.wire[50]).payload
    assert len(set(payload)) > 60, "no µ-law speech has so many values in 20 ms"


def test_what_is_not_authentic_is_not_heard() -> None:
    ends = Ends()
    ends.talk(10)
    before = ends.there.stats.packets_received
    for packet in packets(voice(1, seed=3), ssrc=0xBAD):
        ends.there.receive(packet.serialize(), FAR, ends.now)
    flipped = bytearray(ends.wire[-1])
    flipped[40] ^= 1
    ends.there.receive(bytes(flipped), FAR, ends.now)
    stats = ends.there.stats
    assert stats.packets_received == before
    assert stats.extra["srtp_failures"] == 51
    assert stats.packets_refused == 51


def test_a_replay_is_not_heard() -> None:
    ends = Ends()
    ends.talk(20)
    for data in ends.wire:
        ends.there.receive(data, FAR, ends.now)
        ends.there.receive(data, ("192.0.2.7", 40009), ends.now)
    assert ends.there.stats.packets_received == 20


def test_plain_media_is_not_heard_where_it_is_to_be_encrypted() -> None:
    call = secured(pair()[0])
    for n, packet in enumerate(packets(voice(1))):
        call.receive(packet.serialize(), FAR, n * 0.02)
    assert call.stats.packets_received == 0
    assert call.last_heard is None
    assert call.latch.source is None


def test_encryption_proves_a_source_on_a_host_signalling_never_named() -> None:
    near, far = pair()
    sender, call = secured(near), secured(far)
    speaker = Speaker()
    wire = [sender.send(speaker.frame(now=n * 0.02), n * 0.02)[0] for n in range(1, 30)]
    plain = stream()
    for n, packet in enumerate(packets(voice(1))):
        plain.receive(packet.serialize(), NAT, n * 0.02)
    assert plain.latch.source is None, "without encryption it is a stranger"
    for n, data in enumerate(wire):
        call.receive(data, NAT, n * 0.02)
    assert call.latch.destination == NAT
    assert call.stats.packets_received == len(wire)


def test_reports_are_protected_too() -> None:
    near, far = pair()
    here, there = secured(near), secured(far)
    report = here.report(60.0)
    assert report is not None
    assert here.goodbye(61.0) is not None
    there.receive_rtcp(report, FAR_RTCP, 1.0)
    assert there.last_heard == 1.0
    there.receive_rtcp(build_compound([ReceiverReport(1)]), FAR_RTCP, 2.0)
    there.receive_rtcp(report, FAR_RTCP, 3.0)
    assert there.last_heard == 1.0, "plain ones and replays say nothing"
    assert there.stats.packets_refused == 2


def test_new_keys_take_over_without_a_gap() -> None:
    ends = Ends()
    ends.talk(50)
    near, far = pair()
    ends.there.configure(replace(plan(), srtp=far), ends.now)
    ends.talk(5)  # the far end has answered, and the offerer still sends under the old key
    ends.here.configure(replace(plan(), srtp=near), ends.now)
    heard = ends.talk(50)
    stats = ends.there.stats
    assert stats.packets_received == 105
    assert stats.packets_lost == stats.frames_concealed == 0
    assert heard.astype(float).std() > 500
    assert stats.extra["srtp_failures"] == 0


def test_the_old_key_opens_nothing_after_a_while() -> None:
    (near, far), (_, later) = pair(), pair()
    sender, receiver = SrtpContext(near), SrtpContext(far)
    wire = [sender.protect(packet.serialize()) for packet in packets(voice(1))]
    receiver.rekey(later, 10.0)
    assert receiver.unprotect(wire[0] or b"", 10.0 + OVERLAP) is not None
    assert receiver.unprotect(wire[1] or b"", 10.1 + OVERLAP) is None


def test_the_same_keys_again_go_on_where_they_were() -> None:
    ends = Ends()
    ends.talk(10)
    for call in (ends.here, ends.there):
        assert call._srtp is not None
        call.configure(replace(plan(), srtp=call._srtp._keys), ends.now)
    ends.there.receive(ends.wire[0], FAR, ends.now)
    assert ends.there.stats.packets_received == 10, "a replay stays one"
    ends.talk(10)
    assert ends.there.stats.packets_received == 20


def test_the_sequence_number_wraps() -> None:
    near, far = pair()
    sender, receiver = SrtpContext(near), SrtpContext(far)
    for n in range(65_500, 65_600):
        packet = RtpPacket(0, n & 0xFFFF, n * 160, 7, bytes(20)).serialize()
        protected = sender.protect(packet)
        assert protected is not None
        assert receiver.unprotect(protected, 0.0) == packet


@settings(max_examples=50)
@given(st.binary(max_size=1600))
def test_any_datagram_leaves_a_context_that_works(data: bytes) -> None:
    near, far = pair()
    sender, receiver = SrtpContext(near), SrtpContext(far)
    for prefix in (b"", b"\x80\x00", b"\x90\x00", b"\x81\xc8"):
        assert receiver.unprotect(prefix + data, 0.0) is None
        assert receiver.unprotect_rtcp(prefix + data, 0.0) is None
    packet = RtpPacket(0, 1, 160, 7, bytes(160)).serialize()
    assert receiver.unprotect(sender.protect(packet) or b"", 0.0) == packet
    assert sender.protect(bytes(2000)) is None
    assert sender.protect_rtcp(b"") is None
