"""The voice repository: profiles and encrypted blobs, always of one tenant.

Every method takes the tenant first; another tenant's voice is simply not found. Nothing
decrypted, and no key, is kept between calls: what is erased is gone with the next call.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Collection
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from ringtrue.voices.consent.challenge import MAX_NAME, clean
from ringtrue.voices.keys.sealing import DataKey, SealContext, Sealed
from ringtrue.voices.store.database import Database, same_database
from ringtrue.voices.store.errors import (
    BlobNotFoundError,
    ConflictError,
    LifecycleError,
    StoreUrlError,
    VoiceExistsError,
    VoiceFrozenError,
    VoiceNotFoundError,
)
from ringtrue.voices.store.profile import (
    MAX_BLOB,
    NEXT,
    Blob,
    Lifecycle,
    Tombstone,
    Voice,
    checked_engine,
    checked_kind,
    checked_language,
    name_key,
)
from ringtrue.voices.store.rows import bump, voice_of, voice_row
from ringtrue.voices.store.tables import consents, voice_blobs, voices, withdrawals
from ringtrue.voices.store.vault import KeyVault

log = structlog.get_logger(__name__)

_OFF_LOOP: Final = 256 * 1024
"""Blobs above this many bytes are encrypted in a thread: AES-GCM takes about 1 ms per MiB."""

MAX_PAGE: Final = 1000

_VERSIONS: Final = f"""
SELECT {voices.c.id.name}, {voices.c.version.name} FROM {voices.name}
WHERE {voices.c.id.name} IN (SELECT value FROM json_each(?)) AND {voices.c.lifecycle.name} <> ?
"""
"""In SQLite's words."""


class VoiceStore:
    """Creates, reads, changes and erases voices."""

    def __init__(self, database: Database, keys: Database, vault: KeyVault) -> None:
        """``database`` has the schema ``VOICES``, ``keys`` is the vault's.

        Raises :class:`~ringtrue.voices.store.errors.StoreUrlError` where both are one database:
        a backup of it would hold what erasure destroys.
        """
        if same_database(database.url, keys.url):
            raise StoreUrlError(
                "voices and their data keys are in the same database; they need two, "
                "or a restored backup could bring an erased voice back"
            )
        self._database = database
        self._vault = vault

    async def create(
        self, tenant: str, *, name: str, language: str, engine: str, now: datetime
    ) -> Voice:
        """A new voice in state ``enrolling``, with a data key of its own.

        Raises :class:`ValueError` on an unfit name, language or engine, and
        :class:`~ringtrue.voices.store.errors.VoiceExistsError` where the name is taken.
        """
        name = clean("name", name, MAX_NAME)
        voice = Voice(
            id=f"v_{secrets.token_hex(16)}",
            tenant=tenant,
            name=name,
            language=checked_language(language),
            engine=checked_engine(engine),
            lifecycle=Lifecycle.ENROLLING,
            version=1,
            created_at=now,
            changed_at=now,
        )
        await self._vault.create(tenant, voice.id, now)
        row = insert(voices).values(
            id=voice.id,
            tenant=tenant,
            name=name,
            name_key=name_key(name),
            language=voice.language,
            engine=voice.engine,
            lifecycle=voice.lifecycle.value,
            version=1,
            created_at=now,
            changed_at=now,
        )
        try:
            async with self._database.write() as connection:
                await connection.execute(row)
        except IntegrityError:
            await self._vault.destroy(tenant, voice.id, now)
            raise VoiceExistsError(f"this tenant has a voice of the name {name!r}") from None
        log.info("voice_created", voice=voice.id, tenant=tenant, engine=engine)
        return voice

    async def get(self, tenant: str, voice: str) -> Voice:
        """One voice by id.

        Raises :class:`~ringtrue.voices.store.errors.VoiceNotFoundError`, and its subclass
        :class:`~ringtrue.voices.store.errors.VoiceErasedError` where a tombstone is left.
        """
        async with self._database.read() as connection:
            return voice_of(await voice_row(connection, tenant, voice))

    async def find(self, tenant: str, name: str) -> Voice:
        """One voice by name, whatever its case and spacing.

        Raises :class:`~ringtrue.voices.store.errors.VoiceNotFoundError`.
        """
        try:
            key = name_key(name)
        except ValueError:
            raise VoiceNotFoundError(name) from None
        query = select(voices).where(voices.c.tenant == tenant, voices.c.name_key == key)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        if row is None:
            raise VoiceNotFoundError(name)
        return voice_of(dict(row))

    async def versions(self, ids: Collection[str]) -> dict[str, int]:
        """The present version of each of these voices, of whatever tenant, that is not erased.

        One query, for whoever must notice changes soon; a version says nothing by itself.
        """
        glance = self._database.glance
        if glance is not None:
            asked = json.dumps(list(ids)), Lifecycle.ERASED.value
            return dict(await glance.read(_VERSIONS, asked))
        query = select(voices.c.id, voices.c.version).where(
            voices.c.id.in_(ids), voices.c.lifecycle != Lifecycle.ERASED.value
        )
        async with self._database.read() as connection:
            return {row.id: row.version for row in (await connection.execute(query)).all()}

    async def list(
        self, tenant: str, *, after: str = "", limit: int = MAX_PAGE
    ) -> tuple[Voice, ...]:
        """The tenant's voices that are not erased, by id, those after ``after``."""
        if not 1 <= limit <= MAX_PAGE:
            raise ValueError(f"limit {limit} must be from 1 to {MAX_PAGE}")
        query = (
            select(voices)
            .where(
                voices.c.tenant == tenant,
                voices.c.lifecycle != Lifecycle.ERASED.value,
                voices.c.id > after,
            )
            .order_by(voices.c.id)
            .limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return tuple(voice_of(dict(row)) for row in rows)

    async def tombstone(self, tenant: str, voice: str) -> Tombstone:
        """What is left of an erased voice.

        Raises :class:`~ringtrue.voices.store.errors.VoiceNotFoundError` if none is.
        """
        async with self._database.read() as connection:
            row = await voice_row(connection, tenant, voice, erased=True)
        if row["lifecycle"] != Lifecycle.ERASED:
            raise VoiceNotFoundError(voice)
        return Tombstone(voice, tenant, row["created_at"], row["changed_at"])

    async def set_lifecycle(
        self,
        tenant: str,
        voice: str,
        state: Lifecycle,
        now: datetime,
        *,
        expected_version: int | None = None,
    ) -> Voice:
        """Move the voice to ``state``; to the state it is in, nothing changes.

        Raises :class:`~ringtrue.voices.store.errors.LifecycleError` where ``state`` can't follow,
        and :class:`~ringtrue.voices.store.errors.ConflictError` where the voice is not at
        ``expected_version`` any more.
        """
        async with self._database.write() as connection:
            row = await voice_row(connection, tenant, voice, lock=True)
            if expected_version is not None and row["version"] != expected_version:
                raise ConflictError(
                    f"voice {voice!r} is at version {row['version']}, not {expected_version}"
                )
            was = Lifecycle(row["lifecycle"])
            if was is state:
                return voice_of(row)
            if was is Lifecycle.FROZEN:
                raise VoiceFrozenError(voice, f"it can't become {state}")
            if state not in NEXT[was]:
                allowed = ", ".join(sorted(NEXT[was]))
                raise LifecycleError(
                    f"voice {voice!r} is {was}; it can become {allowed}, not {state}"
                    + ("; erase() erases" if state is Lifecycle.ERASED else "")
                )
            changed = await bump(connection, row, now, lifecycle=state.value)
        log.info("voice_lifecycle", voice=voice, tenant=tenant, was=was.value, now=state.value)
        return changed

    async def put_blob(self, tenant: str, voice: str, kind: str, data: bytes, now: datetime) -> int:
        """Encrypt and store ``data``, in place of what was there; returns its version.

        Raises :class:`ValueError` on an unfit kind or more than 64 MiB.
        """
        kind = checked_kind(kind)
        if len(data) > MAX_BLOB:
            raise ValueError(f"a blob of {len(data)} bytes; allowed: {MAX_BLOB}")
        key = await self._vault.get(tenant, voice)
        place = (voice_blobs.c.voice_id == voice, voice_blobs.c.kind == kind)
        async with self._database.write() as connection:
            # The voice's row is held from here on, so no other writer can take the same version.
            row = await voice_row(connection, tenant, voice, lock=True)
            query = select(voice_blobs.c.version).where(*place)
            old = (await connection.execute(query)).scalar_one_or_none()
            version = (old or 0) + 1
            sealed = await _seal(key, data, SealContext(tenant, voice, kind, version))
            values = {
                "version": version,
                "nonce": sealed.nonce,
                "ciphertext": sealed.ciphertext,
                "written_at": now,
            }
            if old is None:
                await connection.execute(
                    insert(voice_blobs).values(voice_id=voice, kind=kind, **values)
                )
            else:
                await connection.execute(update(voice_blobs).where(*place).values(**values))
            await bump(connection, row, now)
        return version

    async def get_blob(self, tenant: str, voice: str, kind: str) -> Blob:
        """Read and decrypt one blob.

        Raises :class:`~ringtrue.voices.store.errors.BlobNotFoundError`, and
        :class:`~ringtrue.voices.keys.errors.UnsealError` where it was altered.
        """
        query = select(voice_blobs).where(
            voice_blobs.c.voice_id == voice, voice_blobs.c.kind == checked_kind(kind)
        )
        async with self._database.read() as connection:
            await voice_row(connection, tenant, voice)
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise BlobNotFoundError(f"voice {voice!r} has no {kind}")
        key = await self._vault.get(tenant, voice)
        context = SealContext(tenant, voice, kind, row.version)
        sealed = Sealed(row.nonce, row.ciphertext)
        if len(row.ciphertext) > _OFF_LOOP:
            data = await asyncio.to_thread(key.unseal, sealed, context)
        else:
            data = key.unseal(sealed, context)
        return Blob(str(kind), row.version, data)

    async def blob_version(self, tenant: str, voice: str, kind: str) -> int:
        """The present version of one blob, without its content.

        Raises :class:`~ringtrue.voices.store.errors.BlobNotFoundError`.
        """
        query = select(voice_blobs.c.version).where(
            voice_blobs.c.voice_id == voice, voice_blobs.c.kind == checked_kind(kind)
        )
        async with self._database.read() as connection:
            await voice_row(connection, tenant, voice)
            version: int | None = (await connection.execute(query)).scalar_one_or_none()
        if version is None:
            raise BlobNotFoundError(f"voice {voice!r} has no {kind}")
        return version

    async def get_sealed(self, tenant: str, voice: str, kind: str, version: int) -> Sealed:
        """One blob as it is stored, encrypted: what a cache may hold.

        Raises :class:`~ringtrue.voices.store.errors.BlobNotFoundError`, also where the blob is at
        another version by now.
        """
        query = select(voice_blobs.c.nonce, voice_blobs.c.ciphertext).where(
            voice_blobs.c.voice_id == voice,
            voice_blobs.c.kind == checked_kind(kind),
            voice_blobs.c.version == version,
        )
        async with self._database.read() as connection:
            await voice_row(connection, tenant, voice)
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise BlobNotFoundError(f"voice {voice!r} has no {kind} of version {version}")
        return Sealed(row.nonce, row.ciphertext)

    async def delete_blob(self, tenant: str, voice: str, kind: str, now: datetime) -> bool:
        """Delete one blob, as raw audio is after enrolment; False if there was none."""
        statement = delete(voice_blobs).where(
            voice_blobs.c.voice_id == voice, voice_blobs.c.kind == checked_kind(kind)
        )
        async with self._database.write() as connection:
            row = await voice_row(connection, tenant, voice, lock=True)
            deleted = (await connection.execute(statement)).rowcount > 0
            if deleted:
                await bump(connection, row, now)
        if deleted:
            await self._database.forget_deleted(voice_blobs.name)
        return deleted

    async def erase(self, tenant: str, voice: str, now: datetime) -> Tombstone:
        """Erase for good: the data key first, then blobs, consents' contents and the profile.

        Broken off after the first step it is as good as erased, and :meth:`finish_erasures`
        clears the rest away. Erasing again changes nothing.

        Raises :class:`~ringtrue.voices.store.errors.VoiceFrozenError` for one that is evidence.
        """
        async with self._database.write() as connection:
            # under the row's lock, so that it is either erased before it is frozen or not at all
            row = await voice_row(connection, tenant, voice, lock=True, erased=True)
            if row["lifecycle"] == Lifecycle.FROZEN and voice not in await self._vault.destroyed():
                raise VoiceFrozenError(voice, "it can't be erased")
            await self._vault.destroy(tenant, voice, now)
            if row["lifecycle"] != Lifecycle.ERASED:
                await connection.execute(delete(voice_blobs).where(voice_blobs.c.voice_id == voice))
                for table in (consents, withdrawals):
                    await connection.execute(
                        update(table)
                        .where(table.c.voice_id == voice)
                        .values(nonce=None, ciphertext=None)
                    )
                await connection.execute(
                    update(voices)
                    .where(voices.c.id == voice)
                    .values(
                        name=None,
                        name_key=None,
                        language=None,
                        engine=None,
                        lifecycle=Lifecycle.ERASED.value,
                        version=voices.c.version + 1,
                        changed_at=now,
                    )
                )
                row["changed_at"] = now
        for table in (voice_blobs, consents, withdrawals, voices):
            await self._database.forget_deleted(table.name)
        log.info("voice_erased", voice=voice, tenant=tenant)
        return Tombstone(voice, tenant, row["created_at"], row["changed_at"])

    async def finish_erasures(self, now: datetime) -> tuple[str, ...]:
        """Erase again what a crash left half erased or a restored backup brought back.

        For start-up; returns the voices concerned.
        """
        destroyed = await self._vault.destroyed()
        query = select(voices.c.id, voices.c.tenant).where(
            voices.c.lifecycle != Lifecycle.ERASED.value
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        back = [row for row in rows if row.id in destroyed]
        for row in back:
            await self.erase(row.tenant, row.id, now)
        return tuple(row.id for row in back)


async def _seal(key: DataKey, data: bytes, context: SealContext) -> Sealed:
    if len(data) > _OFF_LOOP:
        return await asyncio.to_thread(key.seal, data, context)
    return key.seal(data, context)
