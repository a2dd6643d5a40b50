"""Metrics: what a call leaves in the registry, and that registries are apart."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ringtrue.agent.metrics import Metrics
from ringtrue.streaming.budget.deadline import Miss
from ringtrue.streaming.budget.ladder import LadderStep, Rung
from ringtrue.streaming.budget.silence import UnexplainedSilence
from ringtrue.streaming.clock import ClockStats
from ringtrue.streaming.ports import TransferOutcome
from ringtrue.streaming.record import CallRecord, Stage, TransferRecord, TurnRecord
from ringtrue.streaming.refusals import Refusal, RefusalReport
from ringtrue.streaming.turn_taking import TurnTaking


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Read one sample back through Prometheus's own parser."""
    for family in text_string_to_metric_families(metrics.render().decode()):
        for item in family.samples:
            if item.name == name and item.labels == labels:
                return float(item.value)
    return None


def record(**fields: Any) -> CallRecord:
    base: dict[str, Any] = {
        "call_id": "c1",
        "transport": "sip",
        "direction": "inbound",
        "agent": "reception",
        "rate": 8000,
        "answered_at": 100.0,
        "ended_at": 130.0,
        "outcome": "caller_hung_up",
    }
    return CallRecord(**base | fields)


def test_transfers_are_counted_by_what_came_of_them() -> None:
    metrics = Metrics()
    metrics.call_started("sip")
    outcomes = [TransferOutcome.FAILED, TransferOutcome.FAILED, TransferOutcome.TRANSFERRED]
    metrics.call_ended(record(transfers=[TransferRecord("desk", one, 110.0) for one in outcomes]))
    name = "ringtrue_transfers_total"
    assert sample(metrics, name, outcome="transfer_failed") == 2
    assert sample(metrics, name, outcome="transferred") == 1


def test_a_call_from_start_to_end() -> None:
    metrics = Metrics()
    metrics.call_started("sip")
    assert sample(metrics, "ringtrue_calls_active", transport="sip") == 1
    turn = TurnRecord(index=0, stalls=Counter({"first_chunk": 2}))
    metrics.frames_refused(RefusalReport(Refusal.FAR_END, 1, 0.0, 0.0))
    metrics.frames_refused(RefusalReport(Refusal.FAR_END, 2, 0.0, 1.0))
    metrics.call_ended(
        record(
            turns=[turn],
            interruptions=1,
            turn_taking=TurnTaking(
                speculations=4,
                confirmed=3,
                dropped=Counter(resumed=1),
                saved_ms=500,
                wasted_tokens=12,
                pauses=3,
                resumed=2,
                backchannels=2,
                idle_prompts=1,
            ),
            underruns=2,
            frames_sealed=1500,
            disclosure="partly",
            claims_replaced=2,
            packets_received=990,
            packets_lost=10,
            packets_late=10,
            frames_concealed=20,
            jitter_ms=7.0,
            media={"mos_conversational": 3.9},
            standing_delay_in_ms=45.0,
            errors=Counter({"RecognizerError": 1}),
        )
    )
    assert sample(metrics, "ringtrue_calls_active", transport="sip") == 0
    assert sample(metrics, "ringtrue_calls_total", transport="sip", outcome="caller_hung_up") == 1
    assert sample(metrics, "ringtrue_call_seconds_total", transport="sip") == 30
    assert sample(metrics, "ringtrue_interruptions_total") == 1
    assert sample(metrics, "ringtrue_speculations_total", fate="confirmed") == 3
    assert sample(metrics, "ringtrue_speculations_total", fate="resumed") == 1
    assert sample(metrics, "ringtrue_speculation_wasted_tokens_total") == 12
    assert sample(metrics, "ringtrue_speculation_saved_seconds_total") == 0.5
    assert sample(metrics, "ringtrue_agent_pauses_total", sound="backchannel") == 2
    assert sample(metrics, "ringtrue_agent_pauses_total", sound="interruption") == 1
    assert sample(metrics, "ringtrue_idle_prompts_total") == 1
    assert sample(metrics, "ringtrue_underruns_total") == 2
    assert sample(metrics, "ringtrue_frames_refused_total", reason="far_end") == 3
    assert sample(metrics, "ringtrue_frames_sealed_total") == 1500
    assert sample(metrics, "ringtrue_disclosures_total", heard="partly") == 1
    assert sample(metrics, "ringtrue_claims_replaced_total") == 2
    assert sample(metrics, "ringtrue_packets_total", fate="lost") == 10
    assert sample(metrics, "ringtrue_call_mos_sum") == 3.9
    assert sample(metrics, "ringtrue_call_mos_bucket", le="3.8") == 0
    assert sample(metrics, "ringtrue_call_loss_ratio_sum") == pytest.approx(0.02)
    assert sample(metrics, "ringtrue_call_jitter_seconds_bucket", le="0.005") == 0
    assert sample(metrics, "ringtrue_call_jitter_seconds_bucket", le="0.01") == 1
    assert sample(
        metrics, "ringtrue_call_standing_delay_seconds_sum", direction="in"
    ) == pytest.approx(0.045)
    assert sample(metrics, "ringtrue_stalls_total", stage="llm", reason="first_chunk") == 2
    assert sample(metrics, "ringtrue_errors_total", type="RecognizerError") == 1


def test_a_call_that_heard_nothing_counts_no_loss() -> None:
    metrics = Metrics()
    metrics.call_started("webrtc")
    metrics.call_ended(record(transport="webrtc", outcome=None))
    assert sample(metrics, "ringtrue_call_loss_ratio_count") == 0
    assert sample(metrics, "ringtrue_calls_total", transport="webrtc", outcome="error") == 1


def test_a_turn_is_observed_stage_by_stage() -> None:
    metrics = Metrics()
    moments = {
        Stage.SPEECH_ENDED: 1.0,
        Stage.TURN_ENDED: 1.3,
        Stage.FIRST_TOKEN: 1.35,
        Stage.FIRST_PHRASE: 1.4,
        Stage.FIRST_AUDIO: 1.45,
        Stage.FIRST_PACKET: 1.46,
    }
    metrics.turn(TurnRecord(index=0, stages=moments))
    assert sample(metrics, "ringtrue_turns_total") == 1
    assert sample(metrics, "ringtrue_turn_latency_seconds_sum") == pytest.approx(0.46)
    assert sample(metrics, "ringtrue_ttfa_seconds_sum") == pytest.approx(0.06)
    assert sample(metrics, "ringtrue_stage_seconds_sum", stage="endpointing") == pytest.approx(0.3)
    assert sample(metrics, "ringtrue_stage_seconds_count", stage="recognizer") is None


def test_refusals_and_stalls() -> None:
    metrics = Metrics()
    metrics.call_refused("full")
    metrics.stalled("stt", "final")
    assert sample(metrics, "ringtrue_calls_refused_total", reason="full") == 1
    assert sample(metrics, "ringtrue_stalls_total", stage="stt", reason="final") == 1


def test_the_clock_is_read_at_scrape_time() -> None:
    metrics = Metrics()
    stats = ClockStats()
    metrics.watch_clock(stats, lambda: 3)
    assert sample(metrics, "ringtrue_clock_lateness_seconds", quantile="1.0") == 0
    stats.ticks, stats.late, stats.busy = 500, 2, 0.25
    for lateness in [0.001] * 99 + [0.05]:
        stats.lateness.append(lateness)
    assert sample(metrics, "ringtrue_clock_ticks_total") == 500
    assert sample(metrics, "ringtrue_clock_late_ticks_total") == 2
    assert sample(metrics, "ringtrue_clock_busy_seconds_total") == 0.25
    assert sample(metrics, "ringtrue_clock_calls") == 3
    assert sample(metrics, "ringtrue_clock_lateness_seconds", quantile="0.5") == 0.001
    assert sample(metrics, "ringtrue_clock_lateness_seconds", quantile="1.0") == 0.05


def test_two_servers_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.call_started("sip")
    assert sample(other, "ringtrue_calls_active", transport="sip") is None
    assert sample(one, "process_open_fds") is not None


def test_what_was_late_what_was_done_and_what_stayed_silent() -> None:
    metrics = Metrics()
    metrics.call_started("sip")
    turn = TurnRecord(
        index=0,
        misses=[Miss("first_token", "slow_model", 0.2, 0.9), Miss("turn", "first_token", 0.8, 1.4)],
        ladder=[LadderStep(Rung.OPENER, "no_first_token", 101.0)],
    )
    silence = UnexplainedSilence(105.0, "llm", 0, 1.9)
    metrics.call_ended(record(turns=[turn], unexplained_silences=[silence]))
    missed = "ringtrue_turn_budget_miss_total"
    assert sample(metrics, missed, stage="first_token", reason="slow_model") == 1
    assert sample(metrics, missed, stage="turn", reason="first_token") == 1
    steps = "ringtrue_turn_ladder_steps_total"
    assert sample(metrics, steps, step="opener", reason="no_first_token") == 1
    assert sample(metrics, "ringtrue_unexplained_silence_total", cause="llm") == 1
