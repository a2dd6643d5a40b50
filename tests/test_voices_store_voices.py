"""Voices and blobs in real databases: isolation, encryption, erasure, concurrency."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from peers.postgres import Postgres
from ringtrue.voices.keys.errors import UnsealError
from ringtrue.voices.store.database import Database
from ringtrue.voices.store.errors import (
    BlobNotFoundError,
    ConflictError,
    LifecycleError,
    StoreUrlError,
    VoiceErasedError,
    VoiceExistsError,
    VoiceNotFoundError,
)
from ringtrue.voices.store.profile import MAX_BLOB, BlobKind, Lifecycle
from ringtrue.voices.store.schema import KEYS, VOICES
from ringtrue.voices.store.tables import data_keys, voice_blobs
from ringtrue.voices.store.vault import KeyVault
from ringtrue.voices.store.voices import VoiceStore
from store_links import EMBEDDING, HOUR, NAME, NOW, Link, Urls, live_voice, new_voice, ring

AUDIO = b"raw-enrolment-audio" * 40_000


async def test_a_voice_is_kept_over_a_restart(store_urls: Urls) -> None:
    link = Link(store_urls)
    async with link.open() as store:
        made = await new_voice(store)
        await store.voices.put_blob("acme", made.id, BlobKind.ENROLMENT_AUDIO, AUDIO, NOW)
    async with link.open() as store:
        voice = await store.voices.get("acme", made.id)
        assert (voice.name, voice.language, voice.engine) == (NAME, "en", "embedded")
        assert voice.lifecycle is Lifecycle.ENROLLING
        assert voice.created_at == NOW
        assert voice.version == 3
        assert await store.voices.find("acme", "  ADA   quillfeather ") == voice
        assert await store.voices.list("acme") == (voice,)
        blob = await store.voices.get_blob("acme", made.id, BlobKind.EMBEDDING)
        assert (blob.data, blob.version) == (EMBEDDING, 1)
        audio = await store.voices.get_blob("acme", made.id, BlobKind.ENROLMENT_AUDIO)
        assert audio.data == AUDIO


async def test_another_tenant_finds_nothing(store_urls: Urls) -> None:
    async with Link(store_urls).open() as store:
        voice = await new_voice(store, "acme")
        for attempt in (
            store.voices.get("evil", voice.id),
            store.voices.find("evil", NAME),
            store.voices.get_blob("evil", voice.id, BlobKind.EMBEDDING),
            store.voices.put_blob("evil", voice.id, BlobKind.EMBEDDING, b"x", NOW),
            store.voices.delete_blob("evil", voice.id, BlobKind.EMBEDDING, NOW),
            store.voices.set_lifecycle("evil", voice.id, Lifecycle.LIVE, NOW),
            store.voices.erase("evil", voice.id, NOW),
            store.voices.tombstone("evil", voice.id),
            store.vault.get("evil", voice.id),
            store.consents.records("evil", voice.id),
        ):
            with pytest.raises(VoiceNotFoundError, match="no voice"):
                await attempt
        assert await store.voices.list("evil") == ()
        assert not await store.vault.destroy("evil", voice.id, NOW)
        assert await store.voices.get("acme", voice.id) == voice
        # The same name is free to another tenant.
        assert (await new_voice(store, "evil")).id != voice.id


@pytest.mark.parametrize("voice", ["", "v_1", "v_\0", "\ud800", "v_" + "0" * 32, "x" * 10_000])
async def test_what_can_be_no_voice_is_not_found(store_urls: Urls, voice: str) -> None:
    async with Link(store_urls).open() as store:
        for attempt in (
            store.voices.get("acme", voice),
            store.voices.find("acme", voice),
            store.voices.put_blob("acme", voice, BlobKind.EMBEDDING, b"x", NOW),
            store.voices.erase("acme", voice, NOW),
            store.consents.records("acme", voice),
        ):
            with pytest.raises(VoiceNotFoundError) as caught:
                await attempt
            assert len(str(caught.value)) < 400


async def test_a_name_is_taken_once_and_free_after_erasure(store_urls: Urls) -> None:
    async with Link(store_urls).open() as store:
        voice = await new_voice(store)
        with pytest.raises(VoiceExistsError, match="ada quillfeather"):
            await new_voice(store, name="ada quillfeather")
        both = await asyncio.gather(
            new_voice(store, name="Bo"), new_voice(store, name="BO"), return_exceptions=True
        )
        assert sorted(type(result).__name__ for result in both) == ["Voice", "VoiceExistsError"]
        await store.voices.erase("acme", voice.id, NOW)
        assert (await new_voice(store)).id != voice.id


async def test_pages(store_urls: Urls) -> None:
    async with Link(store_urls).open() as store:
        ids = sorted([(await new_voice(store, name=f"voice {i}")).id for i in range(5)])
        first = await store.voices.list("acme", limit=3)
        rest = await store.voices.list("acme", limit=3, after=first[-1].id)
        assert [voice.id for voice in first + rest] == ids
        with pytest.raises(ValueError, match="limit 0"):
            await store.voices.list("acme", limit=0)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"name": " "}, "name has 0 characters"),
        ({"name": "x" * 81}, "name has 81 characters"),
        ({"name": "a\x07b"}, "can't be printed"),
        ({"language": "english please"}, "language 'english please'"),
        ({"engine": "../x"}, "engine '../x'"),
    ],
)
async def test_unfit_profiles(tmp_path: Path, values: dict[str, str], complaint: str) -> None:
    link = Link(Urls(f"sqlite:///{tmp_path}/v.db", f"sqlite:///{tmp_path}/k.db"))
    good = {"name": NAME, "language": "en", "engine": "embedded"}
    async with link.open() as store:
        with pytest.raises(ValueError, match=complaint):
            await store.voices.create("acme", **good | values, now=NOW)
        assert await store.voices.list("acme") == ()


async def test_lifecycle(store_urls: Urls) -> None:
    async with Link(store_urls).open() as store:
        voice = await new_voice(store)

        async def become(state: Lifecycle, expected: int | None = None) -> Lifecycle:
            changed = await store.voices.set_lifecycle(
                "acme", voice.id, state, NOW + HOUR, expected_version=expected
            )
            assert changed == await store.voices.get("acme", voice.id)
            return changed.lifecycle

        with pytest.raises(LifecycleError, match="is enrolling; it can become live, withdrawn"):
            await become(Lifecycle.SUSPENDED)
        with pytest.raises(ConflictError, match="at version 2, not 9"):
            await become(Lifecycle.LIVE, expected=9)
        assert await become(Lifecycle.LIVE, expected=2) is Lifecycle.LIVE
        assert await become(Lifecycle.LIVE) is Lifecycle.LIVE
        assert (await store.voices.get("acme", voice.id)).version == 3, "no change, no version"
        assert await become(Lifecycle.SUSPENDED) is Lifecycle.SUSPENDED
        assert await become(Lifecycle.WITHDRAWN) is Lifecycle.WITHDRAWN
        with pytest.raises(LifecycleError, match="erase"):
            await become(Lifecycle.ERASED)


async def test_blobs_count_their_versions_under_concurrency(store_urls: Urls) -> None:
    async with Link(store_urls).open() as store:
        voice = await new_voice(store)
        versions = await asyncio.gather(
            *(store.voices.put_blob("acme", voice.id, "state", b"%d" % i, NOW) for i in range(12))
        )
        assert sorted(versions) == list(range(1, 13))
        blob = await store.voices.get_blob("acme", voice.id, "state")
        assert (blob.version, blob.data) == (12, b"%d" % versions.index(12))
        assert (await store.voices.get("acme", voice.id)).version == voice.version + 12


async def test_versions_are_those_of_voices_that_there_are(store_urls: Urls) -> None:
    async with Link(store_urls).open() as store:
        first, second, gone = [
            await new_voice(store, name=name) for name in ("Ada", "Grace", "Joan")
        ]
        asked = [first.id, gone.id, "v_unknown'; DROP TABLE voices", second.id]
        assert await store.voices.versions([]) == {}
        before = await store.voices.versions(asked)
        assert set(before) == {first.id, second.id, gone.id}
        await store.voices.set_lifecycle("acme", second.id, Lifecycle.LIVE, NOW + HOUR)
        await store.voices.erase("acme", gone.id, NOW + HOUR)
        after = await store.voices.versions(asked)
        assert after == {first.id: before[first.id], second.id: before[second.id] + 1}


async def test_unfit_blobs(tmp_path: Path) -> None:
    link = Link(Urls(f"sqlite:///{tmp_path}/v.db", f"sqlite:///{tmp_path}/k.db"))
    async with link.open() as store:
        voice = await new_voice(store)
        with pytest.raises(ValueError, match="blob kind 'No/Kind'"):
            await store.voices.put_blob("acme", voice.id, "No/Kind", b"", NOW)
        with pytest.raises(ValueError, match="allowed: 67108864"):
            await store.voices.put_blob("acme", voice.id, "big", bytes(MAX_BLOB + 1), NOW)
        with pytest.raises(BlobNotFoundError, match="no engine_state"):
            await store.voices.get_blob("acme", voice.id, BlobKind.ENGINE_STATE)
        assert await store.voices.delete_blob("acme", voice.id, BlobKind.EMBEDDING, NOW)
        assert not await store.voices.delete_blob("acme", voice.id, BlobKind.EMBEDDING, NOW)


async def test_a_row_moved_elsewhere_does_not_open(store_urls: Urls) -> None:
    async with Link(store_urls).open() as store:
        ours, theirs = await new_voice(store), await new_voice(store, "evil")
        await store.voices.put_blob("acme", ours.id, "other", b"other", NOW)
    database = Database(store_urls.voices, VOICES)
    try:
        async with database.write() as connection:
            query = select(voice_blobs).where(
                voice_blobs.c.voice_id == ours.id, voice_blobs.c.kind == BlobKind.EMBEDDING
            )
            row = (await connection.execute(query)).one()
            stolen = {"nonce": row.nonce, "ciphertext": row.ciphertext, "version": row.version}
            for voice, kind in ((theirs.id, BlobKind.EMBEDDING), (ours.id, "other")):
                await connection.execute(
                    update(voice_blobs)
                    .where(voice_blobs.c.voice_id == voice, voice_blobs.c.kind == kind)
                    .values(**stolen)
                )
            await connection.execute(
                update(voice_blobs)
                .where(voice_blobs.c.voice_id == ours.id, voice_blobs.c.kind == BlobKind.EMBEDDING)
                .values(version=7)
            )
    finally:
        await database.close()
    async with Link(store_urls).open() as store:
        for tenant, voice, kind in (
            ("evil", theirs.id, BlobKind.EMBEDDING),
            ("acme", ours.id, "other"),
            ("acme", ours.id, BlobKind.EMBEDDING),
        ):
            with pytest.raises(UnsealError, match="altered, moved"):
                await store.voices.get_blob(tenant, voice, kind)


async def test_no_file_holds_plaintext(tmp_path: Path) -> None:
    urls = Urls(f"sqlite:///{tmp_path}/db/voices.db", f"sqlite:///{tmp_path}/db/keys.db")
    link = Link(urls)
    async with link.open() as store:
        voice = await live_voice(store, link)
        await store.voices.put_blob("acme", voice.id, BlobKind.ENROLMENT_AUDIO, AUDIO, NOW)
        key = (await store.vault.get("acme", voice.id)).export()
        seen = b"".join(path.read_bytes() for path in urls.files)
    seen += b"".join(path.read_bytes() for path in urls.files)
    assert voice.id.encode() in seen, "the files looked at are those written"
    assert NAME.encode() in seen, "a name is in the profile, where it can be searched for"
    for secret in (b"voiceprint", b"raw-enrolment", b"consent to the cloning", b"operator-7", key):
        assert secret not in seen
    for path in urls.files:
        assert path.stat().st_mode & 0o077 == 0, f"{path.name} is open to others"


async def test_no_dump_holds_plaintext(postgres: Postgres) -> None:
    urls = Urls(postgres.new_database(), postgres.new_database())
    link = Link(urls)
    async with link.open() as store:
        voice = await live_voice(store, link)
        key = (await store.vault.get("acme", voice.id)).export()
    dump = postgres.dump(urls.voices) + postgres.dump(urls.keys)
    assert voice.id in dump
    for secret in (EMBEDDING[:18], b"consent to the cloning", b"operator-7", key):
        assert secret.hex() not in dump
        assert secret.decode("latin-1") not in dump


async def test_erasure_leaves_a_tombstone_and_nothing_else(store_urls: Urls) -> None:
    link = Link(store_urls)
    async with link.open() as store:
        voice, other = await live_voice(store, link), await live_voice(store, link, "other")
        tombstone = await store.voices.erase("acme", voice.id, NOW + HOUR)
        assert (tombstone.created_at, tombstone.erased_at) == (NOW, NOW + HOUR)
        assert await store.voices.erase("acme", voice.id, NOW + 2 * HOUR) == tombstone
        assert await store.voices.tombstone("acme", voice.id) == tombstone
        assert await store.voices.list("acme") == ()
        for attempt in (
            store.voices.get("acme", voice.id),
            store.voices.get_blob("acme", voice.id, BlobKind.EMBEDDING),
            store.voices.put_blob("acme", voice.id, BlobKind.EMBEDDING, EMBEDDING, NOW),
            store.voices.set_lifecycle("acme", voice.id, Lifecycle.LIVE, NOW),
            store.consents.records("acme", voice.id),
            store.consents.add(link.consent(voice), NOW),
            store.consents.withdraw(link.withdrawal(voice), NOW),
            store.vault.get("acme", voice.id),
        ):
            with pytest.raises(VoiceErasedError, match="was erased"):
                await attempt
        with pytest.raises(VoiceNotFoundError):
            await store.voices.tombstone("other", other.id)
        kept = await store.voices.get_blob("other", other.id, BlobKind.EMBEDDING)
        assert kept.data == EMBEDDING
    if store_urls.is_sqlite:
        await _no_trace(store_urls, link)


async def _no_trace(urls: Urls, link: Link) -> None:
    """Erase while the files are looked at: overwritten, not just unlinked."""
    async with link.open() as store:
        voice = await new_voice(store, "trace", name="Zebulon Traceable")
        with sqlite3.connect(urls.keys.removeprefix("sqlite:///")) as plain:
            query = "SELECT wrapped FROM data_keys WHERE voice_id = ?"
            (wrapped,) = plain.execute(query, (voice.id,)).fetchone()
        plain.close()
        assert any(wrapped in path.read_bytes() for path in urls.files)
        assert any(b"Zebulon" in path.read_bytes() for path in urls.files)
        await store.voices.erase("trace", voice.id, NOW)
        for path in urls.files:
            content = path.read_bytes()
            assert wrapped not in content, f"the wrapped key is still in {path.name}"
            assert b"Zebulon" not in content, f"the name is still in {path.name}"


async def test_a_restored_backup_opens_nothing(tmp_path: Path) -> None:
    link = Link(Urls(f"sqlite:///{tmp_path}/db/voices.db", f"sqlite:///{tmp_path}/keys/keys.db"))
    live, backup = tmp_path / "db" / "voices.db", tmp_path / "backup.db"
    async with link.open() as store:
        voice, other = await live_voice(store, link), await live_voice(store, link, "other")
    shutil.copy(live, backup)
    async with link.open() as store:
        await store.voices.erase("acme", voice.id, NOW)
    shutil.copy(backup, live)
    database, keys = Database(link.urls.voices, VOICES), Database(link.urls.keys, KEYS)
    try:
        vault = KeyVault(keys, ring("m1"))
        restored = VoiceStore(database, keys, vault)
        assert (await restored.get("acme", voice.id)).name == NAME, "the row is back"
        with pytest.raises(VoiceErasedError):
            await restored.get_blob("acme", voice.id, BlobKind.EMBEDDING)
        assert await restored.finish_erasures(NOW) == (voice.id,)
        with pytest.raises(VoiceErasedError):
            await restored.get("acme", voice.id)
        kept = await restored.get_blob("other", other.id, BlobKind.EMBEDDING)
        assert kept.data == EMBEDDING
    finally:
        await database.close()
        await keys.close()


async def test_an_erasure_broken_off_is_finished_at_start(store_urls: Urls) -> None:
    link = Link(store_urls)
    async with link.open() as store:
        voice = await live_voice(store, link)
        await store.vault.destroy("acme", voice.id, NOW)
        with pytest.raises(VoiceErasedError):
            await store.voices.get_blob("acme", voice.id, BlobKind.EMBEDDING)
    async with link.open() as store:
        assert (await store.voices.tombstone("acme", voice.id)).id == voice.id


async def test_erasing_races_with_writing(store_urls: Urls) -> None:
    async with Link(store_urls).open() as store:
        for _ in range(4):
            voice = await new_voice(store)
            writes = [
                store.voices.put_blob("acme", voice.id, "state", b"late", NOW) for _ in range(3)
            ]
            results = await asyncio.gather(
                *writes, store.voices.erase("acme", voice.id, NOW), return_exceptions=True
            )
            assert {type(r) for r in results if isinstance(r, Exception)} <= {VoiceErasedError}
    database = Database(store_urls.voices, VOICES)
    try:
        async with database.read() as connection:
            assert (await connection.execute(select(voice_blobs))).all() == []
    finally:
        await database.close()


async def test_voices_and_keys_need_two_databases(tmp_path: Path, postgres: Postgres) -> None:
    both = f"sqlite:///{tmp_path}/one.db"
    with pytest.raises(StoreUrlError, match="same database"):
        async with Link(Urls(both, f"sqlite:///{tmp_path}/x/../one.db")).open():
            pass
    url = postgres.new_database()
    with pytest.raises(StoreUrlError, match="same database"):
        async with Link(Urls(url, url)).open():
            pass


async def test_a_key_that_is_gone_is_not_taken_for_another_voice(store_urls: Urls) -> None:
    async with Link(store_urls).open() as store:
        voice = await new_voice(store)
        with pytest.raises(ConflictError, match="has or had a data key"):
            await store.vault.create("acme", voice.id, NOW)
    keys = Database(store_urls.keys, KEYS)
    try:
        async with keys.write() as connection:
            await connection.execute(delete(data_keys))
    finally:
        await keys.close()
    async with Link(store_urls).open() as store:
        with pytest.raises(VoiceNotFoundError):
            await store.voices.get_blob("acme", voice.id, BlobKind.EMBEDDING)
