"""A media leg without a network: what the far end sends is scripted, what it gets is kept."""

from __future__ import annotations

from collections import deque

from ringtrue.streaming.gate import SealedFrame, SealGuard
from ringtrue.streaming.ports import Inbound, LegStats, frame_bytes


class ScriptedLeg:
    """Implements ``MediaLeg``; always alive unless :attr:`heard` is set."""

    def __init__(self, rate: int = 8000, *, confirms: bool = False) -> None:
        """``confirms`` makes it report its play position, as Twilio does (see ``played``)."""
        self._rate = rate
        self._guard = SealGuard()
        self.inbound: deque[Inbound] = deque()
        self.sent: list[SealedFrame] = []
        self.sent_at: list[float] = []
        self.heard: float | None = None
        self.alive = True
        self.played = 0
        self.cleared = 0
        self.closed = False
        self._confirms = confirms
        self._stats = LegStats()
        self._now = 0.0

    @property
    def rate(self) -> int:
        return self._rate

    @property
    def stats(self) -> LegStats:
        return self._stats

    def play(self, pcm: bytes) -> None:
        """Let the far end send ``pcm`` from the next tick on."""
        size = frame_bytes(self._rate)
        for start in range(0, len(pcm), size):
            self.inbound.append(Inbound(pcm[start : start + size].ljust(size, b"\0")))

    def press(self, digits: str) -> None:
        """Let the far end press ``digits`` in the next tick."""
        self.inbound.append(Inbound(bytes(frame_bytes(self._rate)), digits=tuple(digits)))

    def pull(self, now: float) -> Inbound:
        self._now = now
        if self.inbound:
            return self.inbound.popleft()
        return Inbound(bytes(frame_bytes(self._rate)))

    def send(self, frame: SealedFrame, now: float) -> None:
        self.sent.append(self._guard.check(frame))
        self.sent_at.append(now)

    def last_heard(self) -> float | None:
        return self._now if self.alive else self.heard

    def heard_position(self) -> int | None:
        return self.played if self._confirms else None

    def clear(self) -> None:
        self.cleared += 1

    def close(self) -> None:
        self.closed = True

    @property
    def audio(self) -> bytes:
        """Everything sent so far."""
        return b"".join(frame.pcm for frame in self.sent)
