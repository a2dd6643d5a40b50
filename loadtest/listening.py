"""What is judged after a run, from recordings of some of its calls: words, and the watermark.

Recognition takes a core for a while and would disturb calls that are up, so it waits for their
end. The words are recognized with all that the agent can say (:mod:`.understanding`); the mark is
looked for by the target's own command, or by a published detection key.
"""

from __future__ import annotations

import json
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from ringtrue.config.agent_disclosure import LOCALES
from ringtrue.config.agent_schema import Agent, load_agents
from ringtrue.loadtest.ear import find_speech, utterances
from ringtrue.loadtest.expecting import late_names
from ringtrue.loadtest.results import Expected, MeasuredCall, RunResult
from ringtrue.loadtest.scenario.schema import Scenario
from ringtrue.loadtest.tool import Installation, ToolError
from ringtrue.loadtest.understanding import Listener, Understood, topics_of
from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.recognizers.vocabulary import normalize

GREETING: Final = "call.greeting"
MAX_EVIDENCE: Final = 160
FILES_AT_ONCE: Final = 20
"""Recordings that one command looks at."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """The agent's channel of a recording."""

    pcm: bytes
    rate: int


async def listen(
    result: RunResult,
    scenario: Scenario,
    recordings: Path,
    installation: Installation,
    *,
    detection_key: str | None = None,
) -> RunResult:
    """``result`` with the expectations judged that need ears, for the calls in ``recordings``.

    A note says of how many calls that is. Nothing raises but OSError: what can't be judged has
    failed, and says why.
    """
    wanted = scenario.expect
    if not late_names(wanted):
        return result
    heard = {
        call.id: _read(recordings / f"{call.id}.wav")
        for call in result.calls
        if call.heard is not None and (recordings / f"{call.id}.wav").exists()
    }
    found: dict[str, list[Expected]] = {name: [] for name in heard}
    if wanted.heard:
        await _words(result, scenario, heard, found)
    if wanted.watermark:
        await _marks(heard, found, recordings, installation, detection_key)
    note = f"words and watermark were judged in {len(heard)} of {len(result.calls)} calls"
    calls = tuple(
        replace(call, expectations=(*call.expectations, *found.get(call.id, ())))
        for call in result.calls
    )
    return replace(result, calls=calls, notes=(*result.notes, note))


def agent_of(scenario: Scenario) -> Agent | None:
    """The agent whose words are expected; None where its file isn't known here."""
    return load_agents(scenario.serve.agents).get(scenario.serve.agent)


async def _words(
    result: RunResult,
    scenario: Scenario,
    heard: Mapping[str, _Heard],
    found: Mapping[str, list[Expected]],
) -> None:
    agent = agent_of(scenario)
    names = {name: text for name, text in late_names(scenario.expect).items()
             if name != "watermark"}  # fmt: skip
    problem = None if agent is not None else f"no agent {scenario.serve.agent!r} is known here"
    understood: dict[str, list[Understood]] = {}
    if agent is not None:
        try:
            async with Listener(topics_of(agent)) as listener:
                for name, one in heard.items():
                    spoken = utterances(find_speech(one.pcm, one.rate), one.rate)
                    understood[name] = await listener.understand(one.pcm, one.rate, spoken)
        except RingtrueError as error:
            problem = f"not recognized: {error}"
    by_id = {call.id: call for call in result.calls}
    for name, expected in found.items():
        if agent is None or name not in understood:
            expected += [_failed(kind, text, problem or "") for kind, text in names.items()]
            continue
        words = understood[name]
        if scenario.expect.disclosure_first:
            expected.append(_disclosed(names["disclosure_first"], words[:1], agent))
        for prompt, topic in scenario.expect.says.items():
            text = names[f"says.{prompt}"]
            expected.append(_answered(by_id[name], heard[name], words, prompt, topic, text))


def _disclosed(text: str, first: Sequence[Understood], agent: Agent) -> Expected:
    locale = LOCALES.get(agent.language.partition("-")[0])
    machine = locale.machine if locale is not None else frozenset()
    heard = set(normalize(first[0].text)) if first else set()
    greets = bool(first) and GREETING in first[0].topics
    evidence = f"heard: {first[0].text}" if first else "nothing was heard"
    return Expected(
        name="disclosure_first",
        text=text,
        passed=greets and bool(heard & machine),
        evidence=evidence[:MAX_EVIDENCE],
    )


def _answered(
    call: MeasuredCall,
    audio: _Heard,
    words: Sequence[Understood],
    prompt: str,
    topic: str,
    text: str,
) -> Expected:
    """Whether every answer to ``prompt`` was about ``topic``."""
    assert call.heard is not None
    spans = utterances(find_speech(audio.pcm, audio.rate), audio.rate)
    zero = call.heard.agent[0].start_ms if call.heard.agent else 0.0
    offset = spans[0].start * 1000 / audio.rate - zero if spans else 0.0
    evidence, passed = "it was not said", False
    for turn in (turn for turn in call.heard.turns if turn.prompt == prompt):
        if turn.answer is None:
            return _failed(f"says.{prompt}", text, "no answer")
        at = turn.answer.start_ms + offset
        near = [
            said
            for span, said in zip(spans, words, strict=False)
            if span.start * 1000 / audio.rate - 60 <= at < span.end * 1000 / audio.rate
        ]
        topics = {found for said in near for found in said.topics}
        evidence = f"heard: {' '.join(said.text for said in near)}"
        passed = topic in topics
        if not passed:
            break
    return Expected(
        name=f"says.{prompt}", text=text, passed=passed, evidence=evidence[:MAX_EVIDENCE]
    )


async def _marks(
    heard: Mapping[str, _Heard],
    found: Mapping[str, list[Expected]],
    recordings: Path,
    installation: Installation,
    detection_key: str | None,
) -> None:
    text = "carries the watermark"
    names = list(heard)
    options = ["--detection-key", detection_key] if detection_key else []
    for first in range(0, len(names), FILES_AT_ONCE):
        some = names[first : first + FILES_AT_ONCE]
        files = [recordings / f"{name}.agent.wav" for name in some]
        for name, path in zip(some, files, strict=True):
            _write(path, heard[name])
        try:
            printed = await installation.run(
                "watermark", "detect", "--json", *options, *map(str, files), ok=(0, 1)
            )
            reports = json.loads(printed)["files"]
        except (ToolError, ValueError, KeyError) as error:
            for name in some:
                found[name].append(_failed("watermark", text, f"not looked for: {error}"))
            continue
        for name, report in zip(some, reports, strict=True):
            chance = report.get("false_alarm")
            evidence = f"chance of a false alarm {chance:.1e}" if chance is not None else "none"
            found[name].append(
                Expected(
                    name="watermark", text=text, passed=bool(report["found"]), evidence=evidence
                )
            )


def _failed(name: str, text: str, why: str) -> Expected:
    return Expected(name=name, text=text, passed=False, evidence=why[:MAX_EVIDENCE])


def _read(path: Path) -> _Heard:
    with wave.open(str(path), "rb") as wav:
        stereo = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").reshape(-1, 2)
        return _Heard(stereo[:, 1].tobytes(), wav.getframerate())


def _write(path: Path, heard: _Heard) -> None:
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(heard.rate)
        wav.writeframes(heard.pcm)
