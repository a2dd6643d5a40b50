"""A call's RTP on two UDP sockets: the thin asyncio side of :class:`RtpStream`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from ringtrue.streaming.errors import GateError
from ringtrue.streaming.gate import SealedFrame
from ringtrue.streaming.ports import FRAME_MS, Inbound, LegStats
from ringtrue.telephony.rtp.datagrams import Datagrams
from ringtrue.telephony.rtp.latch import LatchPolicy
from ringtrue.telephony.rtp.ports import PortPair, PortPool
from ringtrue.telephony.rtp.stream import RtpStream, StreamPlan

BURST: Final = 256
"""Datagrams read in one tick, so that a flood can't hold up the media clock."""

PROBE_PULLS: Final = 5
"""Ticks between two looks for a second datagram, while each tick finds one and it just came."""

RTCP_PULLS: Final = 10
"""Ticks between two looks at the reports' own socket."""

TICK: Final = FRAME_MS / 1000
LATE: Final = 0.010
"""A frame this many seconds after its tick counts as sent late."""


class RtpLeg:
    """A :class:`~ringtrue.streaming.ports.MediaLeg` over RTP.

    Nothing waits and nothing is queued: a datagram the system won't take at once is dropped and
    counted, as the network would.
    """

    __slots__ = (
        "_alone",
        "_clock",
        "_closed",
        "_loop",
        "_pair",
        "_plan",
        "_pool",
        "_pulls",
        "_rtcp",
        "_rtp",
        "_send_errors",
        "_sent_late",
        "_stream",
        "_trusted",
    )

    def __init__(
        self,
        pool: PortPool,
        pair: PortPair,
        plan: StreamPlan,
        *,
        trusted: Iterable[str] = (),
        latch: LatchPolicy | None = None,
    ) -> None:
        """Start receiving on ``pair``, which the leg releases to ``pool`` when it closes.

        Must be called on the event loop that is to drive it.
        """
        self._loop = asyncio.get_running_loop()
        self._pool, self._pair = pool, pair
        self._trusted = tuple(trusted)
        self._rtp = Datagrams(pair.rtp, pool.system)
        self._rtcp = Datagrams(pair.rtcp, pool.system)
        self._closed = False
        self._send_errors = 0
        self._sent_late = 0
        self._drain(self._rtp)
        self._drain(self._rtcp)
        now = self._loop.time()
        codec = plan.codec
        self._stream = RtpStream(
            codec.pcm_rate,
            codec.clock_rate,
            now=now,
            latch=latch,
            random_source=getattr(self._loop, "chance", None),  # of a loop that repeats itself
        )
        self._agree(plan, now)
        self._pulls = 0
        self._alone = False
        """The last tick found one datagram, as one packet a tick gives."""

        virtual = getattr(self._loop, "virtual", False)
        # A real loop's own time stands still while a tick lasts; a virtual one's is all there is.
        self._clock = self._loop.time if virtual else time.monotonic
        # Without it, or on a loop whose time is none of the kernel's, arrival is when it is read.
        if not virtual:
            self._rtp.tell_times()
            self._rtcp.tell_times()

    def configure(self, plan: StreamPlan) -> None:
        """Follow a later agreement: hold, another address, another codec."""
        now = self._loop.time()
        self._agree(plan, now)
        self._stream.alive(now)

    def _agree(self, plan: StreamPlan, now: float) -> None:
        self._plan = plan
        self._stream.configure(plan, now, trusted=self._trusted)

    @property
    def rate(self) -> int:
        """PCM rate in Hz; stays what the first agreement made it."""
        return self._stream.rate

    @property
    def codec(self) -> str:
        """Encoding name of what is sent."""
        return self._plan.codec.name

    @property
    def held(self) -> bool:
        """The far end wants no audio from us now."""
        return not self._plan.sending

    @property
    def stats(self) -> LegStats:
        """Live counters."""
        stats = self._stream.stats
        stats.frames_sent_late = self._sent_late
        stats.extra["send_errors"] = self._send_errors
        return stats

    def pull(self, now: float) -> Inbound:
        """The next 20 ms from the caller.

        Sockets are read here, not when a packet comes: the buffer is looked at once a tick
        anyway, and a wake-up of the loop per packet costs more than all the rest of its way. The
        kernel's timestamps say when each one really arrived.
        """
        if self._closed:
            return self._stream.pull(now)
        self._pulls += 1
        stream = self._stream
        one = self._alone and self._pulls % PROBE_PULLS != 0
        count = self._read(self._rtp, now, one=one)
        if self._pulls % RTCP_PULLS == 0:
            self._read(self._rtcp, now, reports=True)
        # Joins cost several times all the rest: where time is short, delay may stand for a while.
        step = stream.pull(now, steer=self._loop.time() - now < LATE)
        self._alone = count == 1 and not step.concealed
        return step

    def send(self, frame: SealedFrame, now: float) -> None:
        """Put one sealed frame on the wire; frames of another call or repeated are dropped.

        Raises ``TypeError`` for anything but a sealed frame.
        """
        stream = self._stream
        report = None if self._closed else stream.report(now)
        try:
            packets = stream.send(frame, now)
        except GateError:
            self._send_errors += 1
            return
        if self._closed:
            return
        destination = stream.latch.destination
        if packets and destination is not None:
            if self._loop.time() - now > LATE:
                self._sent_late += 1
            for packet in packets:
                self._send_errors += not self._rtp.send(packet, destination)
        if report is not None:
            self._put_report(report)

    def last_heard(self) -> float | None:
        """Loop time of the far end's last packet, report or agreement.

        Now, while the call is held or media flows one way by agreement: a far end need not send
        then, and its silence says nothing.
        """
        if not (self._plan.sending and self._plan.receiving):
            return self._loop.time()
        return self._stream.last_heard

    def heard_position(self) -> int | None:
        """None: RTP doesn't tell what was played."""
        return None

    def tell(self, digit: str) -> None:
        """A key the far end told of by its signalling, one of ``0-9*#A-D``."""
        self._stream.tell(digit)

    def clear(self) -> None:
        """Nothing is buffered beyond this process."""

    def close(self) -> None:
        """Say goodbye and release sockets and ports; idempotent."""
        if self._closed:
            return
        self._closed = True
        goodbye = self._stream.goodbye(self._loop.time())
        if goodbye is not None:
            self._put_report(goodbye)
        self._pool.release(self._pair)

    def _put_report(self, report: bytes) -> None:
        destination = self._stream.latch.rtcp_destination
        if destination is not None:
            way = self._rtp if self._plan.rtcp_mux else self._rtcp
            self._send_errors += not way.send(report, destination)

    def _read(self, way: Datagrams, now: float, *, one: bool = False, reports: bool = False) -> int:
        """Take what waits on ``way``; with ``one``, stop at a far end's packet that just came.

        ``reports`` says that it is their own socket. Returns how many it took. Asking in vain
        costs as much as reading.
        """
        stream = self._stream
        before = stream.receiver.received
        offset: float | None = None
        for count in range(BURST):
            data = way.receive()
            if data is None:
                return count
            stamp, arrived = way.stamp, now
            if stamp:
                if offset is None:
                    offset = self._clock() - time.clock_gettime(time.CLOCK_REALTIME)
                arrived = stamp + offset
                if not -1.0 < arrived - now < 1.0:
                    # The wall clock may be set; the time on the socket can't be long ago.
                    arrived = min(max(arrived, now - 1.0), now + 1.0)
            if reports:
                stream.receive_rtcp(data, way.source, arrived)
            else:
                stream.receive(data, way.source, arrived)
            if one and now - arrived < TICK and stream.receiver.received > before:
                return 1
        return BURST

    @staticmethod
    def _drain(way: Datagrams) -> None:
        """Drop what came before the call had an address to take it from."""
        for _ in range(BURST):
            if way.receive() is None:
                return
