"""``ringtrue``: serve, call, demo, bench, doctor, voices, say, keys, models, audit, evidence,
incident, recordings, loadtest.
"""

from __future__ import annotations

import asyncio
import json
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from ringtrue.agent.audit_cli import audit, evidence
from ringtrue.agent.call_cli import call
from ringtrue.agent.cli_common import ConfigOption, JsonOption, run, settings_of
from ringtrue.agent.incident_cli import incident
from ringtrue.agent.keys_cli import keys
from ringtrue.agent.loadtest_cli import loadtest
from ringtrue.agent.models_cli import models
from ringtrue.agent.recordings_cli import recordings
from ringtrue.agent.voices_cli import say, voices
from ringtrue.agent.watermark_cli import watermark
from ringtrue.config.errors import ConfigError
from ringtrue.streaming.errors import RingtrueError

app = typer.Typer(
    help="Ringtrue: a telephony voice-agent server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(voices, name="voices")
app.add_typer(keys, name="keys")
app.add_typer(models, name="models")
app.add_typer(watermark, name="watermark")
app.add_typer(audit, name="audit")
app.add_typer(evidence, name="evidence")
app.add_typer(incident, name="incident")
app.add_typer(recordings, name="recordings")
app.add_typer(loadtest, name="loadtest")
app.command()(say)
app.command()(call)


@app.command()
def serve(
    config: ConfigOption = None,
    workers: Annotated[
        str | None,
        typer.Option(
            help="Processes that calls are spread over, or `auto`; default: the settings'."
        ),
    ] = None,
) -> None:
    """Answer calls until stopped (SIGTERM lets calls in progress finish)."""
    settings = settings_of(config, workers=workers)
    from ringtrue.agent.banner import banner
    from ringtrue.agent.workers.plan import count_of

    count = count_of(settings)
    if count > 1:
        from ringtrue.agent.workers.serving import serve_workers
        from ringtrue.config.agent_schema import load_agents

        agents = load_agents(settings.agents.dir)
        run(serve_workers(settings, count, on_ready=lambda it: _say(banner(it, agents))))
        return
    from ringtrue.agent.server import Server, serve_until_signalled

    async def main() -> int:
        server = Server(settings)
        await serve_until_signalled(
            server,
            asyncio.Event(),
            on_ready=lambda: _say(banner(server, server.agents.agents)),
        )
        return 0

    run(main())


def _say(text: str) -> None:
    print(text, flush=True)


@app.command()
def demo(
    config: ConfigOption = None,
    out: Annotated[Path, typer.Option(help="Where the report and the recording go.")] = Path(
        "build/demo"
    ),
) -> None:
    """Start a server, place one real call to it over loopback, and show what happened."""
    settings = settings_of(config)
    from ringtrue.agent.demo import run as demonstrate

    run(demonstrate(settings, out))


@app.command()
def bench(
    config: ConfigOption = None,
    calls: Annotated[
        list[int] | None, typer.Option("--calls", help="Concurrent calls; repeat for more rows.")
    ] = None,
    turns: Annotated[int, typer.Option(min=1, max=200, help="Turns a call.")] = 6,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("build/bench"),
    stand_in: Annotated[
        bool,
        typer.Option(
            "--stand-in",
            help="With a recognizer that knows the callers' prompts, at next to no cost.",
        ),
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Measure without answers begun early, too.")
    ] = False,
) -> None:
    """Measure latency, CPU and delay with callers in a process of their own."""
    settings = settings_of(config)
    from ringtrue.agent.bench import run as measure

    run(measure(settings, calls or [1, 10], turns, out, stand_in=stand_in, compare=compare))


@app.command()
def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say what is present, what is missing, and what that costs."""
    settings = settings_of(config)
    from ringtrue.agent.doctor import report

    raise typer.Exit(report(settings, as_json=as_json))


@app.command()
def version(as_json: JsonOption = False) -> None:
    """Print the version."""
    number = installed_version("ringtrue")
    typer.echo(json.dumps({"version": number}) if as_json else number)


def main() -> None:
    """Entry point: errors of ours are one message and exit code 2, not a traceback."""
    try:
        app()
    except (ConfigError, RingtrueError, OSError) as error:
        typer.secho(f"ringtrue: {error}", err=True, fg=typer.colors.RED)
        sys.exit(2)


if __name__ == "__main__":
    main()
