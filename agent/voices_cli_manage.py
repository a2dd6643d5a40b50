"""What ``ringtrue voices list|show|withdraw|erase|export-consent`` do with the library."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from ringtrue.agent.cli_common import DONE, print_json
from ringtrue.agent.voice_library import open_voices
from ringtrue.agent.voices_api_models import ErasedOut, VoiceDetailOut, VoiceOut, WithdrawalOut
from ringtrue.agent.voices_view import view_voice
from ringtrue.config.settings import Settings
from ringtrue.voices.library import utc_now

ASKED_BY = "command line"
"""Who asks, as signed records and the audit log name it."""


async def list_all(settings: Settings, tenant: str, *, as_json: bool) -> int:
    """Every voice of ``tenant``."""
    async with open_voices(settings) as library:
        found = list(await library.store.voices.list(tenant))
        while found and (more := await library.store.voices.list(tenant, after=found[-1].id)):
            found += more
    if as_json:
        print_json({"voices": [VoiceOut.of(voice) for voice in found]})
        return DONE
    table = Table("name", "state", "engine", "language", "since", "id")
    for voice in found:
        since = f"{voice.created_at:%Y-%m-%d}"
        table.add_row(voice.name, voice.lifecycle, voice.engine, voice.language, since, voice.id)
    Console().print(table)
    return DONE


async def show(settings: Settings, tenant: str, voice: str, *, as_json: bool) -> int:
    """One voice and its consents."""
    async with open_voices(settings) as library:
        view = await view_voice(library, tenant, voice, utc_now())
    shown = VoiceDetailOut.of_view(view)
    if as_json:
        print_json(shown)
        return DONE
    console = Console()
    console.print(f"[bold]{shown.name}[/] {shown.id}\n{shown.state}, {shown.engine}")
    table = Table("consent", "status", "purposes", "agents", "until", title="Consents")
    for item in shown.consents:
        until = f"{item.expires:%Y-%m-%d}"
        table.add_row(
            item.serial, item.status, "\n".join(item.purposes), " ".join(item.agents), until
        )
    console.print(table)
    return DONE


async def withdraw(
    settings: Settings,
    tenant: str,
    voice: str,
    consent: str | None,
    asked_by: str,
    *,
    as_json: bool,
) -> int:
    """Take back one consent, or every one."""
    async with open_voices(settings) as library:
        done = await library.withdraw(
            tenant, voice, asked_by=asked_by, now=utc_now(), consent=consent
        )
    if as_json:
        print_json(
            WithdrawalOut(
                serial=done.serial, voice=done.voice, consent=done.consent, made_at=done.made_at
            )
        )
        return DONE
    what = f"Consent {consent}" if consent else "Every consent"
    typer.echo(f"{what} of {voice} is withdrawn (record {done.serial}).")
    return DONE


async def erase(settings: Settings, tenant: str, voice: str, *, as_json: bool) -> int:
    """Destroy a voice's key and all that it opened."""
    async with open_voices(settings) as library:
        left = await library.erase(tenant, voice, utc_now(), asked_by=ASKED_BY)
    if as_json:
        print_json(ErasedOut.of(left))
    else:
        typer.echo(f"{voice} is erased.")
    return DONE


async def export_consent(settings: Settings, tenant: str, voice: str, out: Path | None) -> int:
    """Every signed record of a voice, to ``out`` or standard output."""
    async with open_voices(settings) as library:
        document = await library.export_consent(tenant, voice, asked_by=ASKED_BY)
    if out is None:
        typer.echo(document.decode())
    else:
        await asyncio.to_thread(out.write_bytes, document)
    return DONE
