"""What a scenario expects of every call, judged from what its caller heard.

Two kinds need more than the samples' shape and are judged after the run
(:mod:`ringtrue.loadtest.listening`): words, and the watermark. A call that was never answered
meets no expectation but that of being refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ringtrue.loadtest.caller import CallResult
from ringtrue.loadtest.ear import Span, stop_after
from ringtrue.loadtest.meters import unexplained_silences
from ringtrue.loadtest.report import CallReport
from ringtrue.loadtest.results import Expected
from ringtrue.loadtest.scenario.schema import Expect, Scenario
from ringtrue.streaming.ports import EndReason

AGENT_ENDED: Final = (EndReason.CALLER_HUNG_UP, EndReason.TRANSFERRED)
"""How a caller's own phone calls an end that came from the far side."""

MURMUR_GAP_MS: Final = 100
"""Shorter pauses lie within a sentence that a murmur did not touch."""

PAUSE_MS: Final = 700.0
"""How long after a sound of the caller's an agent may be waiting whether more comes."""

MURMUR_REACH_MS: Final = 300
"""A sentence still heard so long after a murmur was not stopped by it."""


def expectations(scenario: Scenario, result: CallResult, report: CallReport) -> list[Expected]:
    """Everything that can be judged at once, in the scenario's order."""
    wanted = scenario.expect
    answered = result.recording is not None
    if wanted.refused:
        said = f"refused: {result.refused}" if result.refused is not None else result.detail
        evidence = "it was answered" if answered else said
        passed = result.refused is not None
        return [Expected(name="refused", text="is refused", passed=passed, evidence=evidence)]
    found = list(_within(wanted, result, report))
    found += _conversation(wanted, result, report)
    found += _never_came_to(scenario, report)
    if wanted.ends is not None:
        found.append(_ending(wanted.ends, result))
    return found


def late_names(wanted: Expect) -> dict[str, str]:
    """Name → words of the expectations that are judged after the run."""
    names = {}
    if wanted.disclosure_first:
        names["disclosure_first"] = "says in its first utterance that it is an AI"
    if wanted.watermark:
        names["watermark"] = "carries the watermark"
    names |= {f"says.{prompt}": f"answers {prompt} with {topic}"
              for prompt, topic in wanted.says.items()}  # fmt: skip
    return names


def unheard(wanted: Expect, why: str) -> list[Expected]:
    """The expectations that are judged after the run, of a call in which nothing was heard."""
    return [
        Expected(name=name, text=text, passed=False, evidence=why)
        for name, text in late_names(wanted).items()
    ]


def _within(wanted: Expect, result: CallResult, report: CallReport) -> Iterator[Expected]:
    if wanted.answered_within_ms is not None:
        yield limited(
            "answered_within", "is answered", report.setup_ms, wanted.answered_within_ms,
            "never" if report.setup_ms is None else f"after {report.setup_ms:.0f} ms",
        )  # fmt: skip
    if wanted.greeting_within_ms is not None:
        heard = report.greeting_ms
        evidence = "nothing was heard"
        if heard is not None:
            evidence = f"first sample {heard:.0f} ms after the answer"
        limit = wanted.greeting_within_ms
        yield limited("greeting_within", "hears a greeting", heard, limit, evidence, at=heard)
    if wanted.no_gap_over_ms is not None:
        yield _gaps(wanted.no_gap_over_ms, result, report)
    if wanted.no_silence_over_ms is not None:
        yield _silence(wanted.no_silence_over_ms, result, report)


def _conversation(wanted: Expect, result: CallResult, report: CallReport) -> Iterator[Expected]:
    for turn in report.turns:
        if wanted.answers_within_ms is not None:
            evidence = "no answer"
            if turn.premature:
                evidence = "the agent spoke before the caller had finished"
            elif turn.latency_ms is not None:
                evidence = f"{turn.prompt}: after {turn.latency_ms:.0f} ms"
            yield limited(
                "answers_within", "is answered in every turn", turn.latency_ms,
                wanted.answers_within_ms, evidence, at=turn.said.end_ms,
            )  # fmt: skip
        if wanted.stops_within_ms is not None and turn.interrupts:
            evidence = f"heard for {turn.stop_ms or 0:.0f} ms more"
            yield limited(
                "stops_within", "stops the agent by speaking over it", turn.stop_ms,
                wanted.stops_within_ms, evidence, at=turn.said.start_ms,
            )  # fmt: skip
    if wanted.keeps_talking_within_ms is not None:
        yield from _kept(wanted.keeps_talking_within_ms, result)


def _never_came_to(scenario: Scenario, report: CallReport) -> Iterator[Expected]:
    """The turns of its script that a call did not come to: nobody answered them."""
    limit = scenario.expect.answers_within_ms
    if limit is not None:
        for _ in range(scenario.turns - len(report.turns)):
            text = "is answered in every turn"
            yield limited("answers_within", text, None, limit, "the call did not come to it")


def _kept(limit: float, result: CallResult) -> Iterator[Expected]:
    """After each murmur over the agent: the pause until its sentence went on."""
    if result.recording is None:
        return
    rate = result.recording.rate
    for murmur in (said.speech for said in result.murmured if said.interrupts):
        stop = murmur.start + stop_after(result.agent, murmur.start, rate, MURMUR_GAP_MS)
        again = next((span.start for span in result.agent if span.start >= stop), None)
        pause: float | None = None
        if stop > murmur.end + rate * MURMUR_REACH_MS // 1000:
            pause, evidence = 0.0, "spoke on"
        elif again is not None:
            pause = (again - stop) * 1000 / rate
            evidence = f"went on after {pause:.0f} ms"
        else:
            evidence = "the sentence was given up"
        words = "goes on after a murmur"
        yield limited("keeps_talking", words, pause, limit, evidence, at=_ms(result, murmur.start))


def _gaps(limit: float, result: CallResult, report: CallReport) -> Expected:
    """The longest gap that no sound of the caller's explains: for one, an agent may pause."""
    spoke = [said.speech for said in (*result.said, *result.murmured)]
    sounds = [(_ms(result, one.start), _ms(result, one.end) + PAUSE_MS) for one in spoke]
    found = [
        gap
        for gap in report.dropouts
        if not any(gap.start_ms < end and gap.end_ms > start for start, end in sounds)
    ]
    longest = max(found, key=lambda gap: gap.end_ms - gap.start_ms, default=None)
    length: float | None = 0.0 if longest is None else longest.end_ms - longest.start_ms
    evidence = "no gap" if longest is None else f"{len(found)}, longest {length:.0f} ms"
    if not report.agent:
        length, evidence = None, "nothing was heard"
    return limited(
        "no_gap_over", "hears no gap", length, limit, evidence,
        at=None if longest is None else longest.start_ms, inside=True,
    )  # fmt: skip


def _silence(limit: float, result: CallResult, report: CallReport) -> Expected:
    recording = result.recording
    if recording is None:
        return limited(
            "no_silence_over", "is not left waiting", None, limit, "no call", inside=True
        )
    rate = recording.rate
    end = result.ended_position or recording.agent_position
    begin = max(0, result.answered or 0)
    owed = unexplained_silences(
        result.agent,
        sorted([*(said.speech for said in result.said), *result.pressed]),
        rate,
        begin=begin,
        end=end,
        excused=[*result.excused, *result.faults.skipped],
        limit_ms=round(limit),
    )
    longest = max(owed, key=len, default=Span(begin, begin))
    length = len(longest) * 1000 / rate
    evidence = f"longest {length:.0f} ms, {len(owed)} in all" if owed else "none"
    at = _ms(result, longest.start) if owed else None
    passed = length if owed else 0.0
    return limited("no_silence_over", "is not left waiting", passed, limit, evidence, at=at,
                   inside=True)  # fmt: skip


def _ending(by: str, result: CallResult) -> Expected:
    own = result.ended is None and result.ok
    agent = result.ended in AGENT_ENDED
    evidence = "the caller hung up" if own else f"ended: {result.ended or result.detail}"
    passed = agent if by == "agent" else own
    return Expected(name="ends", text=f"the {by} ends it", passed=passed, evidence=evidence)


def limited(
    name: str,
    text: str,
    value: float | None,
    limit: float,
    evidence: str,
    *,
    at: float | None = None,
    inside: bool = False,
) -> Expected:
    """An expectation that a measured number, None for none, is 0 to ``limit``."""
    words = f"{text} over {limit:g} ms" if inside else f"{text} within {limit:g} ms"
    passed = value is not None and 0 <= value <= limit
    return Expected(
        name=name,
        text=words,
        passed=passed,
        evidence=evidence,
        at_ms=at,
        value=None if value is None else round(value, 1),
        limit=limit,
    )


def _ms(result: CallResult, position: int) -> float:
    assert result.recording is not None
    zero = result.answered or 0
    return round((position - zero) * 1000 / result.recording.rate, 1)
