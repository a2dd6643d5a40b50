"""Runs made up for tests of what reads them: no server, no audio, seeded chances."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from ringtrue.loadtest.report import CallReport, Stretch, TurnReport
from ringtrue.loadtest.results import (
    Clock,
    Expected,
    LoadSample,
    Machine,
    MeasuredCall,
    Network,
    Outcome,
    Refusal,
    RunResult,
    Speculation,
    Transport,
)


def turn(
    latency_ms: float | None,
    *,
    said_ms: float = 5000.0,
    stop_ms: float | None = None,
    server: dict[str, Any] | None = None,
    prompt: str = "closing_time",
) -> TurnReport:
    """A turn whose words end at ``said_ms``."""
    answer = None
    if latency_ms is not None:
        answer = Stretch(said_ms + latency_ms, said_ms + latency_ms + 2000)
    return TurnReport(
        prompt=prompt,
        text="When do you close?",
        said=Stretch(said_ms - 1500, said_ms),
        interrupts=stop_ms is not None,
        stop_ms=stop_ms,
        answer=answer,
        latency_ms=latency_ms,
        premature=False,
        server=server,
    )


def server_turn(latency_ms: float, said_ms: float = 5000.0) -> dict[str, Any]:
    """A target's record of a turn that took ``latency_ms``, of which 10 ms are the network's."""
    inside = latency_ms - 10
    at = {
        "speech_ended": said_ms,
        "vad_stopped": said_ms + 0.3 * inside,
        "transcript": said_ms + 0.5 * inside,
        "turn_ended": said_ms + 0.5 * inside,
        "first_token": said_ms + 0.7 * inside,
        "first_phrase": said_ms + 0.75 * inside,
        "first_audio": said_ms + 0.95 * inside,
        "first_packet": said_ms + inside,
    }
    spans = {
        "endpointing": ("speech_ended", "turn_ended"),
        "recognizer": ("vad_stopped", "transcript"),
        "language": ("turn_ended", "first_token"),
        "phrase": ("first_token", "first_phrase"),
        "synthesis": ("first_phrase", "first_audio"),
        "wire": ("first_audio", "first_packet"),
        "ttfa": ("first_phrase", "first_packet"),
        "turn_latency": ("speech_ended", "first_packet"),
    }
    intervals = {name: round(at[b] - at[a], 1) for name, (a, b) in spans.items()}
    misses = []
    if latency_ms > 500:
        spent = intervals["language"]
        misses.append(
            {"stage": "first_token", "reason": "slow_model", "allotted_ms": 100, "spent_ms": spent}
        )
    return {
        "index": 0,
        "at_ms": at,
        "intervals_ms": intervals,
        "stalls": {},
        "misses": misses,
        "ladder": [{"step": "opener", "reason": "slow_model", "at_ms": 1.0} for _ in misses],
    }


def heard(turns: Sequence[TurnReport], **changes: Any) -> CallReport:
    """What was heard in a call of these turns."""
    fields: dict[str, Any] = {
        "name": "caller",
        "ok": True,
        "failure": None,
        "detail": "",
        "setup_ms": 20.0,
        "greeting_ms": 600.0,
        "duration_ms": 30_000.0,
        "ended": None,
        "turns": tuple(turns),
        "agent": (Stretch(600.0, 3000.0),),
        "dropouts": (),
        "pauses": (),
        "concealed_frames": 0,
        "packets_received": 1500,
        "packets_lost": 0,
        "packets_late": 0,
        "jitter_ms": 0.4,
        "skipped_frames": 0,
        "server": None,
    }
    return CallReport(**fields | changes)


def completed(
    name: str, latencies: Sequence[float | None], *, at: float = 0.0, **changes: Any
) -> MeasuredCall:
    """An answered call with one turn per latency, 30 s long."""
    turns = [turn(ms, said_ms=5000.0 + 6000 * n) for n, ms in enumerate(latencies)]
    fields: dict[str, Any] = {
        "id": name,
        "seed": 1,
        "transport": Transport.SIP,
        "outcome": Outcome.COMPLETED,
        "started_s": at,
        "answered_s": at + 0.02,
        "ended_s": at + 30.0,
        "turns_expected": len(latencies),
        "network": Network(packets_received=1500, packets_sent=1500, jitter_ms=0.4),
        "heard": heard(turns),
    }
    return MeasuredCall(**fields | changes)


def refused(
    name: str, *, at: float = 0.0, retry: float | None = 4.0, turns: int = 2
) -> MeasuredCall:
    """A call answered with 503."""
    return MeasuredCall(
        id=name,
        seed=1,
        transport=Transport.SIP,
        outcome=Outcome.REFUSED,
        detail="503 Service Unavailable",
        started_s=at,
        ended_s=at + 0.01,
        refusal=Refusal(
            status=503, reason="Service Unavailable", retry_after_s=retry, after_ms=8.0
        ),
        turns_expected=turns,
    )


def unanswered(name: str, *, turns: int = 2) -> MeasuredCall:
    """A call that nobody took."""
    return MeasuredCall(
        id=name,
        seed=1,
        transport=Transport.SIP,
        outcome=Outcome.UNANSWERED,
        detail="no answer within 10 s",
        started_s=0.0,
        ended_s=10.0,
        turns_expected=turns,
    )


def run_of(calls: Sequence[MeasuredCall], **changes: Any) -> RunResult:
    """A run of these calls."""
    fields: dict[str, Any] = {
        "scenario": "inbound reception",
        "target": "sip:reception@127.0.0.1:5060",
        "seed": 7,
        "calls_planned": len(calls),
        "duration_s": 60.0,
        "clock": Clock(method="shared", ticks=3000),
        "calls": tuple(calls),
    }
    return RunResult(**fields | changes)


def sample_run(calls: int = 40, *, seed: int = 7, speculative: bool = True) -> RunResult:
    """A run as a real one might go: mostly good, with every kind of failure once or more."""
    chance = random.Random(seed)
    base = 260 if speculative else 520
    made: list[MeasuredCall] = []
    for number in range(calls):
        at = round(number * 1.5, 2)
        name = f"call-{number:04d}"
        turns = []
        for index in range(4):
            said = 5000.0 + 6500 * index
            latency = round(base + chance.lognormvariate(4.6, 0.6), 1)
            record = server_turn(latency, said)
            stop = round(chance.uniform(60, 190), 1) if index == 2 else None
            turns.append(turn(latency, said_ms=said, stop_ms=stop, server=record))
        late = chance.random() < 0.05
        greets = 2400.0 if late else round(chance.uniform(350, 900), 1)
        expectations = (
            Expected(
                name="greeting_within",
                text="hears a greeting within 2 s",
                passed=not late,
                evidence=f"first sample {greets:.0f} ms after the answer",
                at_ms=greets,
                value=greets,
                limit=2000,
            ),
            Expected(
                name="stops_within",
                text="agent stops within 200 ms of barge-in",
                passed=True,
                evidence="120 ms",
                value=120,
                limit=200,
            ),
        )
        made.append(
            completed(
                name,
                [None] * 4,
                at=at,
                expectations=expectations,
                heard=heard(turns, greeting_ms=greets),
            )
        )
    made[3] = refused("call-0003", at=4.5, turns=4)
    made[11] = unanswered("call-0011", turns=4)
    broken_off = made[17]
    assert broken_off.heard is not None
    made[17] = completed(
        "call-0017",
        [],
        at=broken_off.started_s,
        outcome=Outcome.FAILED,
        detail="the agent did not come to an end within 30 s <script>alert(1)</script>",
        ended_s=broken_off.started_s + 9,
        turns_expected=4,
        heard=heard(broken_off.heard.turns[:1], silences=(Stretch(7000, 9100),), ok=False),
    )
    load = []
    for second in range(90):
        up = sum(c.answered_s is not None and c.answered_s <= second < c.ended_s for c in made)
        load.append(
            LoadSample(
                at_s=second,
                up=up,
                cpu_cores=round(0.05 + 0.018 * up + chance.uniform(0, 0.03), 3),
                rss_bytes=360_000_000 + 150_000 * second,
                descriptors=40 + 3 * up,
            )
        )
    return run_of(
        made,
        seed=seed,
        duration_s=90.0,
        ramp_s=60.0,
        began="2026-02-03T10:00:00+00:00",
        versions={"ringtrue": "0.1.0", "python": "3.11.2", "pipecat-ai": "1.14.0"},
        machine=Machine(cpu="Example CPU", cores=2, memory_bytes=8_000_000_000, system="Linux 6.1"),
        load=tuple(load),
        speculation=Speculation(
            enabled=speculative,
            begun=150 if speculative else 0,
            confirmed=121 if speculative else 0,
            dropped=29 if speculative else 0,
            wasted_audio_ms=31_000 if speculative else 0,
        ),
    )
