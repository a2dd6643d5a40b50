"""A network in virtual time for user agents: seeded loss, duplicates and reordering."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.events import Event, IncomingInvite, ReInvite, ReOfferDue
from ringtrue.telephony.sip.message import Request, Response, parse_message
from ringtrue.telephony.sip.transport import Close, Hop, Send
from ringtrue.telephony.sip.ua import UserAgent

OFFER = b"v=0\r\no=offer\r\n"
ANSWER = b"v=0\r\no=answer\r\n"


def sequence(prefix: str) -> Callable[[], str]:
    """Readable tokens: prefix-1, prefix-2 …"""
    numbers = count(1)
    return lambda: f"{prefix}{next(numbers)}"


@dataclass
class Station:
    """One user agent at one address, and everything it said and saw."""

    net: Net
    hop: Hop
    ua: UserAgent
    on_event: Callable[[Station, Event], None] | None = None
    events: list[tuple[float, Event]] = field(default_factory=list)
    sent: list[tuple[float, Request | Response]] = field(default_factory=list)

    def of(self, kind: type[Event]) -> list[Event]:
        """Its events of one kind."""
        return [event for _, event in self.events if type(event) is kind]

    def lines(self) -> list[tuple[float, str]]:
        """(time, method or status) of what it sent."""
        return [
            (at, m.method if isinstance(m, Request) else f"{m.status} {m.cseq_method}")
            for at, m in self.sent
        ]

    def count(self, line: str) -> int:
        """How often it sent ``line``."""
        return sum(1 for _, sent in self.lines() if sent == line)


class Net:
    """Carries datagrams (and, unharmed, streams) between stations; time only moves by events."""

    def __init__(
        self, seed: int = 0, *, loss: float = 0.0, duplicate: float = 0.0, jitter: float = 0.0
    ) -> None:
        self.now = 0.0
        self.loss, self.duplicate, self.jitter = loss, duplicate, jitter
        self.delay = 0.010
        self._rng = random.Random(seed)
        self._order = count()
        self._wire: list[tuple[float, int, bytes, Hop, Hop]] = []
        self.stations: dict[tuple[str, int], Station] = {}
        self.tap: Callable[[Station, Hop, bytes], bool] | None = None
        """Sees every message before the network; False drops it."""

        self.parses = True
        """Keep what stations send, read; off where they answer what can't be read either."""

        self.last = b""

    def add(
        self,
        name: str,
        host: str,
        *,
        policy: Policy | None = None,
        transport: str = "udp",
        on_event: Callable[[Station, Event], None] | None = None,
    ) -> Station:
        """A station on port 5060 of ``host``."""
        ua = UserAgent(
            lambda hop: (host, 5060),
            policy,
            token=sequence(name),
            rng=random.Random(7),
        )
        station = Station(self, Hop(transport, host, 5060), ua, on_event)
        self.stations[host, 5060] = station
        return station

    def inject(self, data: bytes, source: Hop, target: Hop) -> None:
        """Put a foreign message on the wire."""
        heapq.heappush(self._wire, (self.now + self.delay, next(self._order), data, source, target))

    def flush(self) -> None:
        """Take what the stations want to send and tell their owners what happened."""
        busy = True
        while busy:
            busy = False
            for station in self.stations.values():
                for output in station.ua.outputs():
                    busy = True
                    if isinstance(output, Close):
                        station.ua.disconnected(output.hop, self.now)
                        continue
                    self._transmit(station, output)
                for event in station.ua.events():
                    busy = True
                    station.events.append((self.now, event))
                    if station.on_event is not None:
                        station.on_event(station, event)

    def _transmit(self, station: Station, output: Send) -> None:
        self.last = output.data
        if self.parses and output.data[:1].isalpha():  # keepalives are no messages
            station.sent.append((round(self.now, 6), parse_message(output.data)))
        if self.tap is not None and not self.tap(station, output.hop, output.data):
            return
        copies = 1
        if output.hop.transport == "udp":
            copies += self._rng.random() < self.duplicate
        for _ in range(copies):
            if output.hop.transport == "udp" and self._rng.random() < self.loss:
                continue
            at = self.now + self.delay + self._rng.random() * self.jitter
            source = Hop(output.hop.transport, station.hop.host, station.hop.port)
            entry = (at, next(self._order), output.data, source, output.hop)
            heapq.heappush(self._wire, entry)

    def run(self, until: float) -> None:
        """Let everything up to ``until`` happen."""
        self.flush()
        for _ in range(100_000):
            due = [
                (when, station)
                for station in self.stations.values()
                if (when := station.ua.next_timer()) is not None
            ]
            timer = min((when for when, _ in due), default=float("inf"))
            arrival = self._wire[0][0] if self._wire else float("inf")
            if min(timer, arrival) > until:
                self.now = max(self.now, until)
                return
            self.now = max(self.now, min(timer, arrival))
            if arrival <= timer:
                _, _, data, source, target = heapq.heappop(self._wire)
                station = self.stations.get((target.host, target.port))
                if station is not None:
                    station.ua.receive(data, source, self.now)
            else:
                for when, station in due:
                    if when <= self.now:
                        station.ua.handle_timer(self.now)
            self.flush()
        raise AssertionError("the network never comes to rest")


A, B = "10.0.0.1", "10.0.0.2"
TARGET = f"sip:bob@{B}"


def answering(station: Station, event: Event) -> None:
    """Answer calls and changes at once."""
    if isinstance(event, IncomingInvite | ReInvite):
        station.ua.accept(event.call, ANSWER, station.net.now)
    elif isinstance(event, ReOfferDue):
        station.ua.reinvite(event.call, OFFER, station.net.now, after_glare=True)


def pair(
    seed: int = 0, *, loss: float = 0.0, duplicate: float = 0.0, jitter: float = 0.0
) -> tuple[Net, Station, Station]:
    net = Net(seed, loss=loss, duplicate=duplicate, jitter=jitter)
    return net, net.add("a", A, on_event=answering), net.add("b", B, on_event=answering)


def incoming(station: Station) -> str:
    (event,) = station.of(IncomingInvite)
    return event.call


def request(
    method: str, *extra: str, to: str = TARGET, branch: str = "x1", body: str = ""
) -> bytes:
    lines = [
        f"{method} {TARGET} SIP/2.0",
        f"Via: SIP/2.0/UDP {A}:5060;branch=z9hG4bK{branch}",
        "Max-Forwards: 70",
        f"From: <sip:alice@{A}>;tag=f1",
        f"To: <{to}>" if "<" not in to else f"To: {to}",
        "Call-ID: c1",
        f"CSeq: 1 {method}",
        f"Contact: <sip:alice@{A}>",
        *extra,
        f"Content-Length: {len(body)}",
        "",
        body,
    ]
    return "\r\n".join(lines).encode()


def alone(policy: Policy | None = None) -> tuple[Net, Station, Hop]:
    """A station and the hop of a hand-written peer."""
    net = Net()
    return net, net.add("b", B, policy=policy), Hop("udp", A, 5060)


def answer_to(net: Net, station: Station, source: Hop, data: bytes) -> Response | None:
    """The last response to ``data``, if any."""
    before = len(station.sent)
    station.ua.receive(data, source, net.now)
    net.flush()
    sent = [m for _, m in station.sent[before:] if isinstance(m, Response)]
    return sent[-1] if sent else None
