"""Scripts: the same chances for the same seed, and everything said there beforehand."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from scripted_agent import ScriptedAgent, voice

from ringtrue.loadtest.ear import find_speech
from ringtrue.loadtest.phone import Phone
from ringtrue.loadtest.scenario.reading import parse_scenario
from ringtrue.loadtest.scenario.schema import Scenario
from ringtrue.loadtest.scenario.steps import Noise
from ringtrue.loadtest.script import (
    UnspokenError,
    load_spoken,
    make_noise,
    script_of,
    text_file,
    texts_of,
)
from ringtrue.streaming.ports import EndReason


def scenario(steps: str, more: str = "") -> Scenario:
    return parse_scenario(f"name: x\ntitle: x\n{more}\nsteps:\n{steps}", "x.yaml")


@pytest.mark.virtual_time
async def test_every_kind_of_step_is_done() -> None:
    wanted = scenario(
        """
  - hear:
  - say: yeah
  - interrupt: {prompt: interruption, after_ms: 500}
  - backchannel: {prompt: uh_huh, after_ms: 300}
  - hear:
  - press: "12#"
  - hold: 1.5
  - noise: {seconds: 0.5, kind: cough}
  - say: {prompt: goodbye, answered: false}
  - wait: 0.5
  - hang_up:
""",
        "transports: [sip]",
    )
    answers = [voice(6), voice(6), voice(1)]
    async with ScriptedAgent(*answers, greeting=voice(1)) as agent, Phone() as phone:
        script = script_of(wanted, load_spoken(wanted), random.Random(1))
        result = await phone.call(agent.target, script)
    assert result.ok, result.detail
    assert [said.name for said in result.said] == ["yeah", "interruption"]
    assert [said.name for said in result.murmured] == ["uh_huh", "noise.cough", "goodbye"]
    assert result.said[1].interrupts
    assert agent.calls[0].digits == "12#"
    assert len(result.pressed) == 1
    (held,) = result.held
    assert len(held) == pytest.approx(1.5 * 8000, abs=800)
    assert result.ended is None


@pytest.mark.virtual_time
async def test_a_script_that_leaves_the_end_to_the_agent_does_not_hang_up() -> None:
    wanted = scenario("  - say: yeah\n  - agent_hangs_up: 5000\n")
    async with ScriptedAgent(voice(0.5), hang_up=True) as agent, Phone() as phone:
        result = await phone.call(
            agent.target, script_of(wanted, load_spoken(wanted), random.Random(1))
        )
    assert result.ok, result.detail
    assert result.ended is EndReason.CALLER_HUNG_UP


@pytest.mark.virtual_time
@pytest.mark.parametrize(("insist", "ok"), [("", False), ("insist: bye", True)])
async def test_a_caller_insists_where_the_agent_asks_instead_of_hanging_up(
    insist: str, ok: bool
) -> None:
    wanted = scenario(f"  - say: nothing_else\n  - agent_hangs_up: {{within_ms: 4000, {insist}}}\n")
    assert texts_of(wanted) == []
    async with ScriptedAgent(voice(1.5), voice(0.5), hang_up=True) as agent, Phone() as phone:
        result = await phone.call(
            agent.target, script_of(wanted, load_spoken(wanted), random.Random(1))
        )
    assert result.ok is ok, result.detail
    assert [said.name for said in result.said] == ["nothing_else", "bye"][: 1 + ok]
    if ok:
        assert result.ended is EndReason.CALLER_HUNG_UP


def test_a_text_without_its_audio_is_named(tmp_path: Path) -> None:
    wanted = scenario("  - say: {text: Where are you now}\n")
    assert texts_of(wanted) == ["Where are you now"]
    with pytest.raises(UnspokenError, match="Where are you"):
        load_spoken(wanted)
    path = text_file(tmp_path, "Where are you now", "rms")
    assert path != text_file(tmp_path, "Where are you now", "awb")
    assert path.parent == tmp_path


def test_a_file_that_is_no_recording_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"x\.wav"):
        load_spoken(scenario(f"  - say: {{wav: {tmp_path / 'x.wav'}}}\n"))


@pytest.mark.parametrize("kind", ["white", "hum", "cough"])
def test_noise_is_as_loud_as_it_should_be_and_the_same_again(kind: str) -> None:
    noise = Noise.model_validate({"seconds": 2.0, "dbfs": -30, "kind": kind})
    made = make_noise(noise, 3)
    assert made.pcm == make_noise(noise, 3).pcm
    assert made.seconds == pytest.approx(2.0)
    samples = np.frombuffer(made.pcm, "<i2").astype(float)
    loud = samples[: 8000 // 100]
    level = 20 * np.log10(np.sqrt(np.mean(loud**2)) / 32768)
    assert level == pytest.approx(-30, abs=2)
    if kind != "hum":
        assert made.pcm != make_noise(noise, 4).pcm


def test_a_cough_is_heard_as_a_sound() -> None:
    noise = Noise.model_validate({"seconds": 0.5, "dbfs": -26, "kind": "cough"})
    assert find_speech(make_noise(noise, 1).pcm, 8000)
