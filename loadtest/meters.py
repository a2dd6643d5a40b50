"""What a caller's end measures besides the audio's own shape: owed speech and packets' arrivals.

Sans-IO: positions are samples of the call's recording, ``now`` is seconds on a monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ringtrue.loadtest.ear import Span
from ringtrue.telephony.rtp.packet import timestamp_delta
from ringtrue.telephony.rtp.reception import JUMP, Reception

UNEXPLAINED_MS: Final = 1500
"""Silence of an agent who owes speech is a failure beyond this."""

REFERENCE_MS: Final = 60.0
"""Depth of the buffer by which a packet counts as late: what a phone usually holds."""

WINDOW_PACKETS: Final = 500
"""Packets (10 s) over which the fastest one sets the time that the others should have kept, so
that a drifting clock makes no packet late."""


def unexplained_silences(
    agent: Sequence[Span],
    caller: Sequence[Span],
    rate: int,
    *,
    begin: int,
    end: int,
    excused: Sequence[Span] = (),
    limit_ms: int = UNEXPLAINED_MS,
) -> list[Span]:
    """Silences longer than ``limit_ms`` in which the agent should have been heard.

    The agent owes speech from the answer (``begin``) until its greeting, from the end of each
    of ``caller`` (speech that expects an answer, in order) until its answer, and between two of
    its own utterances while the caller says nothing: who pauses that long has left the caller
    waiting. What follows its last utterance is the caller's own time to speak. ``end`` is where
    the call ended; ``excused`` are cut out of what is owed.
    """
    limit = limit_ms * rate // 1000
    opens = [begin, *(span.end for span in caller)]
    closes = [*(span.start for span in caller), end]
    found: list[Span] = []
    for start, stop in zip(opens, closes, strict=True):
        heard = [span for span in agent if span.end > start and span.start < stop]
        # With nothing heard at all the whole window was owed.
        edges = [start, *(edge for span in heard for edge in (span.start, span.end))]
        edges += [] if heard else [stop]
        for silence in (Span(a, b) for a, b in list(pairwise(edges))[::2] if b - a > limit):
            found += [part for part in _without(silence, excused) if len(part) > limit]
    return found


def _without(span: Span, excused: Sequence[Span]) -> list[Span]:
    """What is left of ``span``."""
    left = [span]
    for other in excused:
        left = [
            part
            for whole in left
            for part in (
                Span(whole.start, min(whole.end, other.start)),
                Span(max(whole.start, other.end), whole.end),
            )
            if part.end > part.start
        ]
    return left


CONTINUOUS: Final = 0.25
"""Seconds of timestamps between two packets beyond which the sender had been silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """How a stream's packets came in."""

    received: int
    lost: int
    late: int
    """Came more than :data:`REFERENCE_MS` after the fastest of their neighbours would have."""

    duplicate: int
    reordered: int
    jitter_ms: float
    """RFC 3550, section 6.4.1, at the end."""

    longest_wait_ms: float
    """Longest time between two packets of a continuous stream; a sender may fall silent."""


class ArrivalMeter:
    """Counts one stream's packets as they come in, duplicates apart."""

    def __init__(self, clock_rate: int, *, depth_ms: float = REFERENCE_MS) -> None:
        """``clock_rate`` of the timestamps in Hz."""
        self._rate = clock_rate
        self._depth = depth_ms / 1000
        self._reception = Reception(0, clock_rate)
        self._seen: deque[int] = deque(maxlen=WINDOW_PACKETS)
        self._transits: deque[float] = deque(maxlen=WINDOW_PACKETS)
        self._base: int | None = None
        self._newest = 0.0
        self._last = 0.0
        self._late = self._duplicate = self._reordered = 0
        self._longest = 0.0

    def packet(self, sequence_number: int, timestamp: int, now: float) -> None:
        """One packet arrived at ``now``: 16-bit sequence number, 32-bit timestamp."""
        behind = self._reception.behind(sequence_number)
        if sequence_number in self._seen:
            self._duplicate += 1
            return
        self._seen.append(sequence_number)
        self._reception.packet(sequence_number, timestamp, now)
        media = self._media_time(timestamp)
        transit = now - media
        first = not self._transits
        self._transits.append(transit)
        if transit - min(self._transits) > self._depth:
            self._late += 1
        if behind:
            self._reordered += 1
        elif not first and media - self._newest <= CONTINUOUS:
            self._longest = max(self._longest, now - self._last)
        self._newest = max(self._newest, media)
        self._last = now

    def _media_time(self, timestamp: int) -> float:
        """Seconds of ``timestamp`` since the stream's first; a stream that starts over is new."""
        if self._base is not None:
            media = timestamp_delta(timestamp, self._base) / self._rate
            if abs(media - self._newest) < JUMP:
                return media
        self._base, self._newest = timestamp, 0.0
        self._transits.clear()
        return 0.0

    @property
    def figures(self) -> Arrivals:
        """What was counted so far."""
        received = self._reception.received
        return Arrivals(
            received=received,
            lost=max(0, self._reception.expected - received),
            late=self._late,
            duplicate=self._duplicate,
            reordered=self._reordered,
            jitter_ms=round(self._reception.jitter * 1000, 2),
            longest_wait_ms=round(self._longest * 1000, 1),
        )
