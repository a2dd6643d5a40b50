"""One bidirectional RTP stream with its reports, sans-IO (RFC 3550).

Datagrams and sealed frames in, 20 ms steps and datagrams out. Reports ride on the media tick:
:meth:`RtpStream.send` returns them when they are due, so a stream needs no timer.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ringtrue.streaming.gate import SealedFrame
from ringtrue.streaming.ports import Inbound, LegStats
from ringtrue.telephony.codecs import Codec
from ringtrue.telephony.rtp.e_model import opinion_score, rating
from ringtrue.telephony.rtp.inband import ToneDetector
from ringtrue.telephony.rtp.keys import KeyMerger, Way
from ringtrue.telephony.rtp.latch import Address, Latch, LatchPolicy
from ringtrue.telephony.rtp.packet import RtpError, RtpPacket, is_rtcp
from ringtrue.telephony.rtp.quality import note_quality
from ringtrue.telephony.rtp.receiver import RtpReceiver
from ringtrue.telephony.rtp.reception import round_trip
from ringtrue.telephony.rtp.rtcp import (
    Goodbye,
    ReceiverReport,
    ReportBlock,
    Rtcp,
    SenderReport,
    SourceDescription,
    build_compound,
    parse_compound,
)
from ringtrue.telephony.rtp.sender import RtpSender
from ringtrue.telephony.rtp.srtp import SrtpContext
from ringtrue.telephony.sdes import SrtpKeys

REPORT_INTERVAL: Final = 5.0
"""Mean seconds between reports; each interval is 0.5–1.5 of it (RFC 3550 §6.2, §6.3.1)."""

MAX_TOLD: Final = 64
"""Keys told by signalling that may wait for the next tick; further ones are dropped."""


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What signalling agreed on; see :class:`ringtrue.telephony.offer_answer.AudioPlan`."""

    codec: Codec
    payload_type: int
    receive: Mapping[int, Codec]
    event_type: int | None
    receive_events: frozenset[int]
    sending: bool
    receiving: bool
    remote: Address | None
    remote_rtcp: Address | None
    rtcp_mux: bool = False
    noise_type: int | None = None
    """Payload type comfort noise may be sent as; None where silence is sent as audio."""

    srtp: SrtpKeys | None = None
    remote_ssrcs: frozenset[int] = frozenset()
    """What the far end says it sends as (RFC 5576); empty where it says nothing."""

    inband: bool = False
    """Listen for digits in the audio."""


class RtpStream:
    """One call's media. ``now`` is seconds on the event loop's clock."""

    __slots__ = (
        "_clock_rate",
        "_cname",
        "_far_report",
        "_keys",
        "_left",
        "_opened",
        "_random",
        "_refused",
        "_rtcp_mux",
        "_rtt",
        "_sent_before",
        "_sr_count",
        "_srtp",
        "_stats",
        "_told",
        "_tones",
        "last_heard",
        "latch",
        "rate",
        "receiver",
        "report_at",
        "sender",
    )

    def __init__(
        self,
        rate: int,
        clock_rate: int,
        *,
        now: float,
        random_source: random.Random | None = None,
        latch: LatchPolicy | None = None,
    ) -> None:
        """``rate`` is the leg's PCM rate in Hz, fixed; ``clock_rate`` the audio's RTP clock.

        ``random_source`` gives SSRC, initial sequence number and timestamp, CNAME and report
        times; by default the system's.
        """
        self._random = random_source or random.SystemRandom()
        self.rate = rate
        self.receiver = RtpReceiver(rate, clock_rate)
        self.sender = RtpSender(
            rate,
            ssrc=self._random.getrandbits(32),
            sequence_number=self._random.getrandbits(15),
            timestamp=self._random.getrandbits(32),
        )
        self.latch = Latch(clock_rate, latch)
        self._cname = f"{self._random.getrandbits(96):024x}"  # RFC 7022 §4.2: names no host
        self._opened = now
        self._sr_count = 0
        self.report_at = now + self._interval() / 2
        """When the next report is due."""

        self.last_heard: float | None = None
        """Arrival of the last packet or report that was the far end's, or of :meth:`alive`."""

        self._refused = 0
        self._rtt: float | None = None
        self._far_report: ReportBlock | None = None
        self._left: int | None = None
        """What we sent as before, to be taken leave of in the next report (§8.2)."""

        self._rtcp_mux = False
        self._clock_rate = clock_rate
        self._sent_before = 0
        self._srtp: SrtpContext | None = None
        self._tones: ToneDetector | None = None
        self._told = ""
        self._keys = KeyMerger()
        self._stats = LegStats()

    def configure(self, plan: StreamPlan, now: float, *, trusted: Iterable[str] = ()) -> None:
        """Follow ``plan`` from now on; ``trusted`` are the hosts its signalling came from."""
        if plan.remote is not None:
            self.latch.signal(
                plan.remote,
                plan.remote_rtcp or plan.remote,
                now,
                trusted=trusted,
                ssrcs=plan.remote_ssrcs,
            )
        self._rtcp_mux = plan.rtcp_mux
        if plan.srtp is None:
            self._srtp = None
        elif self._srtp is None:
            self._srtp = SrtpContext(plan.srtp)
        else:
            self._srtp.rekey(plan.srtp, now)
        if not plan.inband:
            self._tones = None
        elif self._tones is None:
            self._tones = ToneDetector(self.rate)
        self.receiver.configure(plan.receive, plan.receive_events, receiving=plan.receiving)
        if plan.codec.clock_rate != self._clock_rate:  # one clock to a source (RFC 7160 §4)
            self._clock_rate = plan.codec.clock_rate
            self._sent_before += self.sender.packets
            self._sr_count = 0
            self._far_report = None
            self._left, self.report_at = self.sender.ssrc, now
            self.sender.change_source(self._random.getrandbits(32))
        self.sender.configure(
            plan.codec,
            plan.payload_type,
            plan.event_type,
            sending=plan.sending,
            noise_type=plan.noise_type,
        )

    def alive(self, now: float) -> None:
        """The far end proved itself alive in another way: its signalling."""
        self.last_heard = now

    def receive(self, data: bytes, source: Address, now: float) -> None:
        """Take one datagram of the media port; never raises."""
        if self._rtcp_mux and is_rtcp(data):
            self.receive_rtcp(data, source, now)
            return
        latch = self.latch
        known = latch.known(source, now)
        if not known and latch.source is not None and not latch.may_change(source, now):
            self._refused += 1
            return
        secure = self._srtp
        plain = data if secure is None else secure.unprotect(data, now)
        if plain is None:
            self._refused += 1
            return
        try:
            packet = RtpPacket.parse(plain)
        except RtpError:
            self._refused += 1
            return
        if known:
            if self.receiver.packet(packet, now):
                self.last_heard = now
            return
        takes = self.receiver.takes(packet)
        admitted = latch.admit(source, packet, now, proven=secure is not None) if takes else ()
        self._refused += 1 - len(admitted)  # what a candidate sent was counted as refused
        for held in admitted:
            if self.receiver.packet(held, now):
                self.last_heard = now

    def receive_rtcp(self, data: bytes, source: Address, now: float) -> None:
        """Take one datagram of the report port; never raises."""
        plain = data if self._srtp is None else self._srtp.unprotect_rtcp(data, now)
        try:
            packets = parse_compound(plain or b"")
        except RtpError:
            self._refused += 1
            return
        reception = self.receiver.reception
        ssrcs = [p.ssrc for p in packets if not isinstance(p, Goodbye)]
        if not self.latch.admit_rtcp(source, ssrcs, reception.ssrc if reception else None):
            self._refused += 1
            return
        for packet in packets:
            self._take_report(packet, now)

    def _take_report(self, packet: Rtcp, now: float) -> None:
        if not isinstance(packet, SenderReport | ReceiverReport):
            return
        self.last_heard = now
        reception = self.receiver.reception
        if isinstance(packet, SenderReport) and reception and packet.ssrc == reception.ssrc:
            reception.sender_report(packet.ntp, now)
        for block in packet.reports:
            if block.ssrc == self.sender.ssrc:
                self._far_report = block
                seconds = round_trip(block, self._ntp(now))
                if seconds is not None:
                    self._rtt = seconds

    def pull(self, now: float, *, steer: bool = True) -> Inbound:
        """The next 20 ms from the far end; silence while a key is heard in them.

        ``steer`` as in :meth:`RtpReceiver.pull`.
        """
        step = self.receiver.pull(now, steer=steer)
        if self._tones is None and not (step.digits or self._told):
            return step
        digits, tones = "".join(step.digits), ""
        pcm = step.pcm
        if self._tones is not None:
            tones = self._tones.feed(pcm)
            if self._tones.active:
                pcm = bytes(len(pcm))
        if not (digits or tones or self._told):
            return step if pcm is step.pcm else Inbound(pcm, step.concealed)
        keys = self._keys.take(Way.EVENT, digits, now)
        keys += self._keys.take(Way.TONE, tones, now)
        keys += self._keys.take(Way.SIGNALLING, self._told, now)
        self._told = ""
        return Inbound(pcm, step.concealed, tuple(keys))

    def tell(self, digit: str) -> None:
        """A key the far end told of by its signalling (SIP INFO), one of ``0-9*#A-D``."""
        if len(self._told) < MAX_TOLD:
            self._told += digit

    def send(self, frame: SealedFrame, now: float) -> list[bytes]:
        """Media datagrams for one tick, to :attr:`Latch.destination`; raises as the sender."""
        packets = self.sender.send(frame, now)
        if self._srtp is None:
            return packets
        return [secret for packet in packets if (secret := self._srtp.protect(packet)) is not None]

    def report(self, now: float) -> bytes | None:
        """The compound report due by now, to :attr:`Latch.rtcp_destination`; else None."""
        if now < self.report_at:
            return None
        self.report_at = now + self._interval()
        reports = [*self._reports(now)]
        if self._left is not None:
            reports.append(Goodbye((self._left,)))
            self._left = None
        return self._protected(build_compound(reports))

    def goodbye(self, now: float) -> bytes | None:
        """The last report, with BYE (RFC 3550 §6.6); None where it can't be protected."""
        reports = [*self._reports(now), Goodbye((self.sender.ssrc,))]
        return self._protected(build_compound(reports))

    def _protected(self, report: bytes) -> bytes | None:
        return report if self._srtp is None else self._srtp.protect_rtcp(report)

    def _reports(self, now: float) -> Iterable[Rtcp]:
        reception = self.receiver.reception
        blocks = (reception.report(now),) if reception is not None else ()
        sender = self.sender
        if sender.packets > self._sr_count:
            self._sr_count = sender.packets
            yield SenderReport(
                ssrc=sender.ssrc,
                ntp=self._ntp(now),
                rtp_timestamp=sender.timestamp,
                packet_count=sender.packets,
                octet_count=sender.octets,
                reports=blocks,
            )
        else:
            yield ReceiverReport(sender.ssrc, blocks)
        yield SourceDescription(sender.ssrc, self._cname)

    def _ntp(self, now: float) -> int:
        """Time since the stream opened: allowed where wall clock is not used (§6.4.1)."""
        return int((now - self._opened + 1) * (1 << 32)) & 0xFFFF_FFFF_FFFF_FFFF

    def _interval(self) -> float:
        return REPORT_INTERVAL * (0.5 + self._random.random())

    @property
    def stats(self) -> LegStats:
        """Counters since the stream opened, brought up to date."""
        stats, receiver, buffer = self._stats, self.receiver, self.receiver.buffer
        reception = receiver.reception
        stats.packets_received = receiver.received
        stats.packets_sent = self._sent_before + self.sender.packets
        stats.packets_lost = receiver.lost
        stats.packets_late = buffer.late
        stats.packets_duplicate = buffer.duplicates
        stats.packets_refused = self._refused + receiver.refused
        stats.frames_concealed = receiver.frames_concealed
        stats.jitter_ms = 1000 * reception.jitter if reception is not None else 0.0
        stats.jitter_buffer_ms = 1000 * buffer.target
        stats.round_trip_ms = None if self._rtt is None else 1000 * self._rtt
        stats.extra["playout_delay_ms"] = 1000 * buffer.depth
        stats.extra["time_joins"] = receiver.joins
        stats.extra["timeline_resets"] = buffer.resets
        note_quality(stats, receiver)
        if self._srtp is not None:
            stats.extra["srtp_failures"] = self._srtp.failures
        if self._far_report is not None:
            stats.extra["far_lost"] = self._far_report.cumulative_lost
            stats.extra["far_fraction_lost"] = self._far_report.fraction_lost / 256
            stats.extra["far_jitter_ms"] = 1000 * self._far_report.jitter / self._clock_rate
            share = max(0, self._far_report.cumulative_lost) / max(1, self.sender.packets)
            heard = rating(min(1.0, share), 1.0, 0.0)
            stats.extra["far_mos_listening"] = opinion_score(heard)
        return stats
