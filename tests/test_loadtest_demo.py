"""The demonstration's judgement: over real SIP and RTP, of an agent that does right or wrong."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scripted_agent import ScriptedAgent

from ringtrue.config.agent_schema import Agent, load_agent, shipped_agents
from ringtrue.loadtest.demo import (
    MAX_SECONDS,
    DemoReport,
    Listened,
    demo_script,
    judge,
    listen,
    print_demo,
    write_demo,
)
from ringtrue.loadtest.phone import Phone
from ringtrue.loadtest.prompts import read_prompt
from ringtrue.loadtest.prompts.render import render
from ringtrue.loadtest.report import report_call
from ringtrue.loadtest.understanding import topics_of
from virtual_time import VirtualTimeLoop

pytestmark = [
    pytest.mark.virtual_time,
    pytest.mark.skipif(shutil.which("flite") is None, reason="the agent's voice needs flite"),
]

TOPICS = ["hours", "ask.order_number", "order_status.confirm", "order_status", "hours", "goodbye"]


@pytest.fixture(scope="module")
def agent() -> Agent:
    return load_agent(shipped_agents() / "reception.yaml")


@pytest.fixture(scope="module")
def spoken(agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One text of each topic, spoken by flite's default agent voice at 8 kHz."""
    folder = tmp_path_factory.mktemp("spoken")
    topics = topics_of(agent)
    texts = {topic: topics[topic][0] for topic in {*TOPICS, "call.fallback"}}
    texts["call.greeting"] = "I'm an automated assistant. How can I help?"
    for topic, text in texts.items():
        filled = text.replace("{order_number}", "4, 7, 1, 1, 8")
        render(filled, "slt", folder / f"{topic}.wav")
    return {topic: read_prompt(folder / f"{topic}.wav", topic).pcm for topic in texts}


async def demonstrate(agent: Agent, answers: list[bytes], greeting: bytes) -> DemoReport:
    peer = ScriptedAgent(*answers, greeting=greeting, delay=0.6, hang_up=True)
    async with peer, Phone() as phone:
        result = await phone.call(peer.target, demo_script("rms"), max_seconds=MAX_SECONDS)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    # The recognizer is a process: meanwhile virtual time must not run.
    with loop.frozen():
        listened = await listen(result, agent)
    return judge(result, report_call(result), listened)


async def test_a_good_call_passes(agent: Agent, spoken: dict[str, bytes], tmp_path: Path) -> None:
    report = await demonstrate(agent, [spoken[t] for t in TOPICS], spoken["call.greeting"])
    assert report.ok, [check for check in report.checks if not check.ok]
    assert len(report.checks) > 15
    assert len(report.heard) == len(report.call.agent) == 1 + len(TOPICS)
    console = Console(file=io.StringIO(), width=120)
    print_demo(report, console)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "interrupts" in printed
    assert "FAILED" not in printed


async def test_wrong_answers_fail_and_the_files_say_so(
    agent: Agent, spoken: dict[str, bytes], tmp_path: Path
) -> None:
    answers = [spoken[topic] for topic in TOPICS]
    answers[0] = spoken["call.fallback"]
    cut = np.frombuffer(answers[1], "<i2").copy()
    cut[8000:8480] = 0
    answers[1] = cut.tobytes()
    peer = ScriptedAgent(*answers, greeting=spoken["call.greeting"], delay=3.5)
    async with peer, Phone() as phone:
        result = await phone.call(peer.target, demo_script("awb"), max_seconds=MAX_SECONDS)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    with loop.frozen():
        listened = await listen(result, agent)
    report = judge(result, report_call(result), listened)
    failed = {check.name for check in report.checks if not check.ok}
    assert not report.ok
    assert {
        "the conversation ran to its end",
        "opening_hours: the right answer",
        "opening_hours: answer begins",
        "blocks dropped in speech",
        "the agent hung up",
    } <= failed
    assert "order_number: the right answer" not in failed
    write_demo(report, result, tmp_path / "demo")
    written = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert written["ok"] is False
    assert {check["name"] for check in written["checks"] if not check["ok"]} == failed
    with wave.open(str(tmp_path / "demo" / "call.wav")) as wav:
        assert wav.getnchannels() == 2
        seconds = wav.getnframes() / wav.getframerate()
    assert seconds == pytest.approx(report.call.duration_ms / 1000, abs=0.1)


async def test_a_call_nobody_answers_fails(agent: Agent) -> None:
    peer = ScriptedAgent(answer_status=486)
    async with peer, Phone() as phone:
        result = await phone.call(peer.target, demo_script("rms"))
    report = judge(result, report_call(result), await listen(result, agent))
    assert not report.ok
    assert not any(check.ok for check in report.checks if "answer" in check.name)


async def test_without_words_no_answer_counts_as_right(
    agent: Agent, spoken: dict[str, bytes]
) -> None:
    peer = ScriptedAgent(greeting=spoken["call.greeting"], hang_up=True)
    async with peer, Phone() as phone:
        result = await phone.call(peer.target, demo_script("rms"))
    report = judge(result, report_call(result), Listened(problem="not recognized: no model"))
    wrong = [
        check
        for check in report.checks
        if "right answer" in check.name or "right words" in check.name
    ]
    assert wrong
    assert not any(check.ok for check in wrong)
