"""Calls that only fill their lines: real SIP, real RTP both ways, nobody listening to the words.

All calls share one socket, so that hundreds cost one process a few percent of a core. What comes
back is judged by the kernel's timestamps: how late each packet was against its call's own best
(RFC 3550's transit, less the smallest of it), how many were missing.

``python -m ringtrue.loadtest.media_load < spec.json > result.json`` runs it as a process of its
own; while the calls are up, a line ``up`` is written to stderr, and ``over`` before they end.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import uvloop
from pydantic import TypeAdapter

from ringtrue.loadtest.batches import Batch, Receiver
from ringtrue.loadtest.prompts import load_prompts, voices
from ringtrue.streaming.ports import MediaLeg
from ringtrue.telephony.codecs.g711 import UlawCodec
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.handles import ServerInvite, SipCall
from ringtrue.telephony.sip.media import MediaError

TICK: Final = 0.020
SLICES: Final = 4
"""Groups of calls, whose packets leave 5 ms apart."""

PAYLOAD: Final = 160
HEADER: Final = 12
BUFFER: Final = 8 << 20
LATE: Final = 0.020
"""A packet this much later than its call's earliest is late: a frame."""

_PORT: Final = re.compile(rb"^m=audio (\d+) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MediaSpec:
    """What to run. JSON-ready."""

    target: str
    """``sip:user@host:port``, an IPv4 literal."""

    calls: int
    seconds: float = 20.0
    """How long all of them are up and measured."""

    per_second: float = 25.0
    """Calls begun a second."""

    settle: float = 3.0
    """Seconds before measuring, once all are up."""


@dataclass(slots=True)
class MediaResult:
    """What the callers measured. JSON-ready."""

    spec: MediaSpec
    up: int
    """Calls that were answered."""

    setup_ms: float
    """Median time from INVITE to answer."""

    packets: int
    """Received while measuring."""

    missing: int
    """Sequence numbers that never came."""

    late: int
    """Packets later than :data:`LATE`."""

    late_p50_ms: float
    late_p99_ms: float
    late_p999_ms: float
    worst_ms: float
    sender_p99_ms: float
    """How late the callers' own packets left."""

    cpu_percent: float
    """Of a core, that the callers took while measuring."""


_RESULT: Final = TypeAdapter(MediaResult)
_SPEC: Final = TypeAdapter(MediaSpec)


def read_result(text: bytes) -> MediaResult:
    """A result from its JSON. Raises ``ValueError`` (pydantic's) for anything else."""
    return _RESULT.validate_json(text)


class _Media:
    """The media of a call whose packets go through the shared socket."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.remote = 0

    @property
    def leg(self) -> MediaLeg:
        raise RuntimeError("these calls have no leg of their own")

    async def offer(self, *, hold: bool | None = None) -> bytes:
        return (
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=audio {self._port} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n"
            "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n"
            f"a=rtcp:{self._port + 1 if self._port < 65535 else 9}\r\na=sendrecv\r\n"
        ).encode()

    async def set_answer(self, answer: bytes) -> None:
        port = _PORT.search(answer)
        if port is None:
            raise MediaError("no audio in the answer")
        self.remote = int(port[1])

    async def preview(self, answer: bytes) -> None:
        """Nothing is heard before the answer."""

    async def answer(self, offer: bytes) -> bytes:
        raise MediaError("these calls are not called")

    async def update(self, offer: bytes) -> bytes:
        raise MediaError("nothing can be changed")

    def tell(self, key: str) -> None:
        """Nobody listens for keys."""

    def close(self) -> None:
        """The socket is everybody's."""


@dataclass(slots=True)
class _Heard:
    """Packets received, column by column."""

    ports: list[npt.NDArray[np.int64]]
    sequences: list[npt.NDArray[np.int64]]
    times: list[npt.NDArray[np.float64]]


class _Lines:
    """All calls' packets, sent in slices of a tick."""

    def __init__(self, sock: socket.socket, host: str, ports: Sequence[int]) -> None:
        chance = np.random.default_rng(1)
        self._sock = sock
        self._receiver = Receiver(sock)
        self._speech = _speech()
        self._slices = []
        for number in range(SLICES):
            own = ports[number::SLICES]
            batch = Batch([(host, port) for port in own], HEADER + PAYLOAD)
            batch.data[:, 0] = 0x80
            batch.data[:, 8:12] = chance.integers(0, 256, (len(own), 4))
            begins = chance.integers(0, len(self._speech), len(own))
            self._slices.append((batch, begins))
        self.heard = _Heard([], [], [])
        self.sent_late: list[float] = []
        self.measuring = False
        self._ticks = 0

    async def run(self, seconds: float) -> None:
        """Send and receive for ``seconds``."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for tick in range(int(seconds / TICK)):
            number = self._ticks
            self._ticks += 1
            head = number.to_bytes(8, "big")[-2:] + (number * PAYLOAD).to_bytes(8, "big")[-4:]
            for part, (batch, begins) in enumerate(self._slices):
                due = began + (tick + part / SLICES) * TICK
                await asyncio.sleep(max(0.0, due - loop.time()))
                if self.measuring:
                    self.sent_late.append(time.monotonic() - due)
                batch.data[:, 2:8] = np.frombuffer(head, np.uint8)
                batch.data[:, HEADER:] = self._speech[(begins + number) % len(self._speech)]
                batch.send(self._sock)
                self._drain()

    def _drain(self) -> None:
        while True:
            data, ports, times = self._receiver.read()
            if self.measuring and len(ports):
                numbers = data[:, 2].astype(np.int64) << 8 | data[:, 3]
                self.heard.ports.append(ports)
                self.heard.sequences.append(numbers)
                self.heard.times.append(times)
            if len(ports) < 64:
                return


def _speech() -> npt.NDArray[np.uint8]:
    """Frames of µ-law: callers' questions with pauses between, again and again."""
    prompts = load_prompts(voices()[0])
    pcm = b"".join(bytes(prompt.at(8000).pcm) + bytes(16000) for prompt in prompts.values())
    encoded = np.frombuffer(UlawCodec().encode(pcm), np.uint8)
    return encoded[: len(encoded) // PAYLOAD * PAYLOAD].reshape(-1, PAYLOAD)


def lateness(
    sequences: npt.NDArray[np.int64], times: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], int]:
    """Seconds by which each packet was later than the earliest, and how many never came.

    ``sequences`` are 16-bit RTP sequence numbers of one source, in order of arrival; its packets
    are due 20 ms apart.
    """
    steps = (np.diff(sequences) + 0x8000) % 0x10000 - 0x8000
    numbers = np.concatenate([[0], np.cumsum(steps)])
    transit = times - times[0] - numbers * TICK
    missing = int(numbers.max() - numbers.min()) + 1 - len(np.unique(numbers))
    return transit - transit.min(), missing


async def fill_lines(spec: MediaSpec) -> MediaResult:
    """Run ``spec`` on this loop. Raises ``OSError`` where no socket can be had."""
    loop = asyncio.get_running_loop()
    host = spec.target.partition("@")[2].partition(":")[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        force = getattr(socket, "SO_RCVBUFFORCE", 33)
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, BUFFER)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        setups: list[float] = []
        async with SipEndpoint(host, 0, on_invite=_refuse, tcp=False) as endpoint:

            async def one(number: int) -> tuple[SipCall, _Media]:
                await asyncio.sleep(number / spec.per_second)
                media, began = _Media(sock.getsockname()[1]), loop.time()
                outgoing = await endpoint.call(spec.target, lambda: media)
                call = await outgoing.answered()
                setups.append(loop.time() - began)
                return call, media

            made = await asyncio.gather(*map(one, range(spec.calls)), return_exceptions=True)
            calls = [item for item in made if not isinstance(item, BaseException)]
            lines = _Lines(sock, host, [media.remote for _, media in calls])
            await lines.run(spec.settle)
            sys.stderr.write("up\n")
            sys.stderr.flush()
            lines.measuring, cpu, began = True, time.process_time(), loop.time()
            await lines.run(spec.seconds)
            share = (time.process_time() - cpu) / (loop.time() - began)
            sys.stderr.write("over\n")
            sys.stderr.flush()
            await asyncio.gather(*(call.hangup() for call, _ in calls))
    return _judged(spec, lines, setups, 100 * share)


def _judged(
    spec: MediaSpec, lines: _Lines, setups: Sequence[float], cpu_percent: float
) -> MediaResult:
    heard = lines.heard
    late, missing = np.zeros(0), 0
    if heard.ports:
        ports, sequences = np.concatenate(heard.ports), np.concatenate(heard.sequences)
        times = np.concatenate(heard.times)
        each = [lateness(sequences[ports == port], times[ports == port]) for port in set(ports)]
        late = np.concatenate([found for found, _ in each])
        missing = sum(lost for _, lost in each)
    ranks = np.percentile(late, [50, 99, 99.9, 100]) if len(late) else np.zeros(4)
    p50, p99, p999, worst = (round(1000 * float(value), 2) for value in ranks)
    own = lines.sent_late or [0.0]
    return MediaResult(
        spec=spec,
        up=len(setups),
        setup_ms=round(1000 * float(np.median(setups)), 1) if setups else 0.0,
        packets=len(late),
        missing=missing,
        late=int(np.count_nonzero(late > LATE)),
        late_p50_ms=p50,
        late_p99_ms=p99,
        late_p999_ms=p999,
        worst_ms=worst,
        sender_p99_ms=round(1000 * float(np.percentile(own, 99)), 2),
        cpu_percent=round(cpu_percent, 1),
    )


async def _refuse(invite: ServerInvite) -> None:
    await invite.reject(603)


def main() -> int:
    """Read, run, write."""
    result = uvloop.run(fill_lines(_SPEC.validate_json(sys.stdin.buffer.read())))
    sys.stdout.buffer.write(_RESULT.dump_json(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
