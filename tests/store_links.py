"""A voice store over real databases, with what its tests ask of it again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ringtrue.voices.consent.records import (
    ConsentArtifact,
    Scope,
    Signed,
    Withdrawal,
    sha256_of,
    sign,
)
from ringtrue.voices.keys.management import KeyRing
from ringtrue.voices.keys.signing import Signer, TrustedKeys
from ringtrue.voices.store.opening import Store, open_store
from ringtrue.voices.store.profile import BlobKind, Lifecycle, Voice

NOW = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
NAME = "Ada Quillfeather"
EMBEDDING = b"voiceprint-of-ada|" * 57
PURPOSE = "reception of Example Ltd"


def ring(*ids: str) -> KeyRing:
    """A ring with a fixed key per id; the first is current."""
    return KeyRing({key_id: key_id.encode().ljust(32, b"-") for key_id in ids}, ids[0])


@dataclass(frozen=True)
class Urls:
    """One pair of databases."""

    voices: str
    keys: str

    @property
    def is_sqlite(self) -> bool:
        return self.voices.startswith("sqlite")

    @property
    def files(self) -> list[Path]:
        """Everything SQLite has written for the pair."""
        return list(Path(self.voices.removeprefix("sqlite:///")).parent.iterdir())


@dataclass
class Link:
    """An open store and the signer its consents are checked against."""

    urls: Urls
    signer: Signer = field(default_factory=Signer.generate)

    @asynccontextmanager
    async def open(self, keys: KeyRing | None = None) -> AsyncIterator[Store]:
        """Open the store, under the master key ``m1`` if none is given."""
        async with open_store(
            self.urls.voices,
            self.urls.keys,
            keys=keys or ring("m1"),
            trusted=TrustedKeys([self.signer.public]),
            now=NOW,
        ) as store:
            yield store

    def consent(self, voice: Voice, /, **changes: Any) -> Signed[ConsentArtifact]:
        """A signed consent for ``voice``, good for a year from ``NOW``."""
        values: dict[str, Any] = {
            "voice": voice.id,
            "voice_sha256": sha256_of(EMBEDDING),
            "speaker": NAME,
            "statement_sha256": sha256_of(b"statement"),
            "transcript": f"I {NAME} consent to the cloning of my voice for {PURPOSE}",
            "scope": Scope(
                tenant=voice.tenant,
                agents=("*",),
                purposes=(PURPOSE,),
                not_before=NOW,
                expires=NOW + timedelta(days=365),
            ),
            "asked_by": "operator-7",
            "made_at": NOW,
        }
        return sign(ConsentArtifact(**values | changes), self.signer)

    def withdrawal(self, voice: Voice, /, **changes: Any) -> Signed[Withdrawal]:
        """A signed withdrawal of all consents of ``voice``."""
        values: dict[str, Any] = {
            "tenant": voice.tenant,
            "voice": voice.id,
            "asked_by": "speaker",
            "made_at": NOW + HOUR,
        }
        return sign(Withdrawal(**values | changes), self.signer)


async def new_voice(store: Store, tenant: str = "acme", name: str = NAME) -> Voice:
    """A voice with an embedding, still enrolling."""
    voice = await store.voices.create(tenant, name=name, language="en", engine="embedded", now=NOW)
    await store.voices.put_blob(tenant, voice.id, BlobKind.EMBEDDING, EMBEDDING, NOW)
    return await store.voices.get(tenant, voice.id)


async def live_voice(store: Store, link: Link, tenant: str = "acme") -> Voice:
    """A voice that may speak."""
    voice = await new_voice(store, tenant)
    await store.consents.add(link.consent(voice), NOW)
    return await store.voices.set_lifecycle(tenant, voice.id, Lifecycle.LIVE, NOW)
