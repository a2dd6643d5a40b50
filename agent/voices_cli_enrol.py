"""Enrolling and renewing from the command line: challenge, microphone, progress, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from ringtrue.agent.cli_common import DONE, REFUSED, print_json
from ringtrue.agent.enrolments import UNCHECKED
from ringtrue.agent.microphone import Heard, Tool, record, recorder
from ringtrue.agent.voice_library import open_voices
from ringtrue.agent.voices_api_models import FindingOut
from ringtrue.agent.voices_desk import enrolment_desk
from ringtrue.config.settings import Settings
from ringtrue.streaming.errors import RingtrueError
from ringtrue.voices.consent.challenge import IssuedChallenge
from ringtrue.voices.consent.errors import ChallengeError
from ringtrue.voices.engine import Progress as Step
from ringtrue.voices.enrolment.errors import EnrolmentRefused, RecordingError
from ringtrue.voices.enrolment.findings import Finding
from ringtrue.voices.enrolment.recording import MAX_BYTES
from ringtrue.voices.errors import CloningError
from ringtrue.voices.hosted import choose_engine
from ringtrue.voices.library import checked_name, utc_now
from ringtrue.voices.store.errors import VoiceExistsError, VoiceNotFoundError

COUNTDOWN: Final = 3
"""Seconds to take a breath."""

WORDS_PER_SECOND: Final = 1.6
"""A slow reader's; how long a statement is recorded follows from it."""

MARGIN_SECONDS: Final = 2.5

PASSAGE: Final = (
    "Every morning the baker opens her shop while the street is still quiet. She chooses fresh "
    "rye, mixes the dough, and listens to the weather on a small radio. By eight, there is a "
    "queue of neighbours: some in a hurry, others happy to chat about the garden, the news, or "
    "a joke they heard on the way. Is it usual, she asks, for bread to smell like home?"
)
"""Something to read for those who have nothing to say."""


class EnrolmentArgumentsError(RingtrueError):
    """Options that don't go together."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    tenant: str
    name: str
    """Of the speaker; for a renewal, of the voice, or its id."""

    purpose: str
    agents: tuple[str, ...]
    token: str | None = field(default=None, repr=False)
    statement: Path | None = None
    speech: Path | None = None
    seconds: float = 20.0
    engine: str = "embedded-1"
    language: str = "en"
    expires_days: int | None = None
    asked_by: str = "command line"

    def expires(self, now: datetime) -> datetime | None:
        """When the consent ends; None: as the settings say."""
        return None if self.expires_days is None else now + timedelta(self.expires_days)


@dataclass(frozen=True, slots=True)
class _Recordings:
    token: str = field(repr=False)
    statement: bytes = field(repr=False)
    speech: bytes = field(repr=False)


async def issue(settings: Settings, tenant: str, name: str, purpose: str, *, as_json: bool) -> int:
    """Issue a challenge and print it with its token."""
    async with open_voices(settings) as library:
        desk = enrolment_desk(library)
        issued = await _begin(desk.begin, tenant, checked_name(name), purpose)
    challenge = issued.challenge
    if as_json:
        print_json(
            {
                "token": issued.token,
                "text": challenge.text,
                "statement": challenge.statement,
                "phrase": challenge.phrase,
                "expires": challenge.expires,
            }
        )
    else:
        Console(stderr=True).print(
            Panel(Text(challenge.text), title="To be read out", subtitle=_until(issued))
        )
        typer.echo(issued.token)
    return DONE


async def enrol(settings: Settings, request: Request, *, as_json: bool) -> int:
    """Enrol a voice; the exit code tells how it went."""
    _check(request, needs_speech=True)
    name = checked_name(request.name)
    console = Console(stderr=True)
    async with open_voices(settings) as library:
        desk = enrolment_desk(library)
        try:
            choose_engine(library.engines, request.engine)
        except CloningError as error:
            raise EnrolmentArgumentsError(str(error)) from None
        try:
            await library.find(request.tenant, name)
        except VoiceNotFoundError:
            pass
        else:
            raise VoiceExistsError(f"there is a voice of the name {name!r}")
        given = await _recordings(
            request, lambda: _begin(desk.begin, request.tenant, name, request.purpose), console
        )
        now = utc_now()
        try:
            with _progress(console, quiet=as_json) as on_progress:
                done = await desk.enrol(
                    request.tenant,
                    given.token,
                    name=name,
                    purpose=request.purpose,
                    statement=given.statement,
                    speech=given.speech,
                    agents=request.agents,
                    engine=request.engine,
                    language=request.language,
                    expires=request.expires(now),
                    asked_by=request.asked_by,
                    now=now,
                    on_progress=on_progress,
                )
        except (EnrolmentRefused, RecordingError, ChallengeError, CloningError) as error:
            return _refused(error, console, as_json)
        except ValueError as error:  # a name or purpose that can't be read out
            raise EnrolmentArgumentsError(str(error)) from None
    if as_json:
        print_json(
            {
                "voice": done.voice.id,
                "name": done.voice.name,
                "similarity": round(done.similarity, 4),
                "findings": [FindingOut.of(finding) for finding in done.findings],
            }
        )
    else:
        console.print(f"[green]{done.voice.name} is enrolled[/] ({done.voice.id}).")
        console.print(f"Likeness to the recording: {done.similarity:.2f} of 1.")
        console.print(f'Hear it: ringtrue voices play "{done.voice.name}"')
    return DONE


async def renew(settings: Settings, request: Request, *, as_json: bool) -> int:
    """Take a new consent for a voice; the exit code tells how it went."""
    _check(request, needs_speech=False)
    console = Console(stderr=True)
    async with open_voices(settings) as library:
        desk = enrolment_desk(library)
        voice = await library.find(request.tenant, request.name)
        given = await _recordings(
            request,
            lambda: _begin(desk.begin, request.tenant, voice.name, request.purpose),
            console,
            speech=False,
        )
        now = utc_now()
        try:
            consent = await desk.renew(
                request.tenant,
                voice.id,
                given.token,
                name=voice.name,
                purpose=request.purpose,
                statement=given.statement,
                agents=request.agents,
                expires=request.expires(now),
                asked_by=request.asked_by,
                now=now,
            )
        except (EnrolmentRefused, RecordingError, ChallengeError) as error:
            return _refused(error, console, as_json)
        except ValueError as error:
            raise EnrolmentArgumentsError(str(error)) from None
    if as_json:
        shown = {"voice": voice.id, "consent": consent.serial, "expires": consent.scope.expires}
        print_json(shown)
    else:
        until = f"{consent.scope.expires:%Y-%m-%d}"
        console.print(f"[green]{voice.name} is renewed[/] until {until} ({consent.serial}).")
    return DONE


def _check(request: Request, *, needs_speech: bool) -> None:
    """Refuse what can't work before anything is loaded or anybody speaks."""
    if request.statement is not None and request.token is None:
        raise EnrolmentArgumentsError(
            "--statement needs --challenge: what it says must be a challenge's text; "
            "`ringtrue voices challenge` gives one"
        )
    if request.token is not None and request.statement is None:
        raise EnrolmentArgumentsError("--challenge needs --statement: the challenge, read out")
    for path in (request.statement, request.speech):
        if path is not None and path.stat().st_size > MAX_BYTES:
            raise EnrolmentArgumentsError(
                f"{path} has {path.stat().st_size} bytes; allowed: {MAX_BYTES}"
            )
    if request.statement is None or (needs_speech and request.speech is None):
        recorder()


async def _begin(
    begin: Callable[..., Awaitable[IssuedChallenge]], tenant: str, name: str, purpose: str
) -> IssuedChallenge:
    try:
        return await begin(tenant, name=name, purpose=purpose, now=utc_now())
    except ValueError as error:
        raise EnrolmentArgumentsError(str(error)) from None


async def _recordings(
    request: Request,
    begin: Callable[[], Awaitable[IssuedChallenge]],
    console: Console,
    *,
    speech: bool = True,
) -> _Recordings:
    """From the files that are given, and from the microphone what is not."""
    body = b""
    if speech and request.speech is not None:
        body = await asyncio.to_thread(request.speech.read_bytes)
    elif speech:
        console.print(Panel(PASSAGE, title="Say anything, or read this"))
        body = await _record(recorder(), request.seconds, console)
    # Last, because the challenge runs out.
    if request.token is not None and request.statement is not None:
        read = await asyncio.to_thread(request.statement.read_bytes)
        return _Recordings(request.token, read, body)
    issued = await begin()
    text = issued.challenge.text
    console.print(Panel(Text(text, style="bold"), title="Now read this out, word for word"))
    seconds = len(text.split()) / WORDS_PER_SECOND + MARGIN_SECONDS
    return _Recordings(issued.token, await _record(recorder(), seconds, console), body)


async def _record(tool: Tool, seconds: float, console: Console) -> bytes:
    """One recording, with a countdown before it and a level while it lasts."""
    with Live(console=console, transient=True, refresh_per_second=10) as live:
        for left in range(COUNTDOWN, 0, -1):
            live.update(Text(f"Recording in {left} ..."))
            await asyncio.sleep(1)

        def on_heard(heard: Heard) -> None:
            bar = "#" * round(30 * heard.peak)
            left = max(0.0, seconds - heard.seconds)
            clipped = "  too loud" if heard.peak > 0.99 else ""
            live.update(Text(f"Speak now: {left:4.1f} s  [{bar:<30}]{clipped}"))

        return await record(tool, seconds, on_heard)


@contextmanager
def _progress(console: Console, *, quiet: bool) -> Iterator[Callable[[Step], None]]:
    """A bar that follows the enrolment; safe to be told from any thread."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=quiet,
    )
    with bar:
        task = bar.add_task("listening to the recordings", total=1.0)

        def on_progress(step: Step) -> None:
            bar.update(task, completed=step.done, description=step.doing)

        yield on_progress


def _refused(error: RingtrueError, console: Console, as_json: bool) -> int:
    findings: tuple[Finding, ...] = ()
    message = str(error)
    if isinstance(error, EnrolmentRefused):
        findings = error.findings
        message = message or UNCHECKED
    if as_json:
        shown: dict[str, Any] = {"refused": message}
        if isinstance(error, ChallengeError):
            shown["challenge"] = error.reason.value
        shown["findings"] = [FindingOut.of(finding) for finding in findings]
        print_json(shown)
        return REFUSED
    console.print("[red]Refused:[/]")
    messages = [finding.message for finding in findings if not finding.passed] or [message]
    for message in messages:
        console.print(Text(f"  - {message}"))
    console.print("Run this again for a new challenge.")
    return REFUSED


def _until(issued: IssuedChallenge) -> str:
    return f"until {issued.challenge.expires.astimezone():%H:%M:%S}"
