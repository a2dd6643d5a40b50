"""A gate to be tested, and what speaks for its call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringtrue.streaming.gate import (
    Draft,
    FrameKind,
    Gate,
    GatePolicy,
    Refusal,
    UtteranceDigest,
)

RATE = 8000
SPEECH = bytes(range(160)) * 2
SILENCE = bytes(320)


class Far:
    """A far end whose last sign of life the test sets."""

    def __init__(self) -> None:
        self.heard: float | None = 0.0

    def __call__(self) -> float | None:
        return self.heard


def make(
    far: Callable[[], float | None] | None = None,
    *,
    call_id: str = "c1",
    digests: list[UtteranceDigest] | None = None,
    **options: Any,
) -> Gate:
    """A gate opened at t=0."""
    return Gate(
        call_id,
        RATE,
        opened_at=0.0,
        last_heard=far or Far(),
        policy=GatePolicy(far_end_timeout=10, far_end_grace=5, max_age=30),
        on_digest=None if digests is None else digests.append,
        **options,
    )


class Voice:
    """What speaks for a gate's call: seals frames of one utterance."""

    def __init__(self, gate: Gate) -> None:
        self.ticket = gate.open_utterance()
        self.sealer = gate.provenance.utterance()

    def says(self, pcm: bytes = SPEECH, at: float = 0.0, **fields: Any) -> Draft:
        """The next frame, made at ``at``."""
        return Draft.whole(self.ticket, self.sealer.seal(pcm, at, **fields))


def refused(gate: Gate, draft: Draft, now: float) -> Refusal:
    """Admit and return the one reason for which silence went out."""
    before = gate.stats.refused.copy()
    frame = gate.admit(draft, now)
    assert frame.pcm == SILENCE
    assert frame.kind is FrameKind.SILENCE
    (reason,) = (gate.stats.refused - before).elements()
    return reason


class Leave:
    """A licence that holds until it is told otherwise, or raises."""

    voice, consent = "v_1", "serial-1"

    def __init__(self, until: float = 1e9) -> None:
        self.until = until

    def holds(self, now: float) -> bool:
        if self.until < 0:
            raise RuntimeError("the register is gone")
        return now < self.until
