"""Symmetric RTP with a strict latch: from where media is taken, and to where it is sent.

Media from the signalled address is taken at once. A far end behind a NAT sends from
another one, which is learned once, under rules an off-path sender can't meet by guessing a port:

- only inside a bounded window after the address was signalled, and only while nothing has come
  from the signalled address;
- only from a trusted host: the one signalled, or the one the signalling itself came from
  (``learn="any"`` drops this rule, for media relays on hosts signalling never names; so does
  SRTP, under which only the far end can have made the packet);
- only with an SSRC that the far end's description names, where it names any (RFC 5576);
- only after several packets in a row of one SSRC, consecutive in sequence number and sane in
  timestamp, spread over the time they claim to cover;
- not while a second source is trying the same.

A learned source is not safe before the window closes. The signalled address displaces it at once.
Another one that proves itself while it is heard makes both doubtful: neither is taken until one
has fallen silent, so that who came first by malice gains nothing. After the window, and where it
is the signalled address that is latched, every other source is refused until signalling names
a new one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from ringtrue.telephony.rtp.packet import RtpPacket, timestamp_delta

Address = tuple[str, int]
"""Host (an IP literal) and port."""

MAX_CANDIDATES: Final = 8
"""Sources remembered while learning; further ones are refused."""


@dataclass(frozen=True, slots=True)
class LatchPolicy:
    """How a source other than the signalled one may be learned."""

    learn: Literal["off", "trusted", "any"] = "trusted"

    window: float = 10.0
    """Seconds after an address was signalled in which another may be learned."""

    packets: int = 4
    """Consecutive packets asked of it."""

    rival_quiet: float = 1.0
    """Seconds a second source must have been quiet for the first to be believed."""


@dataclass(slots=True)
class _Candidate:
    ssrc: int
    sequence_number: int
    timestamp: int
    began: float
    last: float
    held: list[RtpPacket] = field(default_factory=list)


class Latch:
    """One stream's source. ``now`` is seconds on a monotonic clock."""

    __slots__ = (
        "_candidates",
        "_clock_rate",
        "_policy",
        "_rtcp_signalled",
        "_rtcp_source",
        "_signalled",
        "_source",
        "_source_last",
        "_ssrcs",
        "_trusted",
        "_until",
    )

    def __init__(self, clock_rate: int, policy: LatchPolicy | None = None) -> None:
        """``clock_rate`` is the audio's RTP clock in Hz."""
        self._clock_rate = clock_rate
        self._policy = policy or LatchPolicy()
        self._signalled: Address | None = None
        self._trusted: frozenset[str] = frozenset()
        self._until = 0.0
        self._source: Address | None = None
        self._source_last = 0.0
        self._ssrcs: frozenset[int] = frozenset()
        self._candidates: dict[Address, _Candidate] = {}
        self._rtcp_signalled: Address | None = None
        self._rtcp_source: Address | None = None

    def signal(
        self,
        address: Address,
        rtcp: Address,
        now: float,
        *,
        trusted: Iterable[str] = (),
        ssrcs: Iterable[int] = (),
    ) -> None:
        """The far end's description names ``address`` (and ``rtcp`` for its reports).

        ``trusted`` are the hosts its signalling came from, ``ssrcs`` those it says it sends as.
        The same address again changes nothing.
        """
        self._ssrcs = frozenset(ssrcs)
        address, rtcp = normalised(address), normalised(rtcp)
        self._trusted = frozenset({address[0], *(normalised((host, 0))[0] for host in trusted)})
        if self._rtcp_signalled != rtcp:
            self._rtcp_signalled, self._rtcp_source = rtcp, None
        if self._signalled != address:
            self._signalled, self._source = address, None
            self._until = now + self._policy.window
            self._candidates.clear()
            self._rtcp_source = None

    @property
    def source(self) -> Address | None:
        """The latched source; None until there is one."""
        return self._source

    @property
    def destination(self) -> Address | None:
        """Where to send media: the latched source, else the signalled address."""
        return self._source or self._signalled

    @property
    def rtcp_destination(self) -> Address | None:
        """Where to send reports."""
        return self._rtcp_source or self._rtcp_signalled

    def known(self, source: Address, now: float) -> bool:
        """``source`` is the latched one: the only test a packet of a running call needs."""
        if source != self._source:
            return False
        self._source_last = now
        return True

    def may_change(self, source: Address, now: float) -> bool:
        """Once latched: whether ``source`` could still displace the learned one."""
        if now > self._until or self._source == self._signalled:
            return False
        return source == self._signalled or self._policy.learn != "off"

    def admit(
        self, source: Address, packet: RtpPacket, now: float, *, proven: bool = False
    ) -> tuple[RtpPacket, ...]:
        """The packets to take now that ``packet`` came from ``source``; none if it is refused.

        More than one where a source was just learned: what it sent to prove itself is not lost.
        ``proven``: it was authenticated, and is no replay.
        """
        if self.known(source, now):
            return (packet,)
        if source == self._signalled and (self._source is None or self.may_change(source, now)):
            self._latch(source, now)
            return (packet,)
        if self._signalled is None or self._source == self._signalled:
            return ()
        if self._policy.learn == "off" or now > self._until:
            self._candidates.clear()
            return ()
        trusted = proven or source[0] in self._trusted
        if self._policy.learn == "trusted" and not trusted:
            return ()
        if self._ssrcs and packet.ssrc not in self._ssrcs:
            return ()
        return self._learn(source, packet, now)

    def _learn(self, source: Address, packet: RtpPacket, now: float) -> tuple[RtpPacket, ...]:
        candidate = self._candidates.get(source)
        if candidate is None or not self._follows(candidate, packet, now):
            if candidate is None and len(self._candidates) >= MAX_CANDIDATES:
                return ()
            candidate = _Candidate(packet.ssrc, packet.sequence_number, packet.timestamp, now, now)
            self._candidates[source] = candidate
        else:
            candidate.sequence_number, candidate.timestamp = (
                packet.sequence_number,
                packet.timestamp,
            )
            candidate.last = now
        candidate.held.append(packet)
        if len(candidate.held) < self._policy.packets:
            return ()
        covered = timestamp_delta(packet.timestamp, candidate.held[0].timestamp)
        if (now - candidate.began) * 2 < covered / self._clock_rate:
            candidate.held.pop(0)  # a burst: proof takes the time it claims to cover
            return ()
        quiet = now - self._policy.rival_quiet
        if self._source is not None and self._source_last > quiet:
            # doubtful from now on: as much a candidate as its rival
            self._candidates[self._source] = _Candidate(0, 0, 0, now, self._source_last)
            self._source = self._rtcp_source = None
        if any(c.last > quiet for address, c in self._candidates.items() if address != source):
            candidate.held.pop(0)
            return ()
        self._latch(source, now)
        return tuple(candidate.held)

    def _follows(self, candidate: _Candidate, packet: RtpPacket, now: float) -> bool:
        advance = timestamp_delta(packet.timestamp, candidate.timestamp)
        return (
            packet.ssrc == candidate.ssrc
            and packet.sequence_number == (candidate.sequence_number + 1) & 0xFFFF
            and 0 < advance <= self._clock_rate
            and now - candidate.last < 1.0
        )

    def _latch(self, source: Address, now: float) -> None:
        self._source, self._source_last = source, now
        self._candidates.clear()

    def admit_rtcp(self, source: Address, ssrcs: Iterable[int], media_ssrc: int | None) -> bool:
        """Whether reports of ``ssrcs`` from ``source`` are the far end's.

        They are from the signalled address, or from the host media is latched to while they
        speak for the media's own SSRC; the first such address is latched like media's.
        """
        if source == self._rtcp_source:
            return True
        if self._rtcp_source is not None:
            return False
        if source != self._rtcp_signalled and (
            self._source is None
            or source[0] != self._source[0]
            or media_ssrc is None
            or media_ssrc not in tuple(ssrcs)
        ):
            return False
        self._rtcp_source = source
        return True


def normalised(address: Address) -> Address:
    """``address`` with its host as sources are compared: IPv4 out of its IPv6 mapping.

    Raises ``ValueError`` where the host is no IP literal.
    """
    parsed = ipaddress.ip_address(address[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped), address[1]
    return str(parsed), address[1]
