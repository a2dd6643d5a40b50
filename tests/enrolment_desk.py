"""A real library of voices with an engine that hums, and a desk that does as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ringtrue.config.voice_settings import VoicesSettings
from ringtrue.streaming.ports import SpeechChunk, SynthesisStream
from ringtrue.voices.consent.challenge import IssuedChallenge
from ringtrue.voices.consent.records import ConsentArtifact, sha256_of
from ringtrue.voices.engine import OnProgress, Progress, Speech
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.library import Candidate, Statement, VoiceLibrary, open_library
from ringtrue.voices.library_config import LibraryConfig, library_config
from ringtrue.voices.store.profile import Voice

NAME = "Ada Quillfeather"
PURPOSE = "reception of Example Ltd"
ENGINE = "hum-1"
EMBEDDING = np.full(256, 1 / 16, np.float32).tobytes()

GOOD = Finding(Check.NOISE, True, 31.0, 15.0, "31 dB above the noise; at least 15 dB are needed")
NOISY = Finding(
    Check.NOISE, False, 6.0, 15.0, "6 dB above the noise; at least 15 dB are needed: a quiet room"
)


class HumStream:
    """100 ms of a hum for every phrase; for one that says "on", every 100 ms without end."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._phrases: asyncio.Queue[str | None] = asyncio.Queue()
        self._cut = False

    def feed(self, phrase: str) -> None:
        self._phrases.put_nowait(phrase)

    def finish(self) -> None:
        self._phrases.put_nowait(None)

    def cut(self) -> None:
        self._cut = True
        self._phrases.put_nowait(None)

    async def frames(self) -> AsyncIterator[SpeechChunk]:
        turn = 2 * np.pi * 150 * np.arange(self._rate // 10) / self._rate
        pcm = (6000 * np.sin(turn)).astype("<i2").tobytes()
        while (phrase := await self._phrases.get()) is not None:
            while "on" in phrase.split() and not self._cut:
                yield SpeechChunk(pcm)
                await asyncio.sleep(0.1)
            yield SpeechChunk(pcm, phrase_end=True)


class HumVoice:
    speaks_markup = False

    def open(self, rate: int) -> SynthesisStream:
        return HumStream(rate)


class HumEngine:
    """Implements ``VoiceEngine``."""

    id = ENGINE

    async def warm(self) -> None: ...

    async def clone(self, speech: Speech, on_progress: OnProgress) -> bytes:
        return b"state"

    async def prepare(self, state: bytes) -> HumVoice:
        assert state == b"state"
        return HumVoice()

    async def close(self) -> None: ...


@dataclass
class Enrolled:
    voice: Voice
    findings: tuple[Finding, ...] = (GOOD,)
    similarity: float = 0.87


@dataclass
class ScriptedDesk:
    """Redeems real challenges; ``outcome`` is raised in place of a voice, ``go`` is waited for."""

    library: VoiceLibrary
    outcome: Exception | None = None
    go: asyncio.Event = field(default_factory=asyncio.Event)
    recordings: list[tuple[bytes, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.go.set()

    async def begin(
        self, tenant: str, *, name: str, purpose: str, now: datetime
    ) -> IssuedChallenge:
        if not name.isascii():
            raise ValueError("name holds letters that can't be checked; allowed: Latin letters")
        return await self.library.store.challenges.issue(
            tenant, name=name, purpose=purpose, now=now
        )

    async def enrol(
        self,
        tenant: str,
        token: str,
        *,
        name: str,
        purpose: str,
        statement: bytes,
        speech: bytes,
        agents: tuple[str, ...],
        engine: str,
        language: str,
        expires: datetime | None,
        asked_by: str,
        now: datetime,
        on_progress: OnProgress,
    ) -> Enrolled:
        challenges = self.library.store.challenges
        await challenges.redeem(tenant, token, name=name, purpose=purpose, now=now)
        on_progress(Progress(0.25, "checking the recordings"))
        await self.go.wait()
        self.recordings.append((statement, speech))
        if self.outcome is not None:
            raise self.outcome
        on_progress(Progress(0.5, "fitting the voice"))
        voice, _ = await self.library.admit(
            tenant,
            Candidate(name, language, engine, EMBEDDING, b"state"),
            self._statement(name, purpose, statement, agents, asked_by, expires),
            now,
        )
        return Enrolled(voice)

    async def renew(
        self,
        tenant: str,
        voice: str,
        token: str,
        *,
        name: str,
        purpose: str,
        statement: bytes,
        agents: tuple[str, ...],
        expires: datetime | None,
        asked_by: str,
        now: datetime,
    ) -> ConsentArtifact:
        challenges = self.library.store.challenges
        await challenges.redeem(tenant, token, name=name, purpose=purpose, now=now)
        self.recordings.append((statement, b""))
        if self.outcome is not None:
            raise self.outcome
        said = self._statement(name, purpose, statement, agents, asked_by, expires)
        return await self.library.renew(tenant, voice, said, now)

    @staticmethod
    def _statement(
        name: str,
        purpose: str,
        statement: bytes,
        agents: tuple[str, ...],
        asked_by: str,
        expires: datetime | None,
    ) -> Statement:
        words = f"I {name} consent to the cloning of my voice for {purpose}"
        return Statement(name, words, sha256_of(statement), (purpose,), asked_by, agents, expires)


def config_in(directory: Path, **settings: Any) -> LibraryConfig:
    """Of a library on a blank machine."""
    return library_config(VoicesSettings(dir=directory, **settings), {})


@asynccontextmanager
async def hum_library(directory: Path) -> AsyncIterator[VoiceLibrary]:
    """An empty library whose engine is :class:`HumEngine`."""
    async with open_library(config_in(directory), {ENGINE: HumEngine()}) as library:
        yield library


async def admitted(
    library: VoiceLibrary,
    now: datetime,
    *,
    tenant: str = "acme",
    name: str = NAME,
    agents: tuple[str, ...] = ("*",),
) -> Voice:
    """A live voice."""
    said = Statement(name, "I consent", "0" * 64, (PURPOSE,), "test", agents)
    candidate = Candidate(name, "en", ENGINE, EMBEDDING, b"state")
    voice, _ = await library.admit(tenant, candidate, said, now)
    return voice
