"""What ``/metrics`` shows. One registry per server; no state is shared between servers.

Labels have few and fixed values: no call ids, numbers or words. Durations are in seconds, as
Prometheus asks, though records hold milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ringtrue.agent.metrics_turns import TurnTakingMetrics
from ringtrue.streaming.clock import ClockStats
from ringtrue.streaming.record import INTERVALS, CallRecord, TurnRecord
from ringtrue.streaming.refusals import RefusalReport

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

LATENCY: Final = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Bucket bounds of stage latencies: 200 ms, the budget of the first audio, is one of them."""

DELAY: Final = (0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
"""Bucket bounds of jitter and standing delay."""

RATIO: Final = (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)

OPINION: Final = (1.5, 2.0, 2.58, 3.1, 3.6, 3.8, 4.03, 4.2, 4.34, 4.4)
"""Bucket bounds of opinion scores; 4.34, 4.03, 3.6, 3.1 and 2.58 divide G.107 Annex B's classes."""


class _ClockCollector(Collector):
    """Reads the media clock's counters at scrape time, so that a tick pays nothing for them."""

    def __init__(self, stats: ClockStats, calls: Callable[[], int]) -> None:
        self._stats = stats
        self._calls = calls

    def collect(self) -> Iterable[Metric]:
        """Counters since the start; lateness over the last minute."""
        stats = self._stats
        for name, text, value in (
            ("ticks", "Media ticks run", stats.ticks),
            ("late_ticks", "Media ticks more than half a frame late", stats.late),
            ("skipped_ticks", "Media ticks given up after a stall", stats.skipped),
            ("faults", "Calls dropped from the clock because their tick raised", stats.faults),
            ("busy_seconds", "Time spent inside media ticks", stats.busy),
        ):
            yield CounterMetricFamily(f"ringtrue_clock_{name}", text, value=value)
        ordered = sorted(stats.lateness)
        lateness = GaugeMetricFamily(
            "ringtrue_clock_lateness_seconds",
            "Lateness of media ticks over the last minute",
            labels=["quantile"],
        )
        for quantile in (0.5, 0.99, 1.0):
            at = min(len(ordered) - 1, int(quantile * len(ordered)))
            lateness.add_metric([str(quantile)], ordered[at] if ordered else 0.0)
        yield lateness
        yield GaugeMetricFamily(
            "ringtrue_clock_calls", "Calls the media clock drives", value=self._calls()
        )


class Metrics:
    """One server's metrics. Every method is cheap enough for the event loop."""

    def __init__(self) -> None:
        """Start all at zero."""
        self.registry = CollectorRegistry()
        registry = self.registry
        ProcessCollector(registry=registry)
        self._active = Gauge(
            "ringtrue_calls_active", "Calls in progress", ["transport"], registry=registry
        )
        self._calls = Counter(
            "ringtrue_calls", "Calls ended", ["transport", "outcome"], registry=registry
        )
        self._refused = Counter(
            "ringtrue_calls_refused", "Calls not taken", ["reason"], registry=registry
        )
        self._seconds = Counter(
            "ringtrue_call_seconds", "Length of ended calls", ["transport"], registry=registry
        )
        self._turns = Counter("ringtrue_turns", "Answers begun", registry=registry)
        self._turn_latency = Histogram(
            "ringtrue_turn_latency_seconds",
            "Caller's last speech sample to the answer's first packet",
            buckets=LATENCY,
            registry=registry,
        )
        self._ttfa = Histogram(
            "ringtrue_ttfa_seconds",
            "First speakable text to the first packet of speech",
            buckets=LATENCY,
            registry=registry,
        )
        self._stages = Histogram(
            "ringtrue_stage_seconds",
            "One stage of a turn",
            ["stage"],
            buckets=LATENCY,
            registry=registry,
        )
        self._transfers = Counter(
            "ringtrue_transfers", "Callers handed over, or not", ["outcome"], registry=registry
        )
        self._interruptions = Counter(
            "ringtrue_interruptions", "Answers cut by the caller", registry=registry
        )
        self._turn_taking = TurnTakingMetrics(registry)
        self._underruns = Counter(
            "ringtrue_underruns", "Gaps inside an utterance", registry=registry
        )
        self._inbound_dropped = Counter(
            "ringtrue_inbound_blocks_dropped",
            "Caller audio the graph was too slow to take",
            registry=registry,
        )
        self._disclosures = Counter(
            "ringtrue_disclosures",
            "Calls by how much was heard of the disclosure that an AI speaks",
            ["heard"],
            registry=registry,
        )
        self._claims = Counter(
            "ringtrue_claims_replaced",
            "Sentences that claimed that a person speaks, and were not spoken",
            registry=registry,
        )
        self._sealed = Counter(
            "ringtrue_frames_sealed", "Frames that passed the gate", registry=registry
        )
        self._frames_refused = Counter(
            "ringtrue_frames_refused",
            "Frames that were not sent: the gate put marked comfort noise in their place",
            ["reason"],
            registry=registry,
        )
        self._voices_refused = Counter(
            "ringtrue_voices_refused",
            "Calls whose agent names a cloned voice that could not speak",
            ["reason"],
            registry=registry,
        )
        self._voices_revoked = Counter(
            "ringtrue_voices_revoked",
            "Calls in which a cloned voice gave way to the stock voice",
            ["reason"],
            registry=registry,
        )
        self._packets = Counter(
            "ringtrue_packets", "Packets from callers", ["fate"], registry=registry
        )
        self._concealed = Counter(
            "ringtrue_frames_concealed", "Caller frames that were made up", registry=registry
        )
        self._loss = Histogram(
            "ringtrue_call_loss_ratio",
            "Share of a call's packets that were lost or late",
            buckets=RATIO,
            registry=registry,
        )
        self._jitter = Histogram(
            "ringtrue_call_jitter_seconds",
            "Interarrival jitter at a call's end (RFC 3550 6.4.1)",
            buckets=DELAY,
            registry=registry,
        )
        self._opinion = Histogram(
            "ringtrue_call_mos",
            "Estimated opinion score of what was heard of a caller, delay included (G.107)",
            buckets=OPINION,
            registry=registry,
        )
        self._standing = Histogram(
            "ringtrue_call_standing_delay_seconds",
            "Largest standing delay of a call",
            ["direction"],
            buckets=DELAY,
            registry=registry,
        )
        self._stalls = Counter(
            "ringtrue_stalls", "Deadlines missed by a stage", ["stage", "reason"], registry=registry
        )
        self._misses = Counter(
            "ringtrue_turn_budget_miss",
            "Stages of turns that took longer than allotted, and whole turns",
            ["stage", "reason"],
            registry=registry,
        )
        self._steps = Counter(
            "ringtrue_turn_ladder_steps",
            "What was done about turns that ran late",
            ["step", "reason"],
            registry=registry,
        )
        self._silences = Counter(
            "ringtrue_unexplained_silence",
            "Silences of over 1.5 s while an answer was owed",
            ["cause"],
            registry=registry,
        )
        self._errors = Counter(
            "ringtrue_errors", "Errors of calls, by type", ["type"], registry=registry
        )
        self._task_restarts = Counter(
            "ringtrue_task_restarts",
            "Times that one of the server's standing tasks failed and was begun again",
            registry=registry,
        )

    def task_restarted(self) -> None:
        """One of the server's standing tasks failed, and is begun again."""
        self._task_restarts.inc()

    def call_started(self, transport: str) -> None:
        """A call was answered."""
        self._active.labels(transport).inc()

    def call_ended(self, record: CallRecord) -> None:
        """A call is over and its record complete."""
        transport = record.transport
        self._active.labels(transport).dec()
        self._calls.labels(transport, record.outcome or "error").inc()
        if record.ended_at is not None:
            self._seconds.labels(transport).inc(max(0.0, record.ended_at - record.answered_at))
        for transfer in record.transfers:
            self._transfers.labels(str(transfer.outcome)).inc()
        self._interruptions.inc(record.interruptions)
        self._turn_taking.count(record.turn_taking)
        self._underruns.inc(record.underruns)
        self._inbound_dropped.inc(record.inbound_dropped)
        self._sealed.inc(record.frames_sealed)
        if record.disclosure is not None:
            self._disclosures.labels(record.disclosure).inc()
        self._claims.inc(record.claims_replaced)
        missing = record.packets_lost + record.packets_late
        expected = record.packets_received + record.packets_lost
        self._packets.labels("received").inc(record.packets_received)
        self._packets.labels("lost").inc(record.packets_lost)
        self._packets.labels("late").inc(record.packets_late)
        self._concealed.inc(record.frames_concealed)
        if expected:
            self._loss.observe(missing / expected)
            self._jitter.observe(record.jitter_ms / 1000)
        if "mos_conversational" in record.media:
            self._opinion.observe(record.media["mos_conversational"])
        self._standing.labels("in").observe(record.standing_delay_in_ms / 1000)
        self._standing.labels("out").observe(record.standing_delay_out_ms / 1000)
        if record.voice_refused is not None:
            self._voices_refused.labels(record.voice_refused).inc()
        for name, count in record.errors.items():
            self._errors.labels(name).inc(count)
        for turn in record.turns:
            for reason, count in turn.stalls.items():
                self._stalls.labels("llm", reason).inc(count)
            for miss in turn.misses:
                self._misses.labels(miss.stage, miss.reason).inc()
            for step in turn.ladder:
                self._steps.labels(str(step.rung), step.reason).inc()
        for silence in record.unexplained_silences:
            self._silences.labels(silence.cause).inc()

    def call_unanswered(self, record: CallRecord) -> None:
        """A call we placed was not answered."""
        self._calls.labels(record.transport, record.outcome or "error").inc()

    def call_refused(self, reason: str) -> None:
        """A call was not taken."""
        self._refused.labels(reason).inc()

    def frames_refused(self, report: RefusalReport) -> None:
        """A gate told of frames that were not sent."""
        self._frames_refused.labels(str(report.reason)).inc(report.frames)

    def voice_revoked(self, reason: str) -> None:
        """A call's cloned voice gave way to the stock voice."""
        self._voices_revoked.labels(reason).inc()

    def turn(self, turn: TurnRecord) -> None:
        """The first packet of an answer was written: observe its latencies."""
        self._turns.inc()
        for name in INTERVALS:
            seconds = turn.interval(name)
            if seconds is None:
                continue
            if name == "turn_latency":
                self._turn_latency.observe(seconds)
            elif name == "ttfa":
                self._ttfa.observe(seconds)
            else:
                self._stages.labels(name).observe(seconds)

    def stalled(self, stage: str, reason: str) -> None:
        """A stage other than the LLM (``stt``, ``tts``) missed its deadline.

        The LLM's stalls are counted from the call record.
        """
        self._stalls.labels(stage, reason).inc()

    def watch_clock(self, stats: ClockStats, calls: Callable[[], int]) -> None:
        """Show a media clock's counters; ``calls`` gives how many calls it drives."""
        self.registry.register(_ClockCollector(stats, calls))

    def render(self) -> bytes:
        """The exposition text, of content type :data:`CONTENT_TYPE`."""
        return generate_latest(self.registry)
