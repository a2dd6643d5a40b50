"""``ringtrue voices``: from a recording to a live voice, and everything about it after that."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ringtrue.agent.cli_common import (
    ConfigOption,
    JsonOption,
    TenantOption,
    run,
    settings_of,
)

voices = typer.Typer(help="Cloned voices, by consent.", no_args_is_help=True)

VoiceArgument = Annotated[str, typer.Argument(help="The voice's name or id.")]
PurposeOption = Annotated[
    str,
    typer.Option(help="What it will speak for, as it is said: reception of Example Ltd."),
]
AgentsOption = Annotated[
    list[str] | None,
    typer.Option("--agent", help="An agent that may speak with it; repeat. Default: all."),
]
DaysOption = Annotated[
    int | None, typer.Option(min=1, max=3650, help="When the consent ends; default: settings.")
]
StatementOption = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="The challenge, read out; with --challenge."),
]
TokenOption = Annotated[
    str | None,
    typer.Option("--challenge", help="Token of a challenge that was issued before."),
]
SpeechOption = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="5 to 30 s of speech; default: microphone."),
]
OutOption = Annotated[
    str | None, typer.Option("--out", "-o", help="A WAV file, or - for standard output.")
]
AskedOption = Annotated[str, typer.Option(help="Who asks, as the signed record names it.")]


@voices.command()
def challenge(
    name: Annotated[str, typer.Option(help="Who speaks, as it is said.")],
    purpose: PurposeOption,
    tenant: TenantOption = "default",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Issue a challenge: what has to be read out, once, within ten minutes."""
    settings = settings_of(config, quiet=True)
    from ringtrue.agent.voices_cli_enrol import issue

    run(issue(settings, tenant, name, purpose, as_json=as_json))


@voices.command()
def enrol(
    name: Annotated[str, typer.Option(help="Who speaks, as it is said.")],
    purpose: PurposeOption,
    agent: AgentsOption = None,
    challenge: TokenOption = None,
    statement: StatementOption = None,
    speech: SpeechOption = None,
    seconds: Annotated[float, typer.Option(min=5, max=30, help="How much speech to record.")] = 20,
    engine: Annotated[str, typer.Option(help="What makes and speaks the voice.")] = "embedded-1",
    language: Annotated[str, typer.Option(help="BCP 47.")] = "en",
    expires_days: DaysOption = None,
    asked_by: AskedOption = "command line",
    tenant: TenantOption = "default",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Clone a voice: read a challenge out, say something more, wait half a minute.

    With a microphone nothing else is needed. With files: `voices challenge` first, then
    --challenge, --statement and --speech.
    """
    settings = settings_of(config, quiet=True)
    from ringtrue.agent.voices_cli_enrol import Request, enrol

    request = Request(
        tenant=tenant,
        name=name,
        purpose=purpose,
        agents=tuple(agent or ("*",)),
        token=challenge,
        statement=statement,
        speech=speech,
        seconds=seconds,
        engine=engine,
        language=language,
        expires_days=expires_days,
        asked_by=asked_by,
    )
    run(enrol(settings, request, as_json=as_json))


@voices.command()
def renew(
    voice: VoiceArgument,
    purpose: PurposeOption,
    agent: AgentsOption = None,
    challenge: TokenOption = None,
    statement: StatementOption = None,
    expires_days: DaysOption = None,
    asked_by: AskedOption = "command line",
    tenant: TenantOption = "default",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a new consent for a voice, said by the same speaker."""
    settings = settings_of(config, quiet=True)
    from ringtrue.agent.voices_cli_enrol import Request, renew

    request = Request(
        tenant=tenant,
        name=voice,
        purpose=purpose,
        agents=tuple(agent or ("*",)),
        token=challenge,
        statement=statement,
        expires_days=expires_days,
        asked_by=asked_by,
    )
    run(renew(settings, request, as_json=as_json))


@voices.command("list")
def list_voices(
    tenant: TenantOption = "default", config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """List the voices."""
    settings = settings_of(config, quiet=True)
    from ringtrue.agent.voices_cli_manage import list_all

    run(list_all(settings, tenant, as_json=as_json))


@voices.command()
def show(
    voice: VoiceArgument,
    tenant: TenantOption = "default",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a voice and its consents."""
    settings = settings_of(config, quiet=True)
    from ringtrue.agent.voices_cli_manage import show

    run(show(settings, tenant, voice, as_json=as_json))


@voices.command()
def play(
    voice: VoiceArgument,
    text: Annotated[str | None, typer.Argument(help="What it says; default: who it is.")] = None,
    out: OutOption = None,
    agent: Annotated[str, typer.Option(help="As which agent it speaks.")] = "cli",
    purpose: Annotated[str | None, typer.Option(help="Default: the one consented to.")] = None,
    tenant: TenantOption = "default",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hear a voice."""
    settings = settings_of(config, quiet=True)
    from ringtrue.agent.voices_cli_say import Saying, greeting, say

    saying = Saying(tenant, voice, text or greeting(voice), agent, purpose, out)
    run(say(settings, saying, as_json=as_json))


@voices.command()
def withdraw(
    voice: VoiceArgument,
    consent: Annotated[
        str | None, typer.Option(help="A consent's serial; default: every consent.")
    ] = None,
    asked_by: AskedOption = "command line",
    tenant: TenantOption = "default",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take consent back; calls in progress change voice within half a second."""
    settings = settings_of(config, quiet=True)
    from ringtrue.agent.voices_cli_manage import withdraw

    run(withdraw(settings, tenant, voice, consent, asked_by, as_json=as_json))


@voices.command()
def erase(
    voice: VoiceArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    tenant: TenantOption = "default",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a voice for good: its key, and all that the key opened."""
    settings = settings_of(config, quiet=True)
    if not yes:
        typer.confirm(f"Erase {voice} for good? No backup can bring it back", abort=True, err=True)
    from ringtrue.agent.voices_cli_manage import erase

    run(erase(settings, tenant, voice, as_json=as_json))


@voices.command("export-consent")
def export_consent(
    voice: VoiceArgument,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file.")] = None,
    tenant: TenantOption = "default",
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The export is JSON anyway.")] = False,
) -> None:
    """Write every signed record of a voice, with the public keys that check them, as JSON."""
    settings = settings_of(config, quiet=True)
    from ringtrue.agent.voices_cli_manage import export_consent

    run(export_consent(settings, tenant, voice, out))


@voices.command()
def audit(
    floor: Annotated[
        float,
        typer.Option(
            min=-1,
            max=1,
            help="Lowest cosine that passes, of a voice whose own was not kept at enrolment.",
        ),
    ] = 0.7,
    voice: Annotated[str | None, typer.Option(help="Only this one.")] = None,
    tenant: TenantOption = "default",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Re-score live voices against their speakers, and check their consents' signatures."""
    settings = settings_of(config, quiet=True)
    from ringtrue.agent.voices_cli_audit import audit

    run(audit(settings, tenant, voice, floor, as_json=as_json))


@voices.command("rewrap-keys")
def rewrap_keys(
    add: Annotated[
        bool, typer.Option("--add", help="Step 1: make a new master key, and nothing more.")
    ] = False,
    retire: Annotated[
        bool, typer.Option("--retire", help="Step 3: delete the older master keys.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change the master key, in three steps; voices go on speaking meanwhile.

    First --add, and restart servers so that they know the new key. Then, without an option, wrap
    every voice's key under it. Then --retire, once no backup needs the old key.
    """
    if add and retire:
        raise typer.BadParameter("--add and --retire are different steps; give one of them")
    settings = settings_of(config, quiet=True)
    from ringtrue.agent.voices_cli_keys import rewrap

    run(rewrap(settings, add=add, retire=retire, as_json=as_json))


def say(
    text: Annotated[str, typer.Argument(help="What to say, or - to read it from the input.")],
    voice: Annotated[str, typer.Option(help="A cloned voice's name or id, or slt, awb, rms.")],
    out: OutOption = None,
    agent: Annotated[str, typer.Option(help="As which agent it speaks.")] = "cli",
    purpose: Annotated[str | None, typer.Option(help="Default: the one consented to.")] = None,
    rate: Annotated[int, typer.Option(help="8000 or 16000 Hz.")] = 16000,
    tenant: TenantOption = "default",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say a text: to the loudspeaker, into a WAV file, or down a pipe as it is made."""
    if rate not in (8000, 16000):
        raise typer.BadParameter(f"{rate}; allowed: 8000, 16000", param_hint="--rate")
    settings = settings_of(config, quiet=True)
    if text == "-":
        text = typer.get_text_stream("stdin").read()
    from ringtrue.agent.voices_cli_say import Saying, say

    run(say(settings, Saying(tenant, voice, text, agent, purpose, out, rate), as_json=as_json))
