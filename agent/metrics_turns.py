"""Metrics of turn-taking, counted from call records as calls end."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from ringtrue.streaming.turn_taking import TurnTaking


class TurnTakingMetrics:
    """One server's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Start all at zero."""

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"ringtrue_{name}", text, labels, registry=registry)

        self._speculations = counter(
            "speculations",
            "Answers begun before their turn had ended, by what came of them",
            "fate",
        )
        self._saved = counter(
            "speculation_saved_seconds", "Work of answers that was done before their turn had ended"
        )
        self._wasted = counter(
            "speculation_wasted_seconds", "Speech synthesized for answers that were dropped"
        )
        self._tokens = counter(
            "speculation_wasted_tokens", "Pieces of text of answers that were dropped"
        )
        self._pauses = counter(
            "agent_pauses", "Times that the agent paused for a sound of the caller, by what it was",
            "sound",
        )  # fmt: skip
        self._paused = counter("agent_paused_seconds", "How long the agent paused so")
        self._idle = counter("idle_prompts", "Times that a silent caller was spoken to")

    def count(self, record: TurnTaking) -> None:
        """A call is over."""
        self._speculations.labels("confirmed").inc(record.confirmed)
        for reason, count in record.dropped.items():
            self._speculations.labels(reason).inc(count)
        self._saved.inc(record.saved_ms / 1000)
        self._wasted.inc(record.wasted_ms / 1000)
        self._tokens.inc(record.wasted_tokens)
        self._pauses.labels("backchannel").inc(record.backchannels)
        self._pauses.labels("noise").inc(record.false_interruptions)
        self._pauses.labels("interruption").inc(record.pauses - record.resumed)
        self._paused.inc(record.paused_ms / 1000)
        self._idle.inc(record.idle_prompts)
