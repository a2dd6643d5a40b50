"""``ringtrue audit`` and ``ringtrue evidence``: check the log, look into it, and prove a call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

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

audit = typer.Typer(help="The audit log.", no_args_is_help=True)
evidence = typer.Typer(
    help="Evidence of one call, for others to check.", invoke_without_command=True
)

DirOption = Annotated[
    Path | None, typer.Option("--dir", help="The logs' directory; default: the settings'.")
]
KeyOption = Annotated[
    list[str] | None,
    typer.Option("--key", help="A public key (hex) that counts, beside the settings'; repeat."),
]
CallOption = Annotated[str, typer.Option("--call", help="The call's id.")]


@audit.command()
def verify(
    since: Annotated[
        str | None, typer.Option(help="ISO 8601; earlier segments by their signed roots alone.")
    ] = None,
    directory: DirOption = None,
    witness: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The file that a witness keeps."),
    ] = None,
    key: KeyOption = None,
    live: Annotated[
        bool, typer.Option("--live", help="A copy of logs that were being written.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find anything in the logs that is not as it was written. Exit code 1 if there is."""
    settings = settings_of(config, quiet=True)
    from ringtrue.agent.audit.errors import WitnessError
    from ringtrue.agent.audit.opening import audit_dir, local_witness
    from ringtrue.agent.audit.verifying import verify
    from ringtrue.agent.audit.witness import read_witness

    place = directory or audit_dir(settings)
    local = local_witness(settings) if directory is None else None
    if not place.is_dir():
        raise typer.BadParameter(f"{place}: no such directory", param_hint="--dir")
    moment = None if since is None else moment_of(since)
    console = Console(stderr=True)
    try:
        notes = [] if local is None else local.notes()
    except WitnessError as error:
        typer.secho(str(error), err=True, fg=typer.colors.RED)
        raise typer.Exit(REFUSED) from None
    notes += [] if witness is None else read_witness(witness)
    with console.status("Reading …", spinner="dots") as status:
        report = verify(
            place,
            _keys(settings, key),
            since=moment,
            witness=notes,
            live=live,
            on_progress=lambda entries: status.update(f"{entries:,} entries read …"),
        )
    code = DONE if report.good else REFUSED
    if as_json:
        print_json({"good": report.good, "directory": str(place), **asdict(report)})
        raise typer.Exit(code)
    table = Table("log", "entries", "kept from", "checked", "signed", "latest checkpoint", "state")
    for log in report.logs:
        state = "being written" if log.live else "closed" if log.closed else "not closed"
        numbers = (str(number) for number in (log.size, log.first, log.checked, log.signed))
        table.add_row(f"{log.slot} {log.log}", *numbers, (log.signed_at or "")[:19], state)
    Console().print(table)
    for note in report.notes:
        typer.echo(f"note: {note}")
    for problem in report.problems:
        typer.secho(f"{problem.where}: {problem.what}", fg=typer.colors.RED)
    if local is not None and any("witness" in problem.where for problem in report.problems):
        typer.echo(f"This machine's witness is {local.path}.")
    if not report.logs and report.good:
        typer.echo("There is no log here.")
    elif report.good:
        typer.echo("Everything is as it was written.")
    raise typer.Exit(code)


@audit.command()
def show(
    call: CallOption,
    text: Annotated[
        bool, typer.Option("--text", help="What was said too, where the log keeps it.")
    ] = False,
    directory: DirOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a call's entries as they stand in the log; `audit verify` says whether they hold."""
    settings = settings_of(config, quiet=True)
    from ringtrue.agent.audit.opening import audit_config, audit_dir
    from ringtrue.agent.audit.searching import call_entries

    entries = call_entries(directory or audit_dir(settings), call)
    if text:
        keeper = audit_config(settings).texts
        for entry in entries:
            if "text" in entry:
                said = keeper.text(entry["text"], log=entry["log"], seq=entry["seq"])
                entry["said"] = said
    if as_json:
        print_json({"call": call, "entries": entries})
        return
    narrow = (Column(name, no_wrap=True) for name in ("entry", "time", "what"))
    table = Table(*narrow, "more", title=Text(call))
    for entry in entries:
        more = []
        if (output := entry.get("output")) is not None:
            seconds = output["samples"] / output["rate"]
            more.append(f"{seconds:.2f} s, SHA-256 {output['sha256'][:16]}…")
        named = ("voice", "engine", "watermark", "said")
        more += [f"{name}: {entry[name]}" for name in named if entry.get(name)]
        detail = entry.get("detail", {})
        more += [f"{name}={value}" for name, value in detail.items() if name != "chain"]
        table.add_row(str(entry["seq"]), entry["at"][11:19], entry["kind"], Text("\n".join(more)))
    Console().print(table)


@evidence.callback()
def export(
    context: typer.Context,
    call: Annotated[str | None, typer.Option("--call", help="The call's id.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The archive to write.")] = None,
    detector: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A watermark detector's report to add."),
    ] = None,
    reveal_text: Annotated[
        bool, typer.Option("--reveal-text", help="Add what was said, where the log keeps it.")
    ] = False,
    asked_by: Annotated[str, typer.Option(help="Who asks, as the log names it.")] = "command line",
    directory: DirOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a signed bundle: entries with proofs, checkpoints, consents, keys and a verifier."""
    if context.invoked_subcommand is not None:
        return
    if call is None or out is None:
        raise typer.BadParameter("both are needed, or a command", param_hint="--call and --out")
    settings = settings_of(config, quiet=True)
    run(_export(settings, call, out, detector, reveal_text, asked_by, directory, as_json))


@evidence.command("verify")
def verify_bundle(
    bundle: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    key: KeyOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a bundle, as the verifier inside it does. Exit code 1 where it doesn't hold.

    Against --key and the settings' keys; where there are none, against the bundle's own.
    """
    settings = settings_of(config, quiet=True)
    from ringtrue.agent.audit.published import VerificationError, check_bundle, show

    try:
        report = check_bundle(str(bundle), _keys(settings, key, needed=False))
    except VerificationError as error:
        if as_json:
            print_json({"good": False, "problem": str(error)})
        else:
            typer.secho(f"{bundle}: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(REFUSED) from None
    if as_json:
        findings = [finding._asdict() for finding in report.findings]
        print_json({"good": report.good, **report._asdict(), "findings": findings})
    else:
        typer.echo(show(report))
    raise typer.Exit(DONE if report.good else REFUSED)


async def _export(
    settings: Settings,
    call: str,
    out: Path,
    detector: Path | None,
    reveal_text: bool,
    asked_by: str,
    directory: Path | None,
    as_json: bool,
) -> int:
    from ringtrue.agent.audit.opening import audit_config, open_audit
    from ringtrue.agent.evidence import Export, Spoke, consents_in, export_call
    from ringtrue.agent.recording_setup import recordings_dir
    from ringtrue.voices.library import open_library
    from ringtrue.voices.library_config import library_config

    async def consents(spoke: Sequence[Spoke]) -> list[bytes]:
        async with open_library(library_config(settings.voices), {}) as library:
            return await consents_in(library)(spoke)

    setup = await asyncio.to_thread(audit_config, settings)
    export = Export(call, out, asked_by, reveal_text, detector, recordings_dir(settings))
    async with open_audit(settings) as recorder:
        done = await export_call(setup, export, recorder, consents, directory=directory)
    if as_json:
        print_json(
            {
                "call": call,
                "bundle": str(out),
                "entries": done.entries,
                "files": done.files,
                "public_key": setup.signer.public.hex(),
            }
        )
    else:
        typer.echo(f"{out}: {done.entries} entries of call {call}, signed by")
        typer.echo(setup.signer.public.hex())
    return DONE


def _keys(settings: Settings, given: list[str] | None, *, needed: bool = True) -> list[bytes]:
    from ringtrue.agent.audit.opening import audit_keys
    from ringtrue.agent.audit.published import HEX_KEY

    for key in given or ():
        if not HEX_KEY.fullmatch(key):
            raise typer.BadParameter(
                f"{key!r}; a public key is 64 hexadecimal digits in lower case", param_hint="--key"
            )
    keys = audit_keys(settings) + [bytes.fromhex(key) for key in given or ()]
    if not keys and needed:
        raise typer.BadParameter(
            "the settings name no key that signed; give it", param_hint="--key"
        )
    return keys


def moment_of(text: str) -> datetime:
    """What ``--since`` says; UTC where it names no zone. Raises :class:`typer.BadParameter`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}; e.g. 2026-03-01 or 2026-03-01T12:00:00Z", param_hint="--since"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
