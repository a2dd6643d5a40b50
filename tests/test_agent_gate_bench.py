"""The gate's bench measures frames that pass, and says so in figures that fit together."""

from __future__ import annotations

import pytest

from ringtrue.agent import gate_bench
from ringtrue.agent.gate_bench import GateCost, lines, measure
from ringtrue.streaming.gate import Gate
from ringtrue.streaming.refusals import Refusal


def test_what_is_measured_passes_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_bench, "TICKS", 6)
    gates: list[Gate] = []
    kept = gate_bench._Speaking.__init__

    def keep(self: gate_bench._Speaking, *args: object) -> None:
        kept(self, *args)  # type: ignore[arg-type]
        gates.append(self.gate)

    monkeypatch.setattr(gate_bench._Speaking, "__init__", keep)
    cost = measure(8000, 3)
    assert len(gates) == 9
    assert all(gate.stats.speech == 6 for gate in gates)
    assert not any(gate.stats.refused[reason] for gate in gates for reason in Refusal)
    assert cost.seal_us > 0
    assert cost.frame_us > 0


def test_the_figures_fit_together() -> None:
    cost = GateCost(rate=8000, calls=100, seal_us=2.0, check_us=5.0, frame_us=20.0)
    assert cost.tick_ms == pytest.approx(2.0)
    assert cost.core_percent == pytest.approx(10.0)
    assert cost.as_dict()["tick_ms"] == 2.0
    assert lines([cost]) == [
        "gate at 8000 Hz, 100 speaking: 20.0 µs a frame (of it checks and digest 5.0), "
        "sealing 2.0 µs; 2.00 ms a tick, 10.0 % of a core"
    ]
