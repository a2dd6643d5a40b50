"""``ringtrue loadtest``: virtual callers at a target, and what they heard."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console

from ringtrue.agent.cli_common import ConfigOption, JsonOption, run
from ringtrue.agent.logs import configure_logs
from ringtrue.config.settings import LoggingSettings

if TYPE_CHECKING:
    from ringtrue.loadtest.reporting import Report

loadtest = typer.Typer(help="Virtual callers, and what they heard.", no_args_is_help=True)

SHOWN_FAILURES: Final = 10
SETTLE_SECONDS: Final = 0.0005
"""Real time that the kernel gets at each step of a deterministic run."""

_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|min|h)?")
_UNITS: Final = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """``90``, ``90s``, ``1.5m``, ``1h`` in seconds."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no time like 90s, 5m or 1h")
    return float(match[1]) * _UNITS[match[2]]


@loadtest.command("run")
def run_loadtest(
    scenario: Annotated[str, typer.Argument(help="A shipped scenario's name, or a .yaml file.")],
    target: Annotated[
        str | None,
        typer.Option(
            "--target", help="sip:agent@host:port, ws://host:port, webrtc:http://host:port/agent."
        ),
    ] = None,
    spawn: Annotated[
        bool, typer.Option("--spawn", help="Start a server for the test, on loopback.")
    ] = False,
    over: Annotated[str | None, typer.Option(help="With --spawn: sip, twilio or webrtc.")] = None,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="Server and callers in this process, on virtual time, with stand-ins: the same "
            "report for the same seed.",
        ),
    ] = False,
    calls: Annotated[int, typer.Option(min=1, max=2000, help="Calls at once.")] = 1,
    ramp: Annotated[str | None, typer.Option(help="Over which the calls begin, e.g. 30s.")] = None,
    duration: Annotated[
        str | None, typer.Option(help="Keep calling for so long, e.g. 5m; default: once each.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything left to chance.")] = 1,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the report goes.")] = Path(
        "build/loadtest"
    ),
    slo: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A file of limits.")
    ] = None,
    find_capacity: Annotated[
        bool, typer.Option("--find-capacity", help="Raise the load until a limit breaks.")
    ] = False,
    max_calls: Annotated[
        int, typer.Option(min=1, max=2000, help="Of --find-capacity: the largest load tried.")
    ] = 200,
    repeats: Annotated[
        int, typer.Option(min=1, max=99, help="Of --find-capacity: runs of each end; odd.")
    ] = 3,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="Of --find-capacity: how narrow, as a share.")
    ] = 0.05,
    within: Annotated[
        str | None, typer.Option(help="Of --find-capacity: the time for it, e.g. 10m.")
    ] = None,
    apart: Annotated[
        bool,
        typer.Option("--apart", help="With --spawn: server and callers on cores of their own."),
    ] = False,
    listened: Annotated[
        int, typer.Option(min=0, max=2000, help="Calls whose words and watermark are judged.")
    ] = 20,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="Of callers; default: by their number.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to call from, an IP literal.")] = (
        "127.0.0.1"
    ),
    api_url: Annotated[
        str, typer.Option(help="The target's web server, which is to place calls.")
    ] = "",
    api_key: Annotated[
        str,
        typer.Option(envvar="RINGTRUE_API_KEY", show_default=False, help="For placing calls."),
    ] = "",
    twilio_token: Annotated[
        str,
        typer.Option(
            envvar="RINGTRUE_TWILIO__AUTH_TOKEN",
            show_default=False,
            help="What the target checks webhooks with.",
        ),
    ] = "",
    detection_key: Annotated[
        str | None, typer.Option(help="The target's published key, rtdk1_…, to find its mark.")
    ] = None,
    withdraw: Annotated[
        str | None,
        typer.Option(help="The voice that the scenario withdraws. Its consent is gone then."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Call a target as a scenario says, and report what the callers heard.

    Exit code 0 if every limit was kept, 1 if one broke, 2 if the test could not be made.
    """
    if sum((target is not None, spawn, deterministic)) != 1:
        raise typer.BadParameter("give one of --target, --spawn and --deterministic")
    if apart and not spawn:
        raise typer.BadParameter("--apart needs --spawn")
    if repeats % 2 == 0:
        raise typer.BadParameter(f"--repeats {repeats}: allowed: an odd number")
    configure_logs(LoggingSettings(level="WARNING"))
    from ringtrue.agent.loadtest_target import in_process
    from ringtrue.loadtest.campaign import Orders, carry_out
    from ringtrue.loadtest.capacity import SearchPolicy
    from ringtrue.loadtest.phones import Access
    from ringtrue.loadtest.results import Transport
    from ringtrue.loadtest.scenario.reading import find_scenario, load_scenario
    from ringtrue.loadtest.slo import load_slo
    from ringtrue.loadtest.virtual_time import run_virtual

    if over is not None and over not in tuple(Transport):
        raise typer.BadParameter(f"--over {over}: allowed: {', '.join(Transport)}")
    console = Console(stderr=as_json)
    orders = Orders(
        scenario=load_scenario(find_scenario(scenario)),
        out=out,
        target=target,
        transport=None if over is None else Transport(over),
        calls=calls,
        ramp_s=None if ramp is None else seconds(ramp),
        duration_s=None if duration is None else seconds(duration),
        seed=seed,
        slo=None if slo is None else load_slo(slo),
        capacity=SearchPolicy(
            start=min(calls, max_calls),
            limit=max_calls,
            seed=seed,
            repeats=repeats,
            tolerance=tolerance,
        )
        if find_capacity
        else None,
        search_seconds=None if within is None else seconds(within),
        apart=apart,
        host=host,
        access=Access(twilio_token, api_url, api_key),
        config=config,
        in_process=in_process if deterministic else None,
        withdraw=withdraw,
        detection_key=detection_key,
        listened=listened,
        processes=processes,
    )

    async def main() -> int:
        report = await carry_out(orders, console)
        show(report, out, console, as_json=as_json)
        return report.exit_code

    if deterministic:
        raise typer.Exit(run_virtual(main(), SETTLE_SECONDS, seed))
    run(main())


@loadtest.command("scenarios")
def scenarios(as_json: JsonOption = False) -> None:
    """List the scenarios that come with Ringtrue."""
    from ringtrue.loadtest.scenario.reading import find_scenario, load_scenario, shipped_scenarios

    found = {name: load_scenario(find_scenario(name)).title for name in shipped_scenarios()}
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for name, title in found.items():
        typer.echo(f"{name:<20} {title}")


@loadtest.command("report")
def report_again(
    directory: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="What `run -o` wrote.")
    ],
    against: Annotated[
        Path | None,
        typer.Argument(exists=True, file_okay=False, help="Another run, to be laid beside it."),
    ] = None,
    slo: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Limits in place of the run's own."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a run's report anew from its report.json, beside another run's if one is given.

    Exit code 0 if every limit was kept, 1 if one broke, 2 for what is no report.
    """
    from ringtrue.loadtest.reporting import rerender
    from ringtrue.loadtest.slo import load_slo

    report, _ = rerender(directory, against, slo=None if slo is None else load_slo(slo))
    show(report, directory, Console(stderr=as_json), as_json=as_json)
    raise typer.Exit(report.exit_code)


def show(report: Report, out: Path, console: Console, *, as_json: bool) -> None:
    """Print what came of a run: failures first, then the limits, then where the files are."""
    result = report.result
    if as_json:
        told: dict[str, Any] = {
            "ok": report.ok,
            "calls": len(result.calls),
            "failed": len(result.failures),
            "verdicts": [asdict(verdict) for verdict in report.verdicts],
            "capacity": None if report.capacity is None else asdict(report.capacity),
            "report": str(out / "report.html"),
        }
        typer.echo(json.dumps(told, indent=2))
        return
    for call in result.failures[:SHOWN_FAILURES]:
        console.print(f"{call.id}: {call.outcome}: {call.detail}".rstrip(": "), style="red",
                      markup=False)  # fmt: skip
        for expected in call.failed_expectations:
            console.print(f"  not met: {expected.text}: {expected.evidence}", markup=False)
    if len(result.failures) > SHOWN_FAILURES:
        console.print(f"... and {len(result.failures) - SHOWN_FAILURES} more calls that failed")
    for note in result.notes:
        console.print(f"note: {note}", style="dim", markup=False)
    console.print(f"{len(result.calls)} calls, {len(result.failures)} failed, "
                  f"{result.peak} up at once")  # fmt: skip
    for verdict in report.verdicts:
        style = None if verdict.ok else "red"
        console.print(str(verdict), style=style, markup=False, highlight=False)
    if report.capacity is not None:
        for line in report.capacity.lines():
            console.print(line, style="bold", markup=False)
    console.print(f"report: {out / 'report.html'}", soft_wrap=True)
