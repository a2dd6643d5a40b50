"""Saying a text from the command line: by a lease, to a file, a pipe or the loudspeaker."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

import typer

from ringtrue.agent.audit.ledger import AuditLedger
from ringtrue.agent.audit.opening import open_audit
from ringtrue.agent.cli_common import DONE, FAILED, REFUSED, print_json
from ringtrue.agent.microphone import play, player
from ringtrue.agent.voice_library import open_voices, stock_engine
from ringtrue.agent.voices_view import view_voice
from ringtrue.config.settings import Settings
from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.gate import FrameKind, UtteranceDigest
from ringtrue.streaming.ports import SynthesisStream, frame_bytes
from ringtrue.streaming.refusals import RefusalReport
from ringtrue.voices.flite import VOICES
from ringtrue.voices.lease import ConsentLostError
from ringtrue.voices.ledger import Act, Deed, Ledger, Speech
from ringtrue.voices.library import VoiceLibrary, utc_now
from ringtrue.voices.library_config import mark_keys
from ringtrue.voices.licensing import ConsentRefusedError
from ringtrue.voices.saying import WavWriter, phrases
from ringtrue.voices.spoken import spoken
from ringtrue.voices.watermark.marker import Marker

STDOUT: Final = "-"
COMMAND: Final = "command line"
"""Who asks, as the audit log names it."""


class NothingToSayError(RingtrueError):
    """The text holds nothing that can be spoken."""


class PurposeNeededError(RingtrueError):
    """A voice may speak for several things; which was not said."""


@dataclass(frozen=True, slots=True)
class Saying:
    """What is to be said, by whom and where to."""

    tenant: str
    voice: str
    text: str = field(repr=False)
    agent: str = "cli"
    purpose: str | None = None
    """None: the only one there is a consent for."""

    out: str | None = None
    """A file, ``-``, or None for the loudspeaker."""

    rate: int = 16000


@dataclass(frozen=True, slots=True)
class _Mouth:
    stream: SynthesisStream
    markup: bool
    marker: Marker
    ledger: Ledger
    voice: str
    engine: str
    version: int | None = None

    def pcm(self, saying: Saying) -> AsyncGenerator[bytes]:
        """What is heard."""

        def went_out(digest: UtteranceDigest) -> None:
            self.ledger.spoken(
                Speech(
                    digest,
                    saying.rate,
                    saying.tenant,
                    self.voice,
                    self.engine,
                    self.version,
                    agent=saying.agent,
                    asked_by=COMMAND,
                    text=saying.text,
                )
            )

        def refused(report: RefusalReport) -> None:
            deed = Deed(Act.REFUSED, saying.tenant, self.voice, agent=saying.agent)
            reason = str(report.reason)
            self.ledger.note(replace(deed, asked_by=COMMAND, engine=self.engine, reason=reason))

        return spoken(
            self.stream,
            saying.text,
            saying.rate,
            self.marker,
            markup=self.markup,
            on_digest=went_out,
            on_refusal=refused,
        )


def greeting(voice: str) -> str:
    """What a voice says that is only to be heard."""
    return (
        f"Hello, this is the voice of {voice}. It was made from a recording, with consent, "
        "and it can be taken back at any time."
    )


async def say(settings: Settings, saying: Saying, *, as_json: bool) -> int:
    """Say it; the exit code tells how it went."""
    if not phrases(saying.text):
        raise NothingToSayError("the text is empty; allowed: at least one word")
    if saying.out is None:
        player()  # before anything is loaded
    try:
        async with _mouth(settings, saying) as mouth:
            samples = await _say(mouth, saying)
    except (ConsentRefusedError, ConsentLostError) as error:
        reason = error.decision.reason if isinstance(error, ConsentRefusedError) else error.reason
        if as_json and saying.out != STDOUT:
            print_json({"refused": reason.value, "message": str(error)})
        else:
            typer.secho(f"ringtrue: {error}", err=True, fg=typer.colors.RED)
        return REFUSED
    except BrokenPipeError:
        # Whoever listened has gone; the interpreter must not try to flush to them again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    if as_json and saying.out != STDOUT:
        seconds = round(samples / saying.rate, 3)
        print_json({"voice": saying.voice, "seconds": seconds, "out": saying.out})
    return DONE


@asynccontextmanager
async def _mouth(settings: Settings, saying: Saying) -> AsyncIterator[_Mouth]:
    """Something that speaks as asked: a stock voice, or a cloned one under a lease."""
    marker = await asyncio.to_thread(_marker, settings, saying.rate)
    if saying.voice in VOICES:
        engine = stock_engine(settings)
        try:
            async with open_audit(settings) as audit:
                stream = engine.open(saying.voice, saying.rate)
                ledger = AuditLedger(audit)
                markup = engine.speaks_markup
                yield _Mouth(stream, markup, marker, ledger, saying.voice, engine.name)
        finally:
            await engine.close()
        return
    async with open_voices(settings) as library:
        purpose = saying.purpose or await _only_purpose(library, saying)
        lease = await library.lease(
            tenant=saying.tenant, voice=saying.voice, agent=saying.agent, purpose=purpose
        )
        try:
            yield _Mouth(
                lease.open(saying.rate),
                lease.speaks_markup,
                marker,
                library.ledger,
                lease.voice,
                lease.engine,
                lease.version,
            )
        finally:
            lease.close()


def _marker(settings: Settings, rate: int) -> Marker:
    """The installation's watermark, loaded, so that the first frame waits for nothing."""
    marker = Marker(mark_keys(settings.voices), rate, utc_now())
    marker.mark(bytes(frame_bytes(rate)), FrameKind.SILENCE)
    return marker


async def _only_purpose(library: VoiceLibrary, saying: Saying) -> str:
    """The purpose of the live consents, where there is one; the lease asks the register anyway."""
    view = await view_voice(library, saying.tenant, saying.voice, utc_now())
    if len(view.purposes) > 1:
        known = ", ".join(repr(purpose) for purpose in view.purposes)
        raise PurposeNeededError(f"--purpose is needed; this voice has consent for: {known}")
    # Without any, the register says what is wrong.
    return view.purposes[0] if view.purposes else "unknown"


async def _say(mouth: _Mouth, saying: Saying) -> int:
    """Samples that were said."""
    if saying.out is None:
        counted = _Counted()
        await play(player(), counted.wav(mouth, saying))
        return counted.samples
    with _sink(saying.out) as file:
        writer = WavWriter(file, saying.rate)
        async with aclosing(mouth.pcm(saying)) as pcm:
            async for frames in pcm:
                writer.write(frames)
                if saying.out == STDOUT:
                    file.flush()
        writer.close()
        return writer.samples


class _Counted:
    """A WAV stream, and how long it was."""

    def __init__(self) -> None:
        self.samples = 0

    async def wav(self, mouth: _Mouth, saying: Saying) -> AsyncIterator[bytes]:
        WavWriter(header := io.BytesIO(), saying.rate)
        yield header.getvalue()
        async with aclosing(mouth.pcm(saying)) as pcm:
            async for frames in pcm:
                self.samples += len(frames) // 2
                yield frames


@contextlib.contextmanager
def _sink(out: str) -> Iterator[BinaryIO]:
    """Standard output, or a file that is there only if all went well."""
    if out == STDOUT:
        with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as pipe:
            yield pipe
        return
    path = Path(out)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("wb") as file:
            yield file
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
