"""A spawned target, called over all three transports, and listened to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from peers.loopback import ensure_ice_address
from ringtrue.loadtest.listening import listen
from ringtrue.loadtest.processes import FamilyProbe
from ringtrue.loadtest.results import RunResult, Transport
from ringtrue.loadtest.runner import RunPlan, run
from ringtrue.loadtest.scenario.reading import parse_scenario
from ringtrue.loadtest.scenario.schema import Scenario
from ringtrue.loadtest.spawn import Spawned, environment_of, laid_over, spawned

AGENT = """
name: brief
title: Brief
organisation: Meridian Supplies
greeting: How can I help?
dialogue:
  intents:
    hours: {examples: [opening hours], answers: [We are always open.]}
  fallbacks: [I did not get that.]
  give_up: {say: Goodbye., action: hangup}
"""

SCENARIO = """
name: greeting
title: Callers hear the greeting
agent: brief
steps:
  - hear:
  - hang_up:
expect: {disclosure_first: true, watermark: true, ends: caller}
serve:
  agent: brief
  agents: agents
  settings: {server: {name: Spawned}}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "brief.yaml").write_text(AGENT)
    return parse_scenario(SCENARIO, "greeting.yaml", base=tmp_path)


async def heard(
    scenario: Scenario, server: Spawned, transport: Transport, recordings: Path
) -> RunResult:
    plan = RunPlan(
        scenario=scenario,
        target=server.target(transport, "brief"),
        access=server.access,
        recordings=recordings,
        listened=1,
    )
    probe = FamilyProbe(server.process.pid)
    return await run(plan, probe=probe)


async def test_a_spawned_target_takes_calls_over_every_transport(
    scenario: Scenario, tmp_path: Path
) -> None:
    ensure_ice_address()
    async with spawned(scenario, tmp_path / "target", 1) as server:
        results = await asyncio.gather(
            *(heard(scenario, server, transport, tmp_path / transport) for transport in Transport)
        )
        judged = await listen(results[0], scenario, tmp_path / "sip", server.installation)
    for result, transport in zip(results, Transport, strict=True):
        (call,) = result.calls
        assert call.completed, call.detail
        assert call.transport is transport
        assert call.heard is not None
        assert call.heard.greeting_ms is not None
        assert result.load[-1].rss_bytes
    (call,) = judged.calls
    found = {expected.name: expected for expected in call.expectations}
    assert set(found) == {"ends", "disclosure_first", "watermark"}
    assert call.ok, call.expectations
    assert "automated" in found["disclosure_first"].evidence
    assert judged.notes == ("words and watermark were judged in 1 of 1 calls",)
    assert server.process.returncode == 0
    assert len(list((tmp_path / "target" / "records").glob("*.json"))) == 3
    assert not list((tmp_path / "target").glob("*.key"))


def test_settings_become_variables() -> None:
    settings = laid_over({"a": {"b": 1, "c": [1]}, "d": True}, {"a": {"b": "x"}, "e": {}})
    assert environment_of(settings) == {
        "RINGTRUE_A__B": "x",
        "RINGTRUE_A__C": "[1]",
        "RINGTRUE_D": "true",
        "RINGTRUE_E": "{}",
    }
