"""Data keys: wrapped under master keys that change."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select

from ringtrue.voices.keys.errors import UnknownKeyError
from ringtrue.voices.keys.management import KeyRing, WrappedKey
from ringtrue.voices.keys.sealing import DataKey
from ringtrue.voices.store.database import Database
from ringtrue.voices.store.errors import VoiceErasedError
from ringtrue.voices.store.profile import BlobKind
from ringtrue.voices.store.schema import KEYS
from ringtrue.voices.store.tables import data_keys
from ringtrue.voices.store.vault import KeyVault
from store_links import EMBEDDING, NOW, Link, Urls, live_voice, new_voice, ring


async def test_rotation(store_urls: Urls) -> None:
    link = Link(store_urls)
    async with link.open(ring("m1")) as store:
        voices = [await new_voice(store, name=f"voice {i}") for i in range(5)]
        erased = await new_voice(store, name="erased")
        await store.voices.erase("acme", erased.id, NOW)
    async with link.open(ring("m2", "m1")) as store:
        late = await new_voice(store, name="late")
        assert (await store.voices.get_blob("acme", late.id, "embedding")).data == EMBEDDING
        done = await store.vault.rewrap()
        assert (done.rewrapped, done.unreadable, done.complete) == (5, (), True)
        assert (await store.vault.rewrap()).rewrapped == 0
    async with link.open(ring("m2")) as store:  # m1 is retired
        for voice in (*voices, late):
            blob = await store.voices.get_blob("acme", voice.id, BlobKind.EMBEDDING)
            assert blob.data == EMBEDDING
        with pytest.raises(VoiceErasedError):
            await store.vault.get("acme", erased.id)
    async with link.open(ring("m1")) as store:
        with pytest.raises(UnknownKeyError, match="unknown key 'm2'; keys held: m1"):
            await store.voices.get_blob("acme", voices[0].id, BlobKind.EMBEDDING)


async def test_rotation_tells_what_it_could_not_read(store_urls: Urls) -> None:
    link = Link(store_urls)
    async with link.open(ring("lost")) as store:
        orphan = await new_voice(store, name="orphan")
    async with link.open(ring("m1")) as store:
        fine = await new_voice(store, name="fine")
    async with link.open(ring("m2", "m1")) as store:
        done = await store.vault.rewrap()
        assert (done.rewrapped, done.unreadable, done.complete) == (1, (orphan.id,), False)
        assert (await store.voices.get_blob("acme", fine.id, "embedding")).data == EMBEDDING
    async with link.open(ring("lost")) as store:
        assert (await store.voices.get_blob("acme", orphan.id, "embedding")).data == EMBEDDING


async def test_rotation_beside_reading_erasing_and_itself(store_urls: Urls) -> None:
    link = Link(store_urls)
    async with link.open(ring("m1")) as store:
        voices = [await new_voice(store, name=f"voice {i}") for i in range(8)]
    async with link.open(ring("m2", "m1")) as store:
        results = await asyncio.gather(
            store.vault.rewrap(),
            store.vault.rewrap(),
            *(store.voices.erase("acme", voice.id, NOW) for voice in voices[:3]),
            *(store.voices.get_blob("acme", voice.id, "embedding") for voice in voices[3:]),
        )
        assert {blob.data for blob in results[5:]} == {EMBEDDING}
        assert await store.vault.destroyed() == {voice.id for voice in voices[:3]}
    async with link.open(ring("m2")) as store:
        for voice in voices[3:]:
            assert (await store.voices.get_blob("acme", voice.id, "embedding")).data == EMBEDDING
        for voice in voices[:3]:
            with pytest.raises(VoiceErasedError):
                await store.vault.get("acme", voice.id)


class ErasesMeanwhile:
    """A key service during whose answer somebody erases the voice."""

    def __init__(self, keys: KeyRing, urls: Urls) -> None:
        self._keys = keys
        self._urls = urls
        self.current_id = keys.current_id

    async def wrap(self, key: DataKey, *, tenant: str, voice: str) -> WrappedKey:
        async with Link(self._urls).open() as store:
            await store.voices.erase(tenant, voice, NOW)
        return await self._keys.wrap(key, tenant=tenant, voice=voice)

    async def unwrap(self, wrapped: WrappedKey, *, tenant: str, voice: str) -> DataKey:
        return await self._keys.unwrap(wrapped, tenant=tenant, voice=voice)


async def test_rotation_does_not_bring_back_what_is_erased_meanwhile(store_urls: Urls) -> None:
    async with Link(store_urls).open(ring("m1")) as store:
        voice = await new_voice(store)
    database = Database(store_urls.keys, KEYS)
    try:
        vault = KeyVault(database, ErasesMeanwhile(ring("m2", "m1"), store_urls))
        assert (await vault.rewrap()).rewrapped == 0
        async with database.read() as connection:
            row = (await connection.execute(select(data_keys))).one()
    finally:
        await database.close()
    assert (row.voice_id, row.destroyed_at) == (voice.id, NOW)
    assert (row.wrapped, row.nonce, row.key_id) == (None, None, None)


async def test_every_voice_has_a_key_of_its_own(store_urls: Urls) -> None:
    link = Link(store_urls)
    async with link.open() as store:
        voices = [await live_voice(store, link, f"tenant {i}") for i in range(3)]
        keys = {(await store.vault.get(voice.tenant, voice.id)).export() for voice in voices}
        assert len(keys) == 3
