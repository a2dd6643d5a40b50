"""``ringtrue incident``: stop a voice everywhere at once, find what it said, keep that."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ringtrue.agent.audit_cli import moment_of
from ringtrue.agent.cli_common import (
    DONE,
    ConfigOption,
    JsonOption,
    TenantOption,
    print_json,
    run,
    settings_of,
)
from ringtrue.config.settings import Settings

if TYPE_CHECKING:
    from ringtrue.agent.incidents import Bundles, Opened

incident = typer.Typer(help="Incidents: frozen voices.", no_args_is_help=True)

AskedOption = Annotated[str, typer.Option(help="Who asks, as the log names it.")]

SHOWN = 50
"""Calls that the table shows; --json has all."""


@incident.command()
def freeze(
    voice: Annotated[str, typer.Option("--voice", help="The voice's name or id.")],
    reason: Annotated[str, typer.Option(help="Why, as the log keeps it.")] = "not given",
    since: Annotated[
        str | None, typer.Option(help="ISO 8601; list what it said from then on.")
    ] = None,
    bundles: Annotated[
        Path | None,
        typer.Option(
            "--bundles", file_okay=False, help="Write a bundle of evidence for every call there."
        ),
    ] = None,
    asked_by: AskedOption = "command line",
    tenant: TenantOption = "default",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a voice everywhere, list the calls it was heard in, and keep the evidence.

    Calls in progress change to the stock voice within half a second. The voice can't be leased,
    renewed, resumed or erased, nor its speaker enrolled again, until `incident lift`.
    """
    settings = settings_of(config, quiet=True)
    moment = None if since is None else moment_of(since)
    run(_freeze(settings, tenant, voice, reason, moment, bundles, asked_by, as_json=as_json))


@incident.command("list")
def list_all(
    lifted: Annotated[bool, typer.Option("--all", help="Those that were lifted, too.")] = False,
    tenant: TenantOption = "default",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List incidents."""
    settings = settings_of(config, quiet=True)
    run(_list(settings, tenant, lifted, as_json=as_json))


@incident.command()
def lift(
    identity: Annotated[str, typer.Argument(metavar="INCIDENT", help="The incident's id.")],
    reason: Annotated[str, typer.Option(help="Why, as the log keeps it.")],
    release: Annotated[
        bool, typer.Option("--release", help="Let retention delete its evidence again.")
    ] = False,
    asked_by: AskedOption = "command line",
    tenant: TenantOption = "default",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Unfreeze a voice: it is again what it was, and its consents are weighed as ever."""
    settings = settings_of(config, quiet=True)
    run(_lift(settings, tenant, identity, reason, release, asked_by, as_json=as_json))


async def _freeze(
    settings: Settings,
    tenant: str,
    voice: str,
    reason: str,
    since: datetime | None,
    bundles: Path | None,
    asked_by: str,
    *,
    as_json: bool,
) -> int:
    from ringtrue.agent.audit.opening import audit_config, open_audit
    from ringtrue.agent.incidents import open_incident, write_bundles
    from ringtrue.agent.recording_setup import recordings_dir
    from ringtrue.agent.voice_library import open_voices
    from ringtrue.voices.library import utc_now

    setup = await asyncio.to_thread(audit_config, settings)
    console = Console(stderr=True)
    made: Bundles | None = None
    async with open_audit(settings) as recorder, open_voices(settings, None, recorder) as library:
        with console.status("Freezing …", spinner="dots") as status:
            try:
                opened = await open_incident(
                    library,
                    setup.directory,
                    recorder,
                    tenant=tenant,
                    voice=voice,
                    reason=reason,
                    asked_by=asked_by,
                    now=utc_now(),
                    recordings=recordings_dir(settings),
                    since=since,
                    on_frozen=lambda _: status.update("Frozen. Looking for what it said …"),
                    on_progress=lambda entries: status.update(f"Frozen. {entries:,} entries …"),
                )
            except ValueError as error:
                raise typer.BadParameter(str(error)) from None
            if bundles is not None:
                total = len(opened.affected.calls)
                made = await write_bundles(
                    setup,
                    opened,
                    recorder,
                    library,
                    bundles,
                    recordings=recordings_dir(settings),
                    on_progress=lambda done: status.update(f"{done} of {total} bundles …"),
                )
    if as_json:
        print_json(_described(opened, made))
    else:
        _show(opened, made)
    return DONE


async def _list(settings: Settings, tenant: str, lifted: bool, *, as_json: bool) -> int:
    from ringtrue.agent.voice_library import open_voices

    async with open_voices(settings) as library:
        found = await library.store.incidents.list(tenant, lifted=lifted)
    if as_json:
        print_json({"incidents": [asdict(one) for one in found]})
        return DONE
    table = Table("incident", "voice", "frozen", "by", "reason", "lifted", "by", "because")
    for one in found:
        ended = "" if one.lifted_at is None else f"{one.lifted_at:%Y-%m-%d %H:%M}"
        begun = f"{one.opened_at:%Y-%m-%d %H:%M}"
        more = (ended, one.lifted_by or "", one.lifted_for or "")
        table.add_row(one.id, one.voice, begun, one.opened_by, one.reason, *more)
    Console().print(table)
    return DONE


async def _lift(
    settings: Settings,
    tenant: str,
    identity: str,
    reason: str,
    release: bool,
    asked_by: str,
    *,
    as_json: bool,
) -> int:
    from ringtrue.agent.audit.opening import audit_dir, open_audit
    from ringtrue.agent.incidents import lift_incident
    from ringtrue.agent.voice_library import open_voices
    from ringtrue.voices.library import utc_now

    async with open_audit(settings) as recorder, open_voices(settings, None, recorder) as library:
        try:
            lifted = await lift_incident(
                library,
                audit_dir(settings),
                recorder,
                tenant=tenant,
                incident=identity,
                reason=reason,
                asked_by=asked_by,
                now=utc_now(),
                release=release,
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    if as_json:
        print_json(asdict(lifted))
    else:
        typer.echo(f"{lifted.id} is lifted: voice {lifted.voice} is {lifted.was} again.")
    return DONE


def _described(opened: Opened, made: Bundles | None) -> dict[str, Any]:
    affected = opened.affected
    described: dict[str, Any] = {
        "incident": asdict(opened.incident),
        "new": opened.new,
        "calls": [asdict(call) for call in affected.calls],
        "utterances": affected.utterances,
        "seconds": round(affected.seconds, 3),
        "outputs_listed": affected.listed,
        "held": dict(opened.held),
        "recordings": dict(opened.recordings),
    }
    if made is not None:
        described["bundles"] = [str(bundle.path) for bundle in made.written]
        described["later"] = [{"call": call, "why": why} for call, why in made.later]
    return described


def _show(opened: Opened, made: Bundles | None) -> None:
    one, affected = opened.incident, opened.affected
    state = "is frozen" if opened.new else f"was frozen already, since {one.opened_at:%F %R}"
    typer.secho(f"Voice {one.voice} {state}: {one.id}", fg=typer.colors.GREEN)
    table = Table("call", "agent", "first", "last", "utterances", "seconds", "state")
    for call in affected.calls[-SHOWN:]:
        table.add_row(
            call.call,
            call.agent or "",
            call.first[:19],
            call.last[11:19],
            str(call.utterances),
            f"{call.seconds:.1f}",
            _state(call.ended, call.revoked),
        )
    Console().print(table)
    if len(affected.calls) > SHOWN:
        typer.echo(f"The latest {SHOWN} of {len(affected.calls)} calls; --json lists all.")
    typer.echo(
        f"{affected.utterances} utterances in {len(affected.calls)} calls, "
        f"{affected.seconds:.0f} s in all. Their entries, and {len(opened.recordings)} recordings, "
        "are kept until `incident lift --release`."
    )
    if made is None and affected.calls:
        latest = affected.calls[-1].call
        typer.echo("Evidence of a call, for others to check (or of all: --bundles DIR):")
        typer.echo(f"  ringtrue evidence --call {shlex.quote(latest)} -o {_bundle(latest)}")
    elif made is not None:
        typer.echo(f"{len(made.written)} bundles of evidence were written.")
        for later, why in made.later:
            typer.secho(f"{later}: {why}", err=True, fg=typer.colors.YELLOW)
    typer.echo(f"To lift it: ringtrue incident lift {one.id} --reason …")


def _bundle(call: str) -> str:
    from ringtrue.agent.incidents import bundle_name

    return bundle_name(call)


def _state(ended: bool, revoked: bool) -> str:
    return ("ended" if ended else "not ended, or no call") + (
        ", voice taken away" if revoked else ""
    )
