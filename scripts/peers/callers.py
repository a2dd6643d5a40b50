"""The callers: ``python callers.py < spec.json > result.json``.

Each speaks recorded prompts, waits for the answer, and measures at its own ear. The prompts are
the load test's. Twilio callers send and play 20 ms every 20 ms, as Twilio does; WebRTC callers
are aiortc's. What was heard, and when, is kept and looked at after the calls.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from standins import number_of

from ringtrue.loadtest.prompts import Prompt, load_prompts, voices

RATE: Final = 8000
FRAME: Final = 160
LOUD: Final = 1000
"""Samples above this are the agent's tone; its comfort noise and the mark are far below."""

QUIET_SECONDS: Final = 0.7
"""An answer is over when nothing was heard for so long."""

ANSWER_SECONDS: Final = 8.0
"""A turn without an answer by then has failed."""

QUESTIONS: Final = ("closing_time", "support", "interruption", "repeat")
"""Prompts that smart-turn v3 holds for complete in both voices (0.83 and more): how stacks treat
a hesitant caller is another question than how fast they are."""

GREETING_SECONDS: Final = 4.0
GAP_SECONDS: Final = 0.04
"""Silence longer than this inside one utterance is a dropout."""


@dataclass(frozen=True)
class Spec:
    """What to run."""

    transport: str
    """``twilio`` or ``webrtc``"""

    server: str
    """``ringtrue``, ``pipecat`` or ``fastrtc``: where and how it is rung differs."""

    port: int
    calls: int
    turns: int
    seed: int = 1
    stagger: float = 4.0
    auth_token: str = ""


@dataclass
class Turn:
    """One question; times are CLOCK_MONOTONIC."""

    asked: float
    """When the last speech sample was sent."""

    heard: float | None = None
    """When the first sample of the answer was heard."""

    number: int | None = None
    """Of the utterance heard first."""


@dataclass
class Report:
    """What one caller measured."""

    turns: list[Turn] = field(default_factory=list)
    seconds: float = 0.0
    dropouts: int = 0
    failure: str = ""
    skipped_ticks: int = 0


class Caller(ABC):
    """A mouth, an ear and a script; a transport moves the frames."""

    def __init__(self, spec: Spec, chance: random.Random, prompts: list[Prompt]) -> None:
        """``prompts`` are at 8 kHz."""
        self.spec = spec
        self.report = Report()
        self._chance = chance
        self._prompts = prompts
        self._mouth: deque[tuple[bytes, bool]] = deque()
        self._spoken = asyncio.Event()
        self._asked = 0.0
        self._frames: list[npt.NDArray[np.int16]] = []
        self._times: list[float] = []
        self._loud_at = 0.0

    @abstractmethod
    async def run(self) -> None:
        """Connect, converse, hang up."""

    def speak(self, now: float) -> bytes:
        """The next 20 ms of PCM to send at ``now``."""
        if not self._mouth:
            return bytes(2 * FRAME)
        pcm, last = self._mouth.popleft()
        if last:
            self._asked = now
            self._spoken.set()
        return pcm

    def hear(self, pcm: npt.NDArray[np.int16], now: float) -> None:
        """``pcm`` begins to sound at ``now``."""
        self._frames.append(pcm)
        self._times.append(now)
        if np.abs(pcm).max(initial=0) > LOUD:
            self._loud_at = now

    async def converse(self) -> None:
        """Hear the greeting, ask, hear the answers."""
        began = time.monotonic()
        try:
            await self._hear_out(began, GREETING_SECONDS)
            for turn in range(self.spec.turns):
                await asyncio.sleep(self._chance.uniform(0.2, 0.9))
                self._say(self._prompts[turn % len(self._prompts)])
                await self._spoken.wait()
                self.report.turns.append(Turn(self._asked))
                if not await self._hear_out(self._asked, ANSWER_SECONDS):
                    self.report.failure = self.report.failure or "a question was not answered"
        finally:
            self.report.seconds = time.monotonic() - began

    def _say(self, prompt: Prompt) -> None:
        self._spoken.clear()
        end = prompt.speech.end
        for start in range(0, len(prompt.pcm) // 2, FRAME):
            pcm = prompt.pcm[2 * start : 2 * (start + FRAME)].ljust(2 * FRAME, b"\0")
            self._mouth.append((pcm, start <= end < start + FRAME))

    async def _hear_out(self, since: float, seconds: float) -> bool:
        while self._loud_at <= since:
            if time.monotonic() > since + seconds:
                return False
            await asyncio.sleep(0.05)
        while time.monotonic() < self._loud_at + QUIET_SECONDS:  # noqa: ASYNC110 - it moves
            await asyncio.sleep(0.05)
        return True

    def settle(self) -> Report:
        """Look at what was heard."""
        if not self._frames:
            return self.report
        pcm = np.concatenate(self._frames)
        # By time, not by position: a stream may pause between answers.
        at = np.concatenate(
            [t + np.arange(len(f)) / RATE for t, f in zip(self._times, self._frames, strict=True)]
        )
        loud = np.flatnonzero(np.abs(pcm) > LOUD)
        if not len(loud):
            return self.report
        breaks = np.flatnonzero(np.diff(at[loud]) > GAP_SECONDS)
        begins = loud[np.concatenate([[0], breaks + 1])]
        ends = loud[np.concatenate([breaks, [len(loud) - 1]])]
        numbers = [
            number_of(pcm[b : min(e, b + RATE * 2 // 5)], RATE)
            for b, e in zip(begins, ends, strict=True)
        ]
        self.report.dropouts = sum(
            a is not None and a == b for a, b in zip(numbers, numbers[1:], strict=False)
        )
        times = [float(each) for each in at[begins]]
        for turn in self.report.turns:
            after = next((i for i, each in enumerate(times) if each > turn.asked), None)
            if after is not None and times[after] < turn.asked + ANSWER_SECONDS:
                turn.heard, turn.number = times[after], numbers[after]
        return self.report


async def run(spec: Spec) -> list[Report]:
    """Every caller of ``spec``."""
    from twilio_caller import TwilioCaller, prepare
    from webrtc_caller import WebRtcCaller

    kinds: dict[str, type[Caller]] = {"twilio": TwilioCaller, "webrtc": WebRtcCaller}
    prepare()
    spoken = [load_prompts(voice) for voice in voices()]

    async def one(number: int) -> Report:
        chance = random.Random(f"{spec.seed}/{number}")
        voice = chance.choice(spoken)
        prompts = [voice[name].at(RATE) for name in chance.sample(QUESTIONS, len(QUESTIONS))]
        _ = [prompt.speech for prompt in prompts]
        caller = kinds[spec.transport](spec, chance, prompts)
        await asyncio.sleep(chance.uniform(0, spec.stagger))
        try:
            async with asyncio.timeout(spec.turns * 30 + 30):
                await caller.run()
        except Exception as error:  # a caller that fails is a result
            caller.report.failure = f"{type(error).__name__}: {error}"[:200]
        report = caller.settle()
        missing = spec.turns - len(report.turns)
        report.turns += [Turn(0.0)] * missing
        return report

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in range(spec.calls)]
    return [task.result() for task in tasks]


def main() -> None:
    """Read a specification, write the reports."""
    spec = Spec(**json.load(sys.stdin))
    reports = asyncio.run(run(spec))
    json.dump([asdict(report) for report in reports], sys.stdout)


if __name__ == "__main__":
    main()
