"""Opens the whole store at start-up: both databases, upgraded, with their repositories."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import structlog

from ringtrue.voices.keys.management import KeyManagement
from ringtrue.voices.keys.signing import TrustedKeys
from ringtrue.voices.store.api_keys import ApiKeyStore
from ringtrue.voices.store.challenges import ChallengeStore
from ringtrue.voices.store.consents import ConsentStore
from ringtrue.voices.store.database import Database
from ringtrue.voices.store.incidents import IncidentStore
from ringtrue.voices.store.schema import KEYS, VOICES
from ringtrue.voices.store.vault import KeyVault
from ringtrue.voices.store.voices import VoiceStore

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Store:
    """The repositories over one pair of databases."""

    voices: VoiceStore
    consents: ConsentStore
    challenges: ChallengeStore
    vault: KeyVault
    api_keys: ApiKeyStore
    incidents: IncidentStore


@asynccontextmanager
async def open_store(
    url: str, keys_url: str, *, keys: KeyManagement, trusted: TrustedKeys, now: datetime
) -> AsyncIterator[Store]:
    """Upgrade both databases, finish erasures that were broken off, and hold them open.

    ``url`` is the voice database, ``keys_url`` the key database; they must differ, and must not
    share a backup. Raises :class:`~ringtrue.voices.store.errors.StoreError`.
    """
    database, key_database = Database(url, VOICES), Database(keys_url, KEYS)
    try:
        vault = KeyVault(key_database, keys)
        voices = VoiceStore(database, key_database, vault)
        await database.upgrade()
        await key_database.upgrade()
        if finished := await voices.finish_erasures(now):
            log.warning("erasures_finished", voices=len(finished))
        consents = ConsentStore(database, vault, voices, trusted)
        yield Store(
            voices,
            consents,
            ChallengeStore(database),
            vault,
            ApiKeyStore(database),
            IncidentStore(database),
        )
    finally:
        await database.close()
        await key_database.close()
