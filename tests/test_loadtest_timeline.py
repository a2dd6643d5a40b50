"""A call printed: in proportion, with what is known and a dash for what isn't."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from ringtrue.loadtest.report import CallReport, Stretch, TurnReport
from ringtrue.loadtest.timeline import lane, print_call


def test_a_lane_is_in_proportion() -> None:
    assert lane([Stretch(0, 250), Stretch(500, 500)], 1000, 8) == "███·█···"
    assert lane([Stretch(900, 1000), Stretch(-50, 10)], 1000, 10) == "█········█"
    assert lane([], 1000, 4) == "····"


def report(server: dict[str, Any] | None) -> CallReport:
    turn = TurnReport(
        prompt="hours",
        text="When are you open?",
        said=Stretch(2000, 3000),
        interrupts=True,
        stop_ms=123.4,
        answer=Stretch(3611.5, 6000),
        latency_ms=611.5,
        premature=False,
        server=server,
    )
    return CallReport(
        name="demo",
        ok=True,
        failure=None,
        detail="",
        setup_ms=4.0,
        greeting_ms=150.0,
        duration_ms=7000,
        ended=None,
        turns=(turn,),
        agent=(Stretch(150, 2120), Stretch(3611.5, 6000)),
        dropouts=(),
        pauses=(),
        concealed_frames=0,
        packets_received=350,
        packets_lost=0,
        packets_late=0,
        jitter_ms=0.1,
        skipped_frames=0,
        server=None,
    )


def printed(call: CallReport, heard: dict[Stretch, str] | None = None) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    print_call(call, console, heard)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_it_says_who_spoke_when_and_how_long_each_stage_took() -> None:
    server = {"intervals_ms": {"endpointing": 432.1, "ttfa": 56.4}}
    lines = printed(report(server), {Stretch(3611.5, 6000): "we are open"})
    assert all(len(line) <= 80 for line in lines)
    (asked,) = (line for line in lines if "When are you open?" in line)
    assert asked.split()[:3] == ["2.00", "s", "caller"]
    (answered,) = (line for line in lines if "we are open" in line)
    assert "(after 612 ms)" in answered
    assert lines.index(asked) < lines.index(answered)
    assert "the agent stops after 123 ms" in " ".join(" ".join(lines).split())
    (stages,) = (line for line in lines if line.startswith("hours"))
    assert stages.split() == ["hours", "612", "123", "432", "–", "–", "–", "–", "–", "56"]


def test_without_the_servers_record_stages_are_unknown() -> None:
    (stages,) = (line for line in printed(report(None)) if line.startswith("hours"))
    assert stages.split() == ["hours", "612", "123", *"–––––––"]
