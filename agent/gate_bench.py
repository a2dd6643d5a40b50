"""What the gate costs: sealing, checking, marking and digesting, as calls do it each tick."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from ringtrue.streaming.gate import Draft, Gate, Piece, Ticket, Unmarked, Watermarker
from ringtrue.streaming.ports import FRAME_MS, frame_bytes
from ringtrue.streaming.provenance import Sealer
from ringtrue.voices.watermark.keyring import MarkKeys
from ringtrue.voices.watermark.keys import MarkKey
from ringtrue.voices.watermark.marker import Marker

TICKS: Final = 250
"""Measured of each call: 5 s of speech."""

CHUNK_FRAMES: Final = 3
"""Frames in a sealed chunk; synthesizers push 20 to 100 ms at a time."""

RATES: Final = (8000, 16000)
CALLS: Final = (1, 100)


@dataclass(frozen=True, slots=True)
class GateCost:
    """CPU of one number of speaking calls, in microseconds of one core."""

    rate: int
    calls: int
    seal_us: float
    """To seal the audio of one frame, where it is made."""

    check_us: float
    """To check, digest and seal one frame, unmarked."""

    frame_us: float
    """To check, mark, digest and seal one frame: all of the gate."""

    @property
    def tick_ms(self) -> float:
        """One tick of all calls, in milliseconds."""
        return self.calls * self.frame_us / 1000

    @property
    def core_percent(self) -> float:
        """Of a core, while all calls speak."""
        return 100 * self.tick_ms / FRAME_MS

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"tick_ms": round(self.tick_ms, 3)}


class _Speaking:
    """One call's gate and the drafts that wait for it."""

    def __init__(self, number: int, rate: int, marker: Watermarker) -> None:
        self.gate = Gate(
            f"bench-{number}", rate, opened_at=0.0, last_heard=lambda: 0.0, watermarker=marker
        )
        self.ticket: Ticket = self.gate.open_utterance()
        self.sealer: Sealer = self.gate.provenance.utterance()

    def drafts(self, pcm: bytes, size: int) -> list[Draft]:
        chunk = self.sealer.seal(pcm, 0.0)
        return [
            Draft(self.ticket, (Piece(chunk, start, start + size),))
            for start in range(0, len(pcm), size)
        ]


def measure(rate: int, calls: int) -> GateCost:
    """The cost of ``calls`` that all speak at ``rate`` Hz. Blocking, some seconds."""
    keys = MarkKeys.of(MarkKey.generate())
    markers = [Marker(keys, rate, datetime.now(UTC)) for _ in range(calls)]
    markers[0].mark(bytes(frame_bytes(rate)), Draft().kind)  # compiled by now
    sealing, _ = _run(rate, [Unmarked()] * calls)
    return GateCost(
        rate,
        calls,
        round(sealing, 2),
        round(_run(rate, [Unmarked()] * calls)[1], 2),
        round(_run(rate, markers)[1], 2),
    )


def _run(rate: int, markers: list[Any]) -> tuple[float, float]:
    """Microseconds of sealing and of the gate, a frame."""
    size = frame_bytes(rate)
    chance = np.random.default_rng(1)
    noise = chance.normal(0, 2000, CHUNK_FRAMES * size // 2).astype("<i2").tobytes()
    calls = [_Speaking(number, rate, marker) for number, marker in enumerate(markers)]
    sealing = checking = 0.0
    ticks = max(CHUNK_FRAMES, TICKS // CHUNK_FRAMES * CHUNK_FRAMES)
    for _ in range(ticks // CHUNK_FRAMES):
        began = time.thread_time()
        waiting = [(call.gate, call.drafts(noise, size)) for call in calls]
        sealed = time.thread_time()
        for at in range(CHUNK_FRAMES):
            for gate, drafts in waiting:
                gate.admit(drafts[at], 0.02)
        sealing += sealed - began
        checking += time.thread_time() - sealed
    frames = ticks * len(calls)
    return 1e6 * sealing / frames, 1e6 * checking / frames


def lines(costs: list[GateCost]) -> list[str]:
    """For people."""
    return [
        f"gate at {cost.rate} Hz, {cost.calls} speaking: {cost.frame_us:.1f} µs a frame (of it "
        f"checks and digest {cost.check_us:.1f}), sealing {cost.seal_us:.1f} µs; "
        f"{cost.tick_ms:.2f} ms a tick, {cost.core_percent:.1f} % of a core"
        for cost in costs
    ]


def measure_all() -> list[GateCost]:
    """Every rate, one call and a hundred."""
    return [measure(rate, calls) for rate in RATES for calls in CALLS]
