"""The demonstration: one call to the reception agent, judged by what its caller hears."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from ringtrue.config.agent_schema import Agent, load_agent, shipped_agents
from ringtrue.loadtest.caller import CallResult, Script, VirtualCaller
from ringtrue.loadtest.ear import utterances
from ringtrue.loadtest.phone import Phone
from ringtrue.loadtest.prompts import load_prompts
from ringtrue.loadtest.report import CallReport, Stretch, TurnReport, report_call
from ringtrue.loadtest.timeline import plain_table, print_call
from ringtrue.loadtest.understanding import Understood, topics_of, understand
from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.ports import EndReason

AGENT: Final = "reception"

GREETING_MS: Final = 2000.0
ANSWER_MS: Final = 3000.0
STOP_MS: Final = 1000.0
CONCEALED_PERCENT: Final = 1.0
"""Part of the frames within speech that may have been lost or late."""

INTERRUPT_AFTER_MS: Final = 2500
MAX_SECONDS: Final = 150.0

EXPECTED: Final[Mapping[str, str | None]] = {
    "opening_hours": "hours",
    "order_status": "ask.order_number",
    "order_number": "order_status.confirm",
    "confirm": None,
    "interruption": "hours",
    "goodbye": "nothing_more",
}
"""What the caller says, in this order → topic of the right answer (see ``topics_of``).

None for the answer that is cut off before its words could tell what it was.
"""

INTERRUPTION: Final = "interruption"

RecordSource = Callable[[], Awaitable[Mapping[str, Any] | None]]
"""Gives the server's record of the call, once it is over."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that had to go right."""

    name: str
    ok: bool
    measured: str
    wanted: str


@dataclass(slots=True)
class DemoReport:
    """How the demonstration went."""

    call: CallReport
    checks: list[Check]
    heard: list[tuple[Stretch, Understood]] = field(default_factory=list)
    """The agent's utterances in words, as recognized from what the caller heard."""

    wav: Path | None = None
    """The stereo recording, where it was written."""

    report: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether everything went right."""
        return all(check.ok for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "ok": self.ok,
            "checks": [asdict(check) for check in self.checks],
            "call": self.call.as_dict(),
            "heard": [asdict(stretch) | asdict(words) for stretch, words in self.heard],
            "recording": None if self.wav is None else self.wav.name,
        }


async def run_demo(
    target: str,
    *,
    out_dir: Path | None = None,
    record: RecordSource | None = None,
    agent: Agent | None = None,
    host: str = "127.0.0.1",
    voice: str = "rms",
    codec: str = "PCMU",
) -> DemoReport:
    """Call ``target`` (``sip:reception@host:port``), converse, and judge.

    ``agent`` is what the server runs (default: the shipped reception); its texts are what the
    answers are matched against. With ``out_dir``, ``report.json`` and ``call.wav`` (caller left,
    agent right) are written there. A call that fails is a report that isn't ok; raises OSError
    only where the files can't be written or no socket can be bound.
    """
    agent = agent or load_agent(shipped_agents() / f"{AGENT}.yaml")
    async with Phone(host, codecs=[codec]) as phone:
        result = await phone.call(target, demo_script(voice), name="demo", max_seconds=MAX_SECONDS)
    call = report_call(result, await record() if record is not None else None)
    report = judge(result, call, await listen(result, agent))
    if out_dir is not None:
        write_demo(report, result, out_dir)
    return report


def print_demo(report: DemoReport, console: Console) -> None:
    """Print the time line, the stages and the checks."""
    print_call(report.call, console, {stretch: words.text for stretch, words in report.heard})
    console.print("\nchecks", style="bold")
    table = plain_table()
    for title in ("", "check", "measured", "wanted"):
        table.add_column(title)
    for check in report.checks:
        mark = "[green]ok[/]" if check.ok else "[red]FAILED[/]"
        table.add_row(mark, check.name, check.measured, check.wanted)
    console.print(table)
    if report.wav is not None:
        console.print(f"\nrecording: {report.wav}\nreport: {report.report}", soft_wrap=True)


def demo_script(voice: str) -> Script:
    """The caller's side of the conversation, spoken by ``voice`` (see ``load_prompts``)."""
    prompts = load_prompts(voice)

    async def script(caller: VirtualCaller) -> None:
        await caller.hear_out()
        await caller.pause(0.3)
        for name in ("opening_hours", "order_status", "order_number"):
            await caller.say(prompts[name])
            await caller.hear_out()
            await caller.pause(0.3)
        await caller.say(prompts["confirm"])
        await caller.interrupt(prompts[INTERRUPTION], after_ms=INTERRUPT_AFTER_MS)
        await caller.hear_out()
        await caller.pause(0.3)
        await caller.say(prompts["goodbye"])
        await caller.wait_for_agent_to_start()
        await caller.expect_hangup(15)

    return script


@dataclass(frozen=True, slots=True)
class Listened:
    """The agent's utterances in words."""

    words: tuple[Understood, ...] = ()
    """One per utterance, in order."""

    problem: str | None = None
    """Why there are none."""


async def listen(result: CallResult, agent: Agent) -> Listened:
    """Recognize what the caller heard; a recognizer that fails is a problem, not an error."""
    recording = result.recording
    if recording is None or not result.agent:
        return Listened(problem="nothing was heard")
    spoken = utterances(result.agent, recording.rate)
    try:
        words = await understand(recording.agent, recording.rate, spoken, topics_of(agent))
    except RingtrueError as error:
        return Listened(problem=f"not recognized: {error}")
    return Listened(tuple(words))


def judge(result: CallResult, call: CallReport, listened: Listened) -> DemoReport:
    """Check everything that had to go right; ``call`` is ``report_call(result, ...)``."""
    heard, problem = listened.words, listened.problem
    checks = [
        Check(
            "the conversation ran to its end",
            result.ok,
            "yes" if result.ok else f"{result.failure}: {result.detail}",
            "yes",
        ),
        _within("greeting: begins", call.greeting_ms, GREETING_MS),
        _said("greeting: the right words", heard[:1], "call.greeting", problem),
    ]
    turns = {turn.prompt: turn for turn in call.turns}
    for prompt, topic in EXPECTED.items():
        checks += _turn_checks(prompt, topic, turns.get(prompt), call, heard, problem)
    frames = sum(stretch.end_ms - stretch.start_ms for stretch in call.agent) / 20
    lost = 100 * call.concealed_frames / frames if frames else 100.0
    hung_up = result.ended is EndReason.CALLER_HUNG_UP
    checks += [
        Check("blocks dropped in speech", not call.dropouts, str(len(call.dropouts)), "0"),
        Check(
            "frames lost or late in speech",
            lost <= CONCEALED_PERCENT,
            f"{call.concealed_frames} of {frames:.0f}",
            f"at most {CONCEALED_PERCENT:.0f} %",
        ),
        Check(
            "the agent hung up",
            hung_up,
            "BYE received" if hung_up else str(result.ended or "no"),
            "BYE",
        ),
        Check(
            "the caller's clock kept time",
            not call.skipped_frames,
            f"{call.skipped_frames} frames skipped",
            "0 frames skipped",
        ),
    ]
    return DemoReport(call, checks, list(zip(call.agent, heard, strict=bool(heard))))


def _turn_checks(
    prompt: str,
    topic: str | None,
    turn: TurnReport | None,
    call: CallReport,
    heard: Sequence[Understood],
    problem: str | None,
) -> list[Check]:
    if turn is None:
        return [Check(f"{prompt}: was said", False, "no", "yes")]
    checks = []
    if prompt == INTERRUPTION:
        checks.append(
            Check(
                "interruption: while the agent spoke",
                turn.interrupts,
                "yes" if turn.interrupts else "no",
                "yes",
            )
        )
        checks.append(_within("interruption: the agent stops", turn.stop_ms, STOP_MS))
    elif turn.premature or turn.interrupts:
        checks.append(Check(f"{prompt}: heard out by the agent", False, "no", "yes"))
    checks.append(_within(f"{prompt}: answer begins", turn.latency_ms, ANSWER_MS))
    if topic is None:
        return checks
    answer = turn.answer
    said = [
        words
        for stretch, words in zip(call.agent, heard, strict=False)
        if answer is not None and stretch.start_ms <= answer.start_ms < stretch.end_ms
    ]
    checks.append(_said(f"{prompt}: the right answer", said, topic, problem))
    return checks


def _within(name: str, measured: float | None, limit: float) -> Check:
    shown = "never" if measured is None else f"{measured:.1f} ms"
    ok = measured is not None and 0 <= measured <= limit
    return Check(name, ok, shown, f"within {limit:.0f} ms")


def _said(name: str, heard: Sequence[Understood], topic: str, problem: str | None) -> Check:
    topics = [found for words in heard for found in words.topics]
    shown = problem or " or ".join(topics) or "nothing known"
    return Check(name, topic in topics, shown, topic)


def write_demo(report: DemoReport, result: CallResult, out_dir: Path) -> None:
    """Write ``report.json`` and ``call.wav`` to ``out_dir``. Raises OSError."""
    out_dir.mkdir(parents=True, exist_ok=True)
    if result.recording is not None:
        report.wav = out_dir / "call.wav"
        result.recording.write(report.wav)
    report.report = out_dir / "report.json"
    report.report.write_text(json.dumps(report.as_dict(), indent=1) + "\n", encoding="utf-8")
