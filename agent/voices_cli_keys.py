"""Changing the master key: add, re-wrap, retire."""

from __future__ import annotations

import typer

from ringtrue.agent.audit.entries import Event, Kind
from ringtrue.agent.audit.opening import open_audit
from ringtrue.agent.cli_common import DONE, FAILED, print_json
from ringtrue.config.settings import Settings
from ringtrue.voices.keys.errors import KeyMaterialError
from ringtrue.voices.keys.management import KeyRing
from ringtrue.voices.keys.master import add_master_key, retire_master_key
from ringtrue.voices.library import open_library
from ringtrue.voices.library_config import KEYS, library_config, library_dir


async def rewrap(settings: Settings, *, add: bool, retire: bool, as_json: bool) -> int:
    """One step of a change of the master key; the exit code tells how it went.

    Raises :class:`~ringtrue.voices.keys.errors.KeyMaterialError` where a step needs a key file
    and the keys come from the environment.
    """
    held = settings.voices
    if (add or retire) and held.master_keys != "file":
        raise KeyMaterialError(
            "master keys come from the environment: add and retire them there, the current first"
        )
    config = library_config(held)  # a new library gets its first key here
    path = held.master_keys_file or library_dir(held) / KEYS / "master.keys"
    if add:
        current = add_master_key(path)
        await _record(settings, {"what": "added", "key": current})
        if as_json:
            print_json({"current": current, "file": str(path)})
        else:
            typer.echo(f"Master key {current} is in {path}, and current.")
            typer.echo("Restart servers now, then run `ringtrue voices rewrap-keys`.", err=True)
        return DONE
    async with open_library(config, {}) as library:
        done = await library.store.vault.rewrap()
    ring = config.keys
    older = [key for key in ring.ids if key != ring.current_id] if isinstance(ring, KeyRing) else []
    retired = []
    if retire and done.complete:
        for key_id in older:
            retire_master_key(path, key_id)
            retired.append(key_id)
    await _record(
        settings,
        {
            "what": "rewrapped",
            "key": ring.current_id,
            "rewrapped": done.rewrapped,
            "unreadable": len(done.unreadable),
            "retired": ", ".join(retired),
        },
    )
    if as_json:
        print_json(
            {
                "current": ring.current_id,
                "rewrapped": done.rewrapped,
                "unreadable": done.unreadable,
                "retired": retired,
                "older": [key for key in older if key not in retired],
            }
        )
        return DONE if done.complete else FAILED
    typer.echo(f"{done.rewrapped} keys were wrapped anew, under master key {ring.current_id}.")
    for key_id in retired:
        typer.echo(f"Master key {key_id} is gone.")
    if not done.complete:
        unreadable = ", ".join(done.unreadable)
        typer.secho(f"Left alone, not readable: {unreadable}", err=True, fg=typer.colors.RED)
        return FAILED
    if older and not retire:
        typer.echo(f"Not needed any more: {', '.join(older)} (--retire deletes them).")
    return DONE


async def _record(settings: Settings, detail: dict[str, str | int | bool]) -> None:
    async with open_audit(settings) as audit:
        audit.record(Event(Kind.MASTER_KEY, requester="command line", detail=detail))
