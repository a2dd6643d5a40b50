"""``ringtrue recordings``: list them, export one, erase one, erase what is kept no longer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from ringtrue.agent.cli_common import (
    DONE,
    REFUSED,
    ConfigOption,
    JsonOption,
    print_json,
    run,
    settings_of,
)
from ringtrue.config.settings import Settings

if TYPE_CHECKING:
    from ringtrue.agent.recording_files import Found

recordings = typer.Typer(help="Recordings of calls.", no_args_is_help=True)

CallArgument = Annotated[str, typer.Argument(metavar="CALL", help="The call's or recording's id.")]
AskedOption = Annotated[str, typer.Option(help="Who asks, as the log names it.")]


@recordings.command("list")
def list_all(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List recordings, oldest first."""
    settings = settings_of(config, quiet=True)
    from ringtrue.agent.audit.holds import keeper_of, read_holds
    from ringtrue.agent.audit.opening import audit_dir
    from ringtrue.agent.recording_setup import recordings_dir
    from ringtrue.agent.recordings_kept import recordings_in

    found, problems = recordings_in(recordings_dir(settings))
    holds = read_holds(audit_dir(settings))
    keepers = {one.header.call: keeper_of(holds, one.header.call) for one in found}
    if as_json:
        listed = [{**_described(one), "kept_by": keepers[one.header.call]} for one in found]
        print_json({"recordings": listed, "unreadable": problems})
        return
    whole = Column("call", no_wrap=True)  # what exporting asks for
    table = Table(whole, "recording", "agent", "begun", "seconds", "kept until", "state")
    for one in found:
        header = one.header
        table.add_row(
            header.call,
            header.id,
            header.agent,
            f"{header.started:%Y-%m-%d %H:%M}",
            f"{one.seconds:.1f}",
            keepers[header.call] or f"{header.keep_until:%Y-%m-%d}",
            "complete" if one.complete else "no end",
        )
    Console().print(table)
    for problem in problems:
        typer.secho(problem, err=True, fg=typer.colors.RED)


@recordings.command()
def export(
    call: CallArgument,
    out: Annotated[
        Path, typer.Option("--out", "-o", dir_okay=False, help="A .wav, .ogg or .opus to write.")
    ],
    asked_by: AskedOption = "command line",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decrypt a recording: caller left, agent right. The audit log keeps that it was done."""
    settings = settings_of(config, quiet=True)
    run(_export(settings, call, out, asked_by, as_json=as_json))


@recordings.command()
def erase(
    call: CallArgument,
    asked_by: AskedOption = "command line",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a recording, its key first. There is no way back."""
    settings = settings_of(config, quiet=True)
    run(_erase(settings, call, asked_by, as_json=as_json))


@recordings.command()
def expire(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Erase what is kept no longer; a server does so by itself every hour."""
    settings = settings_of(config, quiet=True)
    run(_expire(settings, as_json=as_json))


async def _export(settings: Settings, call: str, out: Path, asked_by: str, *, as_json: bool) -> int:
    from ringtrue.agent.audit.entries import Kind
    from ringtrue.agent.audit.opening import open_audit
    from ringtrue.agent.recording_export import export, reader_of
    from ringtrue.agent.recording_setup import recording_keys
    from ringtrue.agent.recordings import audit_recording

    found = await asyncio.to_thread(_named, settings, call)
    keys = await asyncio.to_thread(recording_keys, settings, make=False)
    reader = await reader_of(found.path, found.header, keys)
    async with open_audit(settings) as recorder:
        try:
            done = await asyncio.to_thread(export, reader, found.header, out)
        except (ValueError, FileExistsError) as error:
            wrong = f"{out}: exists already" if isinstance(error, OSError) else str(error)
            raise typer.BadParameter(wrong, param_hint="--out") from None
        audit_recording(
            recorder,
            Kind.RECORDING_EXPORTED,
            found.header,
            {"format": out.suffix[1:], "complete": done.complete},
            requester=asked_by,
        )
    if as_json:
        print_json({**_described(found), "file": str(out), "complete": done.complete})
    else:
        typer.echo(f"{out}: {done.seconds:.1f} s of call {found.header.call}")
        if not done.complete:
            typer.secho("The recording has no end.", err=True, fg=typer.colors.YELLOW)
    return DONE


async def _erase(settings: Settings, call: str, asked_by: str, *, as_json: bool) -> int:
    from ringtrue.agent.audit.entries import Kind
    from ringtrue.agent.audit.opening import audit_dir, open_audit
    from ringtrue.agent.recordings import audit_recording
    from ringtrue.agent.recordings_kept import HeldError, erase_unheld

    found = await asyncio.to_thread(_named, settings, call)
    async with open_audit(settings) as recorder:
        try:
            await asyncio.to_thread(erase_unheld, found.path, found.header, audit_dir(settings))
        except HeldError as error:
            typer.secho(f"{found.header.id}: {error}", err=True, fg=typer.colors.RED)
            return REFUSED
        kind, detail = Kind.RECORDING_ERASED, {"by": "request"}
        audit_recording(recorder, kind, found.header, detail, requester=asked_by)
    if as_json:
        print_json({"erased": found.header.id, "call": found.header.call})
    else:
        typer.echo(f"{found.header.id} of call {found.header.call} is erased.")
    return DONE


async def _expire(settings: Settings, *, as_json: bool) -> int:
    from ringtrue.agent.audit.opening import open_audit
    from ringtrue.agent.recording_setup import recordings_of

    async with open_audit(settings) as recorder:
        kept = recordings_of(settings, (), recorder)
        try:
            erased = await kept.expire()
        finally:
            await kept.close()
    if as_json:
        print_json({"erased": erased})
    else:
        typer.echo(f"{erased} recordings were erased.")
    return DONE


def _named(settings: Settings, call: str) -> Found:
    """The recording that ``call`` names; exit code 1 where there is none."""
    from ringtrue.agent.recording_setup import recordings_dir
    from ringtrue.agent.recordings_kept import recordings_in

    found, _ = recordings_in(recordings_dir(settings))
    for one in found:
        if call in (one.header.call, one.header.id):
            return one
    typer.secho(f"There is no recording of call {call!r}.", err=True, fg=typer.colors.RED)
    raise typer.Exit(REFUSED)


def _described(one: Found) -> dict[str, Any]:
    header = one.header
    return {
        "id": header.id,
        "call": header.call,
        "tenant": header.tenant,
        "agent": header.agent,
        "rate": header.rate,
        "started": header.started,
        "keep_until": header.keep_until,
        "seconds": round(one.seconds, 2),
        "complete": one.complete,
    }
