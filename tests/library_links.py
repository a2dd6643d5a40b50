"""A library of cloned voices over real databases, and a voice in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fakes.scripted_voices import ScriptedVoice
from ringtrue.streaming.ports import SynthesisStream
from ringtrue.voices.consent.records import ConsentArtifact, sha256_of
from ringtrue.voices.engine import OnProgress, PreparedVoice, Speech, VoiceEngine
from ringtrue.voices.errors import EngineStateError
from ringtrue.voices.keys.signing import Signer, TrustedKeys
from ringtrue.voices.library import Candidate, Statement, VoiceLibrary, open_library, utc_now
from ringtrue.voices.library_config import LibraryConfig
from ringtrue.voices.store.profile import BlobKind, Voice
from ringtrue.voices.watermark.keyring import MarkKeys
from ringtrue.voices.watermark.keys import MarkKey
from store_links import Urls, ring

TENANT = "acme"
NAME = "Ada Quillfeather"
PURPOSE = "reception of Example Ltd"
EMBEDDING = (b"voiceprint-of-ada|" * 57)[:1024]
STATE = b"engine-state-of-ada|" * 400
STATEMENT_AUDIO = b"statement-audio-of-ada|" * 100
TRANSCRIPT = f"I, {NAME}, consent to the cloning of my voice for {PURPOSE}."
SECRETS = (
    EMBEDDING[:36],
    STATE[:40],
    STATEMENT_AUDIO[:46],
    NAME.encode(),
    b"consent to the cloning",
)
"""What no file, dump or cache may hold in the clear."""


class RecordingEngine:
    """An engine that says numbered words, and counts what it is asked."""

    id = "recording-1"

    def __init__(self) -> None:
        self.prepared: list[bytes] = []
        self.opened = 0

    async def warm(self) -> None:
        """Nothing to load."""

    async def clone(self, speech: Speech, on_progress: OnProgress) -> bytes:
        return STATE

    async def prepare(self, state: bytes) -> PreparedVoice:
        if not state.startswith(b"engine-state"):
            raise EngineStateError("no state of this engine")
        self.prepared.append(state)
        return _Prepared(self)

    async def close(self) -> None:
        """Nothing to release."""


class _Prepared:
    speaks_markup = False

    def __init__(self, engine: RecordingEngine) -> None:
        self._engine = engine

    def open(self, rate: int) -> SynthesisStream:
        self._engine.opened += 1
        return ScriptedVoice(licensed=False).open(rate)


@dataclass
class Shelves:
    """One pair of databases and the keys to them, to be opened as often as one likes."""

    urls: Urls
    signer: Signer = field(default_factory=Signer.generate)
    engine: RecordingEngine = field(default_factory=RecordingEngine)
    redis_url: str | None = None
    marks: MarkKeys = field(default_factory=lambda: MarkKeys.of(MarkKey.generate()))

    def config(self, **changes: Any) -> LibraryConfig:
        values: dict[str, Any] = {
            "database_url": self.urls.voices,
            "keys_url": self.urls.keys,
            "keys": ring("m1"),
            "signer": self.signer,
            "trusted": TrustedKeys([self.signer.public]),
            "marks": self.marks,
            "redis_url": self.redis_url,
        }
        return LibraryConfig(**values | changes)

    @asynccontextmanager
    async def open(
        self, engines: Mapping[str, VoiceEngine] | None = None, **changes: Any
    ) -> AsyncIterator[VoiceLibrary]:
        mine = {self.engine.id: self.engine} if engines is None else engines
        async with open_library(self.config(**changes), mine) as library:
            yield library


def candidate(**changes: Any) -> Candidate:
    values: dict[str, Any] = {
        "name": NAME,
        "language": "en",
        "engine": RecordingEngine.id,
        "embedding": EMBEDDING,
        "state": STATE,
        "recordings": {BlobKind.STATEMENT_AUDIO: STATEMENT_AUDIO},
    }
    return Candidate(**values | changes)


def statement(**changes: Any) -> Statement:
    values: dict[str, Any] = {
        "speaker": NAME,
        "transcript": TRANSCRIPT,
        "sha256": sha256_of(STATEMENT_AUDIO),
        "purposes": (PURPOSE,),
        "asked_by": "operator-7",
    }
    return Statement(**values | changes)


async def admit(
    library: VoiceLibrary, tenant: str = TENANT, now: datetime | None = None, **changes: Any
) -> tuple[Voice, ConsentArtifact]:
    """A live voice; ``changes`` are of its statement."""
    return await library.admit(tenant, candidate(), statement(**changes), now or utc_now())
