"""Media sockets behind a network that misbehaves: :mod:`.netem` on a call's RTP, both ways.

A packet that comes is given out once the emulated network would have delivered it, with that
moment as its arrival; one that goes is sent when it would have come out at the far side.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from ringtrue.loadtest.netem import Impairments, Netem
from ringtrue.loadtest.scenario.schema import Network, OneWay
from ringtrue.telephony.rtp.datagrams import TIMESPEC
from ringtrue.telephony.rtp.leg import BURST
from ringtrue.telephony.rtp.ports import PortPair, PortPool
from ringtrue.telephony.rtp.system_calls import SO_TIMESTAMPNS

_DOWN: Final = 0x5EED
"""Added to a call's seed for the other direction."""


def impairments(path: OneWay) -> Impairments:
    """A scenario's direction as the emulator takes it."""
    loss = Impairments.bursty(path.loss, path.burst)
    return Impairments(
        to_bad=loss.to_bad,
        to_good=loss.to_good,
        delay=path.delay_ms / 1000,
        jitter=path.jitter_ms / 1000,
        spike=path.spike,
        spike_delay=path.spike_ms / 1000,
        reorder=path.reorder,
        duplicate=path.duplicate,
    )


def emulators(network: Network, seed: int) -> tuple[Netem[Any] | None, Netem[Any] | None]:
    """Up and down, as ``seed`` has them; None for a direction without impairment."""
    up = None if network.up.clean else Netem[Any](impairments(network.up), seed)
    down = None if network.down.clean else Netem[Any](impairments(network.down), seed + _DOWN)
    return up, down


class Deferred:
    """Lets things out of an emulator when they arrive, by timers of the event loop."""

    def __init__(self, netem: Netem[Any], deliver: Callable[[Any], None]) -> None:
        """``deliver`` gets each item on the loop this is made on."""
        self._netem = netem
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # of the timer: uvloop's don't tell

    def put(self, item: Any) -> None:
        """Send ``item`` on its way."""
        self._netem.send(item, self._loop.time())
        self._arm()

    def close(self) -> None:
        """Drop what is on its way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        due = self._netem.next_arrival()
        if due is None or (self._timer is not None and self._due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        for _, item in self._netem.deliver(self._loop.time()):
            self._deliver(item)
        self._arm()


class ImpairedSocket(socket.socket):
    """A bound UDP socket whose datagrams pass through emulators."""

    def __init__(self, sock: socket.socket, up: Netem[Any] | None, down: Netem[Any] | None) -> None:
        """Take over ``sock``, on the event loop that drives it."""
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._out = None if up is None else Deferred(up, self._put)
        self._in = down
        self._ready: list[tuple[float, Any]] = []

    def sendto(self, data: Any, *address: Any) -> int:
        """Send, or let the network take it."""
        if self._out is None:
            return super().sendto(data, *address)
        self._out.put((bytes(data), address))
        return len(data)

    def recvmsg(self, size: int, ancillary: int = 0, flags: int = 0) -> Any:
        """The next datagram that has arrived, with its moment as the kernel would give it.

        What is longer than ``size`` bytes is cut. Raises ``BlockingIOError`` for none.
        """
        if self._in is None:
            return super().recvmsg(size, ancillary, flags)
        if not self._ready:
            self._collect(size, ancillary)
        if not self._ready:
            raise BlockingIOError
        arrived, (data, source) = self._ready.pop(0)
        wall = arrived - self._loop.time() + time.clock_gettime(time.CLOCK_REALTIME)
        stamp = TIMESPEC.pack(int(wall), int(wall % 1 * 1e9))
        return data, [(socket.SOL_SOCKET, SO_TIMESTAMPNS, stamp)], 0, source

    def close(self) -> None:
        """Close; what is on its way is lost."""
        if self._out is not None:
            self._out.close()
        super().close()

    def _collect(self, size: int, ancillary: int) -> None:
        assert self._in is not None
        now = self._loop.time()
        for _ in range(BURST):
            try:
                data, extra, _flags, source = super().recvmsg(size, ancillary)
            except OSError:
                break
            came = now
            if extra and extra[0][1] == SO_TIMESTAMPNS:
                seconds, nanoseconds = TIMESPEC.unpack(extra[0][2])
                wall = time.clock_gettime(time.CLOCK_REALTIME)
                came = min(now, max(now - 1.0, seconds + nanoseconds * 1e-9 - wall + now))
            self._in.send((data, source), came)
        self._ready = self._in.deliver(now)

    def _put(self, item: tuple[bytes, tuple[Any, ...]]) -> None:
        data, address = item
        try:
            super().sendto(data, *address)
        except OSError:
            return  # as the network would: it is lost


class ImpairedPorts(PortPool):
    """Media ports of one call behind its network; reports pass unharmed."""

    def __init__(self, host: str, network: Network, seed: int) -> None:
        """Any free ports of ``host``."""
        super().__init__(host)
        self._network, self._seed = network, seed

    def acquire(self) -> PortPair:
        """A pair whose media socket is impaired. Raises ``PortsExhaustedError``."""
        pair = super().acquire()
        up, down = emulators(self._network, self._seed)
        if up is not None or down is not None:
            pair.rtp = ImpairedSocket(pair.rtp, up, down)
        return pair
