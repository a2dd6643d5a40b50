"""A scenario's steps as a caller's script, with everything that is said loaded beforehand."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from ringtrue.loadtest.caller import Script, VirtualCaller
from ringtrue.loadtest.prompts import Prompt, load_prompts, read_prompt
from ringtrue.loadtest.scenario.schema import Scenario
from ringtrue.loadtest.scenario.steps import (
    Action,
    AgentHangsUp,
    Backchannel,
    HangUp,
    Hear,
    Hold,
    Interrupt,
    Line,
    Noise,
    Say,
    Wait,
    flattened,
)

NOISE_RATE: Final = 8000
HUM_HZ: Final = 100.0
COUGH_SECONDS: Final = 0.35
"""Each cough of a coughing noise; as long a pause follows."""

Spoken = Mapping[str, Mapping[str, Prompt]]
"""Voice → what is to be said (see :func:`key_of`) → the audio."""


class UnspokenError(ValueError):
    """A text of the scenario has no audio."""


def key_of(line: Line) -> str:
    """What identifies the words of a step among a scenario's."""
    if line.prompt is not None:
        return line.prompt
    if line.wav is not None:
        return f"wav:{line.wav}"
    return f"text:{line.text}"


def lines_of(scenario: Scenario) -> list[Line]:
    """All that its callers may say, in order."""
    does = [step.does for step in flattened(scenario.steps)]
    said = [each.insist if isinstance(each, AgentHangsUp) else each for each in does]
    return [line for line in said if isinstance(line, Line)]


def texts_of(scenario: Scenario) -> list[str]:
    """The texts that must be synthesized, each once."""
    return list(dict.fromkeys(line.text for line in lines_of(scenario) if line.text is not None))


def text_file(folder: Path, text: str, voice: str) -> Path:
    """Where the synthesis of ``text`` in ``voice`` is kept."""
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.{voice}.wav"


def load_spoken(scenario: Scenario, texts: Path | None = None) -> Spoken:
    """Everything the scenario says, in each of its voices.

    ``texts`` is the folder of synthesized texts. Raises ``ValueError`` naming a file that can't
    be used, :class:`UnspokenError` for a text without audio, OSError where one can't be read.
    """
    lines = lines_of(scenario)
    spoken: dict[str, dict[str, Prompt]] = {}
    for voice in scenario.caller.voices:
        recorded = load_prompts(voice)
        spoken[voice] = {}
        for line in lines:
            spoken[voice][key_of(line)] = _prompt(line, voice, recorded, texts)
    return spoken


def _prompt(line: Line, voice: str, recorded: Mapping[str, Prompt], texts: Path | None) -> Prompt:
    if line.prompt is not None:
        return recorded[line.prompt]
    if line.wav is not None:
        return read_prompt(line.wav, line.name)
    assert line.text is not None
    if texts is None:
        raise UnspokenError(f"nothing was synthesized for the text {line.text[:60]!r}")
    return read_prompt(text_file(texts, line.text, voice), line.name, line.text)


def warm(spoken: Spoken, rates: Iterable[int]) -> None:
    """Resample and measure every prompt now, so that no clock has to wait for it."""
    for prompts in spoken.values():
        for prompt in prompts.values():
            for rate in rates:
                _ = prompt.at(rate).speech


def script_of(scenario: Scenario, spoken: Spoken, chance: random.Random) -> Script:
    """One caller's script. All of its chances are drawn from ``chance`` here and now."""
    prompts = spoken[chance.choice(scenario.caller.voices)]
    steps = [(step, _drawn(step, chance)) for step in flattened(scenario.steps)]

    async def script(caller: VirtualCaller) -> None:
        for step, drawn in steps:
            await _do(caller, step, prompts, drawn)
        if not caller.hung_up and not isinstance(steps[-1][0].does, AgentHangsUp):
            await caller.hangup()

    return script


def _drawn(step: Action, chance: random.Random) -> float:
    """What chance decides in a step: a pause's length, a noise's seed."""
    if isinstance(step.does, Wait):
        return chance.uniform(step.does.seconds[0], step.does.seconds[-1])
    return chance.getrandbits(32) if isinstance(step.does, Noise) else 0.0


async def _do(
    caller: VirtualCaller, step: Action, prompts: Mapping[str, Prompt], drawn: float
) -> None:
    match step.does:
        case Say() as line:
            await caller.say(prompts[key_of(line)], murmur=not line.answered)
        case Interrupt() as line:
            await caller.interrupt(prompts[key_of(line)], round(line.after_ms))
        case Backchannel() as line:
            await caller.backchannel(prompts[key_of(line)], round(line.after_ms))
        case Hear() as hear:
            await caller.hear_out(hear.begin_ms / 1000, hear.end_ms / 1000, round(hear.quiet_ms))
        case Wait():
            await caller.pause(drawn)
        case Noise() as noise:
            await caller.say(make_noise(noise, int(drawn)), murmur=True)
        case Hold() as hold:
            await caller.hold(hold.seconds)
        case AgentHangsUp() as end:
            insist = None if end.insist is None else prompts[key_of(end.insist)]
            await caller.expect_hangup(end.within_ms / 1000, insist)
        case HangUp():
            await caller.hangup()
        case str() as digits:
            await caller.press(digits)
        case other:
            raise AssertionError(other)


def make_noise(noise: Noise, seed: int) -> Prompt:
    """The noise as audio; the same for the same seed."""
    random_ = np.random.default_rng(seed)
    count = max(1, round(noise.seconds * NOISE_RATE))
    level = 32768 * 10 ** (noise.dbfs / 20)
    if noise.kind == "hum":
        samples = np.sqrt(2) * np.sin(2 * np.pi * HUM_HZ * np.arange(count) / NOISE_RATE)
    else:
        samples = random_.normal(0.0, 1.0, count)
    if noise.kind == "cough":
        length = round(COUGH_SECONDS * NOISE_RATE)
        phase = np.arange(count) % (2 * length)
        samples *= np.where(phase < length, np.exp(-4.0 * phase / length), 0.0)
    pcm = np.clip(np.rint(samples * level), -32768, 32767).astype("<i2")
    return Prompt(f"noise.{noise.kind}", "", pcm.tobytes(), NOISE_RATE)
