"""The vault: every voice's wrapped data key, in a database of its own.

Destroying a voice's key here is what erases the voice: no backup of the voice database can be
opened afterwards. The vault's own backups must be kept apart and short; where one might survive,
rotate the master key (:meth:`KeyVault.rewrap`) and retire the old one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from ringtrue.voices.keys.errors import KeyManagementError
from ringtrue.voices.keys.management import KeyManagement, WrappedKey
from ringtrue.voices.keys.sealing import DataKey
from ringtrue.voices.store.database import Database
from ringtrue.voices.store.errors import ConflictError, VoiceErasedError, VoiceNotFoundError
from ringtrue.voices.store.profile import is_voice_id
from ringtrue.voices.store.tables import data_keys

log = structlog.get_logger(__name__)

_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class Rewrap:
    """What a rotation did."""

    rewrapped: int
    """Keys moved to the current master key."""

    unreadable: tuple[str, ...]
    """Voices whose key could not be unwrapped; left as they were. Empty where all went well."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left under an older master key."""
        return not self.unreadable


class KeyVault:
    """Makes, opens, re-wraps and destroys data keys."""

    def __init__(self, database: Database, keys: KeyManagement) -> None:
        """``database`` has the schema ``KEYS`` and is already upgraded when first used."""
        self._database = database
        self._keys = keys

    async def create(self, tenant: str, voice: str, now: datetime) -> DataKey:
        """A new data key for a new voice.

        Raises :class:`~ringtrue.voices.store.errors.ConflictError` if the voice ever had one.
        """
        key = DataKey.generate()
        wrapped = await self._keys.wrap(key, tenant=tenant, voice=voice)
        row = insert(data_keys).values(
            voice_id=voice,
            tenant=tenant,
            key_id=wrapped.key_id,
            nonce=wrapped.nonce,
            wrapped=wrapped.ciphertext,
            created_at=now,
        )
        try:
            async with self._database.write() as connection:
                await connection.execute(row)
        except IntegrityError:
            raise ConflictError(f"voice {voice!r} has or had a data key already") from None
        return key

    async def get(self, tenant: str, voice: str) -> DataKey:
        """The voice's data key.

        Raises :class:`~ringtrue.voices.store.errors.VoiceErasedError` once it was destroyed,
        :class:`~ringtrue.voices.store.errors.VoiceNotFoundError` if there never was one for this
        tenant, and :class:`~ringtrue.voices.keys.errors.KeyManagementError` if it can't be
        unwrapped.
        """
        if not is_voice_id(voice):
            raise VoiceNotFoundError(voice)
        query = select(
            data_keys.c.key_id, data_keys.c.nonce, data_keys.c.wrapped, data_keys.c.destroyed_at
        ).where(data_keys.c.voice_id == voice, data_keys.c.tenant == tenant)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise VoiceNotFoundError(voice)
        if row.destroyed_at is not None:
            raise VoiceErasedError(voice)
        wrapped = WrappedKey(row.key_id, row.nonce, row.wrapped)
        return await self._keys.unwrap(wrapped, tenant=tenant, voice=voice)

    async def destroy(self, tenant: str, voice: str, now: datetime) -> bool:
        """Destroy the voice's data key for good; False if that was done before or there is none."""
        statement = (
            update(data_keys)
            .where(
                data_keys.c.voice_id == voice,
                data_keys.c.tenant == tenant,
                data_keys.c.destroyed_at.is_(None),
            )
            .values(key_id=None, nonce=None, wrapped=None, destroyed_at=now)
        )
        async with self._database.write() as connection:
            destroyed = (await connection.execute(statement)).rowcount == 1
        await self._database.forget_deleted(data_keys.name)
        return destroyed

    async def destroyed(self) -> frozenset[str]:
        """Voices whose key was destroyed."""
        query = select(data_keys.c.voice_id).where(data_keys.c.destroyed_at.is_not(None))
        async with self._database.read() as connection:
            return frozenset((await connection.execute(query)).scalars())

    async def rewrap(self) -> Rewrap:
        """Wrap every data key under the current master key; calls may go on meanwhile.

        May be run again at any time, and after being broken off. Keys that are destroyed or
        re-wrapped by somebody else meanwhile are left to them.
        """
        current = self._keys.current_id
        done, unreadable, last = 0, list[str](), ""
        while True:
            query = (
                select(data_keys)
                .where(
                    data_keys.c.voice_id > last,
                    data_keys.c.destroyed_at.is_(None),
                    data_keys.c.key_id != current,
                )
                .order_by(data_keys.c.voice_id)
                .limit(_BATCH)
            )
            async with self._database.read() as connection:
                rows = (await connection.execute(query)).all()
            if not rows:
                break
            for row in rows:
                last = row.voice_id
                old = WrappedKey(row.key_id, row.nonce, row.wrapped)
                try:
                    key = await self._keys.unwrap(old, tenant=row.tenant, voice=row.voice_id)
                except KeyManagementError as error:
                    log.error("data_key_unreadable", voice=row.voice_id, error=str(error))
                    unreadable.append(row.voice_id)
                    continue
                new = await self._keys.wrap(key, tenant=row.tenant, voice=row.voice_id)
                done += await self._replace(row.voice_id, old, new)
        await self._database.forget_deleted(data_keys.name)
        log.info("data_keys_rewrapped", key=current, rewrapped=done, unreadable=len(unreadable))
        return Rewrap(done, tuple(unreadable))

    async def _replace(self, voice: str, old: WrappedKey, new: WrappedKey) -> int:
        statement = (
            update(data_keys)
            .where(data_keys.c.voice_id == voice, data_keys.c.wrapped == old.ciphertext)
            .values(key_id=new.key_id, nonce=new.nonce, wrapped=new.ciphertext)
        )
        async with self._database.write() as connection:
            return (await connection.execute(statement)).rowcount
