"""STUN on the port of SIP: the keepalive of a flow over UDP (RFC 5626 §4.4.2, RFC 8489).

A binding request goes to whoever we are registered at. Its answer shows that the flow lives and
by which address the far end sees us; where none comes, or that address has changed, the flow has
failed and has to be set up again.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Final, Protocol

from ringtrue.telephony.sip.core import Core
from ringtrue.telephony.sip.keepalive import DATAGRAM_SECONDS, SHORTEST
from ringtrue.telephony.sip.transport import Hop

COOKIE: Final = 0x2112A442
REQUEST: Final = 0x0001
SUCCESS: Final = 0x0101
XOR_MAPPED_ADDRESS: Final = 0x0020

RTO: Final = 0.5
REQUESTS: Final = 7
LAST_WAIT: Final = 16 * RTO
"""Retransmissions double from RTO; so long after the last the transaction has failed
(RFC 8489 §6.2.1)."""

MAX_WAITING: Final = 64
"""Requests that may wait for their answers, over all flows."""

_HEAD: Final = struct.Struct(">HHI12s")
_ATTRIBUTE: Final = struct.Struct(">HH")

Mapped = tuple[bytes, int]
"""Address (4 or 16 bytes) and port."""


def binding_request(transaction: bytes) -> bytes:
    """A binding request with the transaction id ``transaction`` (12 bytes)."""
    return _HEAD.pack(REQUEST, 0, COOKIE, transaction)


def is_stun(data: bytes) -> bool:
    """Whether it is a STUN message and no SIP (RFC 8489 §5)."""
    return len(data) >= _HEAD.size and data[0] < 4 and data[4:8] == COOKIE.to_bytes(4)


def mapped_address(data: bytes) -> Mapped | None:
    """XOR-MAPPED-ADDRESS of a success response; None where there is none, or it can't be read."""
    kind, length, _, transaction = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if kind != SUCCESS or length != len(body):
        return None
    at = 0
    while at + _ATTRIBUTE.size <= len(body):
        name, size = _ATTRIBUTE.unpack_from(body, at)
        value = body[at + 4 : at + 4 + size]
        if name == XOR_MAPPED_ADDRESS and len(value) == size and size in (8, 20):
            mask = COOKIE.to_bytes(4) + transaction
            port = int.from_bytes(value[2:4]) ^ (COOKIE >> 16)
            return bytes(a ^ b for a, b in zip(value[4:], mask, strict=False)), port
        at += 4 + size + -size % 4
    return None


class Bindings:
    """Requests that wait for their answers."""

    def __init__(self) -> None:
        """None does."""
        self._waiting: dict[bytes, tuple[Hop, Callable[[Mapped | None], None]]] = {}

    def expect(self, transaction: bytes, hop: Hop, heard: Callable[[Mapped | None], None]) -> None:
        """Call ``heard`` with what the answer from ``hop`` says; the oldest beyond
        :data:`MAX_WAITING` is forgotten."""
        while len(self._waiting) >= MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[transaction] = hop, heard

    def forget(self, transaction: bytes) -> None:
        """Nothing is waited for any more."""
        self._waiting.pop(transaction, None)

    def receive(self, data: bytes, source: Hop) -> bool:
        """Whether a datagram is STUN, which nobody else needs to look at. Never raises."""
        if not is_stun(data):
            return False
        transaction = data[8:20]
        hop, heard = self._waiting.get(transaction, (None, None))
        known = hop is not None and (hop.host, hop.port) == (source.host, source.port)
        if known and heard is not None and data[:2] == SUCCESS.to_bytes(2):
            del self._waiting[transaction]
            heard(mapped_address(data))
        return True


class BindingContext(Protocol):
    """The user agent, as this keepalive sees it."""

    core: Core
    random: random.Random
    bindings: Bindings


class BindingKeepalive:
    """Binding requests on one UDP flow until it is stopped, or lost."""

    def __init__(
        self,
        context: BindingContext,
        hop: Hop,
        on_lost: Callable[[float], None],
        *,
        flow_timer: int | None = None,
    ) -> None:
        """``on_lost`` is called with the time; ``flow_timer`` is the far end's, in seconds."""
        self._context = context
        self.hop = hop
        self._on_lost = on_lost
        low, high = DATAGRAM_SECONDS
        if flow_timer is not None:
            high = max(SHORTEST, min(high, float(flow_timer)))
            low = max(SHORTEST, min(low, 0.8 * high))
        self._interval = (low, high)
        self._due: float | None = None
        self._transaction: bytes | None = None
        self._sent = 0
        self._asked_at = 0.0
        self._mapped: Mapped | None = None
        self._moved = False

    def start(self, now: float) -> None:
        """Ask at once, to learn the flow's address, and again and again."""
        self._due = now
        self._context.core.schedule.track(self)

    def stop(self) -> None:
        """Ask no more."""
        self._due = None
        self._forget()
        self._context.core.schedule.track(self)

    def next_timer(self) -> float | None:
        """The next request, its repetition, or the end of waiting for its answer."""
        return self._due

    def handle_timer(self, now: float) -> None:
        """Ask, ask again, or give the flow up."""
        if self._due is None or self._due > now:
            return
        if self._moved or self._sent >= REQUESTS:
            self.stop()
            self._on_lost(now)
            return
        if self._transaction is None:
            self._transaction = self._context.random.randbytes(12)
            self._context.bindings.expect(self._transaction, self.hop, self._heard)
        self._context.core.send(binding_request(self._transaction), self.hop)
        self._sent += 1
        wait = LAST_WAIT if self._sent == REQUESTS else RTO * 2 ** (self._sent - 1)
        self._due = now + wait
        self._asked_at = now

    def _heard(self, mapped: Mapped | None) -> None:
        """The flow lives; under another address it is another flow (§4.4.2)."""
        self._transaction, self._sent = None, 0
        self._moved = None not in (mapped, self._mapped) and mapped != self._mapped
        self._mapped = mapped or self._mapped
        if not self._moved:
            self._due = self._asked_at + self._context.random.uniform(*self._interval)
        self._context.core.schedule.track(self)

    def _forget(self) -> None:
        if self._transaction is not None:
            self._context.bindings.forget(self._transaction)
        self._transaction, self._sent = None, 0
