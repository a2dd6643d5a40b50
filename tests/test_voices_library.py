"""The library: nothing speaks without a lease, and no lease outlives its consent."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import pickle
import sqlite3
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from library_links import (
    NAME,
    PURPOSE,
    SECRETS,
    STATE,
    TENANT,
    Shelves,
    admit,
    candidate,
    statement,
)
from pydantic import SecretStr

from peers.redis import RedisServer
from ringtrue.config.voice_settings import VoicesSettings
from ringtrue.voices.consent.decision import Reason
from ringtrue.voices.consent.records import ConsentArtifact, Withdrawal, read_signed
from ringtrue.voices.errors import EngineStateError
from ringtrue.voices.keys.errors import KeyMaterialError
from ringtrue.voices.keys.signing import TrustedKeys
from ringtrue.voices.lease import ConsentLostError, Lease
from ringtrue.voices.library import (
    ConsentRefusedError,
    VoiceLibrary,
    VoiceNameError,
    checked_name,
    utc_now,
)
from ringtrue.voices.library_config import library_config, library_exists, library_wanted
from ringtrue.voices.store.errors import (
    StoreUnavailableError,
    VoiceExistsError,
    VoiceNotFoundError,
)
from ringtrue.voices.store.profile import BlobKind, Lifecycle, Voice
from store_links import Urls

LEASE = {"tenant": TENANT, "voice": NAME, "agent": "reception", "purpose": PURPOSE}
LIMIT = 0.5
"""Seconds in which a withdrawal must have reached every process."""


@pytest.fixture
def shelves(store_urls: Urls) -> Shelves:
    return Shelves(store_urls)


@pytest.fixture
def sqlite_shelves(tmp_path: Path) -> Shelves:
    return Shelves(Urls(f"sqlite:///{tmp_path}/voices.db", f"sqlite:///{tmp_path}/keys/keys.db"))


@pytest_asyncio.fixture
async def library(shelves: Shelves) -> AsyncIterator[VoiceLibrary]:
    async with shelves.open() as opened:
        yield opened


async def lost(lease: Lease, within: float = 3.0) -> tuple[float, Reason]:
    """Seconds until the lease is lost, on the clock of whoever waits, and why."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Reason] = loop.create_future()
    began = loop.time()
    lease.on_lost(done.set_result)
    async with asyncio.timeout(within):
        reason = await done
    return loop.time() - began, reason


async def spoken(lease: Lease, words: str = "w1 w2 w3") -> int:
    """Speak, and count the samples; every one of them must be under licence."""
    stream = lease.open(8000)
    stream.feed(words)
    stream.finish()
    total = 0
    async for chunk in stream.frames():
        assert chunk.licence is lease.licence
        total += len(chunk.pcm) // 2
    return total


async def test_a_lease_speaks_and_every_chunk_carries_its_licence(library: VoiceLibrary) -> None:
    voice, consent = await admit(library)
    assert voice.lifecycle is Lifecycle.LIVE
    lease = await library.lease(**LEASE)
    assert await spoken(lease) == 3 * 1600
    assert (lease.voice, lease.licence.voice) == (voice.id, voice.id)
    assert lease.licence.consent == consent.serial
    lease.close()
    assert not lease.licence.holds(asyncio.get_running_loop().time())
    with pytest.raises(ConsentLostError):
        lease.open(8000)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"agent": "sales"}, Reason.AGENT),
        ({"purpose": "advertising"}, Reason.PURPOSE),
    ],
)
async def test_what_the_consent_does_not_cover_is_refused(
    library: VoiceLibrary, shelves: Shelves, change: dict[str, str], reason: Reason
) -> None:
    await admit(library, agents=("reception",))
    (await library.lease(**LEASE)).close()
    prepared = len(shelves.engine.prepared)
    with pytest.raises(ConsentRefusedError) as caught:
        await library.lease(**LEASE | change)
    assert caught.value.decision.reason is reason
    assert len(shelves.engine.prepared) == prepared


async def test_another_tenant_finds_nothing(library: VoiceLibrary) -> None:
    voice, _ = await admit(library)
    for name in (NAME, voice.id):
        with pytest.raises(VoiceNotFoundError):
            await library.lease(**LEASE | {"tenant": "other", "voice": name})
        with pytest.raises(VoiceNotFoundError):
            await library.withdraw("other", name, asked_by="x", now=utc_now())
        with pytest.raises(VoiceNotFoundError):
            await library.erase("other", name, utc_now())
        with pytest.raises(VoiceNotFoundError):
            await library.export_consent("other", name)


async def suspend(library: VoiceLibrary, voice: Voice) -> Reason:
    await library.suspend(TENANT, voice.id, utc_now())
    return Reason.VOICE_STATE


async def erase(library: VoiceLibrary, voice: Voice) -> Reason:
    await library.erase(TENANT, voice.id, utc_now())
    return Reason.VOICE_STATE


async def withdraw(library: VoiceLibrary, voice: Voice) -> Reason:
    await library.withdraw(TENANT, voice.id, asked_by="speaker", now=utc_now())
    return Reason.WITHDRAWN


async def withdraw_one(library: VoiceLibrary, voice: Voice) -> Reason:
    given, _ = await library.store.consents.records(TENANT, voice.id)
    serial = given[0].record.serial
    await library.withdraw(TENANT, voice.id, asked_by="x", now=utc_now(), consent=serial)
    return Reason.WITHDRAWN


ENDINGS = (suspend, erase, withdraw, withdraw_one)


@pytest.mark.parametrize("ending", ENDINGS)
async def test_the_process_that_ends_it_silences_its_own_calls_at_once(
    library: VoiceLibrary, ending: object
) -> None:
    voice, _ = await admit(library)
    lease = await library.lease(**LEASE)
    waiting = asyncio.ensure_future(lost(lease))
    await asyncio.sleep(0)
    reason = await ending(library, voice)  # type: ignore[operator]
    assert (await waiting)[1] is reason
    with pytest.raises(ConsentLostError):
        lease.open(8000)
    with pytest.raises((ConsentRefusedError, VoiceNotFoundError)):
        await library.lease(**LEASE)
    lease.close()


@pytest.mark.parametrize("ending", ENDINGS)
async def test_another_process_hears_of_it_through_the_database(
    shelves: Shelves, ending: object
) -> None:
    async with shelves.open() as one, shelves.open() as other:
        voice, _ = await admit(one)
        lease = await other.lease(**LEASE)
        reason = await ending(one, voice)  # type: ignore[operator]
        seconds, why = await lost(lease)
        assert seconds < LIMIT
        assert why is reason
        lease.close()


async def test_a_stream_under_way_ends_with_the_consent(library: VoiceLibrary) -> None:
    voice, _ = await admit(library)
    lease = await library.lease(**LEASE)
    stream = lease.open(8000)
    stream.feed("w1 w2 w3 w4 w5 w6")
    chunks = stream.frames()
    await anext(chunks)
    await withdraw(library, voice)
    with pytest.raises(ConsentLostError):
        async for _ in chunks:
            pass
    lease.close()


async def test_a_voice_is_live_again_by_a_new_consent_only(library: VoiceLibrary) -> None:
    voice, _ = await admit(library)
    await withdraw(library, voice)
    consent = await library.renew(TENANT, voice.id, statement(), utc_now())
    lease = await library.lease(**LEASE)
    assert lease.licence.consent == consent.serial
    lease.close()


async def test_a_suspended_voice_is_taken_up_again(library: VoiceLibrary) -> None:
    voice, _ = await admit(library)
    await library.suspend(TENANT, voice.id, utc_now())
    await library.resume(TENANT, voice.id, utc_now())
    (await library.lease(**LEASE)).close()


async def test_a_renewal_changes_the_serial_and_interrupts_nobody(library: VoiceLibrary) -> None:
    voice, first = await admit(library)
    lease = await library.lease(**LEASE)
    second = await library.renew(TENANT, voice.id, statement(), utc_now(), supersedes=first.serial)
    async with asyncio.timeout(3):
        while lease.licence.consent != second.serial:
            await asyncio.sleep(0.01)
    assert lease.lost is None
    lease.close()


async def test_it_expires_by_itself(library: VoiceLibrary) -> None:
    await admit(library, expires=utc_now() + timedelta(seconds=0.8))
    lease = await library.lease(**LEASE)
    seconds, why = await lost(lease)
    assert 0.1 < seconds < 0.9
    assert why is Reason.EXPIRED
    lease.close()


async def test_names_that_are_taken(library: VoiceLibrary) -> None:
    await admit(library)
    with pytest.raises(VoiceExistsError):
        await library.admit(TENANT, candidate(name=NAME.upper()), statement(), utc_now())
    for name in ("slt", " AWB ", "v_" + "a" * 32, "", "a\nb\x00"):
        with pytest.raises(VoiceNameError):
            await library.admit(TENANT, candidate(name=name), statement(), utc_now())
    assert checked_name("  Ada   B ") == "Ada B"
    assert len(await library.store.voices.list(TENANT)) == 1


async def test_what_can_not_be_admitted_leaves_nothing(library: VoiceLibrary) -> None:
    with pytest.raises(EngineStateError, match="recording-1"):
        await library.admit(TENANT, candidate(engine="other"), statement(), utc_now())
    with pytest.raises(ValueError, match="not_before"):
        await admit(library, expires=utc_now() - timedelta(days=1))
    assert await library.store.voices.list(TENANT) == ()
    voice, _ = await admit(library)
    assert voice.name == NAME


async def test_recordings_are_kept_only_by_policy(sqlite_shelves: Shelves) -> None:
    async with sqlite_shelves.open() as library:
        voice, _ = await admit(library)
        with pytest.raises(Exception, match="statement_audio"):
            await library.store.voices.get_blob(TENANT, voice.id, BlobKind.STATEMENT_AUDIO)
    async with sqlite_shelves.open(keep_recordings=True) as library:
        voice, _ = await library.admit(TENANT, candidate(name="Bo"), statement(), utc_now())
        await library.store.voices.get_blob(TENANT, voice.id, BlobKind.STATEMENT_AUDIO)


async def test_the_export_can_be_checked_by_anybody(
    library: VoiceLibrary, shelves: Shelves
) -> None:
    voice, consent = await admit(library)
    withdrawal = await library.withdraw(TENANT, voice.id, asked_by="speaker", now=utc_now())
    document = json.loads(await library.export_consent(TENANT, NAME))
    assert document["voice"] == voice.id
    trusted = TrustedKeys(bytes.fromhex(key) for key in document["keys"].values())
    records = [
        read_signed(json.dumps(signed).encode()).verify(trusted)
        for signed in document["consents"] + document["withdrawals"]
    ]
    assert records == [consent, withdrawal]
    assert isinstance(records[0], ConsentArtifact)
    assert isinstance(records[1], Withdrawal)
    assert shelves.signer.id in document["keys"]


async def test_a_hundred_leases_read_and_prepare_once(
    library: VoiceLibrary, shelves: Shelves
) -> None:
    await admit(library)
    leases = await asyncio.gather(*(library.lease(**LEASE) for _ in range(100)))
    assert shelves.engine.prepared == [STATE]
    for lease in leases:
        lease.close()


async def test_nothing_but_a_lease_comes_out(library: VoiceLibrary) -> None:
    """No public attribute of library or lease leads to a state or a prepared voice."""
    voice, _ = await admit(library)
    lease = await library.lease(**LEASE)
    for thing in (lease, lease.open(8000), library):
        for name in dir(thing):
            if name.startswith("_"):
                continue
            value = getattr(thing, name)
            assert type(value).__name__ != "_Prepared", name
            assert value != STATE, name
    for duplicate in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError):
            duplicate(lease)
    await withdraw(library, voice)
    lease.close()
    gc.collect()


async def test_no_store_no_lease_and_running_ones_end(sqlite_shelves: Shelves) -> None:
    async with sqlite_shelves.open() as library:
        await admit(library)
        lease = await library.lease(**LEASE)
        file = Path(sqlite_shelves.urls.voices.removeprefix("sqlite:///"))
        with sqlite3.connect(file) as connection:
            connection.execute("ALTER TABLE consents RENAME TO elsewhere")
            connection.execute("ALTER TABLE voices RENAME TO gone")
        connection.close()
        seconds, why = await lost(lease)
        assert seconds < 1.0
        assert why is Reason.UNAVAILABLE
        with pytest.raises(Exception, match="no such table"):
            await library.lease(**LEASE)
        lease.close()


async def test_a_store_that_comes_back_gives_leases_again(sqlite_shelves: Shelves) -> None:
    """And no withdrawal is taken that nobody would find."""
    file = Path(sqlite_shelves.urls.voices.removeprefix("sqlite:///"))
    files = (file, Path(f"{file}-wal"), Path(f"{file}-shm"))
    async with sqlite_shelves.open() as library:
        voice, _ = await admit(library)
        lease = await library.lease(**LEASE)
        for path in files:
            path.rename(path.with_name(f"away-{path.name}"))
        assert (await lost(lease))[1] is Reason.UNAVAILABLE
        lease.close()
        with pytest.raises(StoreUnavailableError):
            await library.lease(**LEASE)
        with pytest.raises(StoreUnavailableError):
            await withdraw(library, voice)
        assert not file.exists()
        for path in files:
            path.with_name(f"away-{path.name}").rename(path)
        lease = await library.lease(**LEASE)
        assert await spoken(lease) == 3 * 1600
        async with sqlite_shelves.open() as other:
            await withdraw(other, voice)
        assert (await lost(lease))[1] is Reason.WITHDRAWN
        lease.close()


# -- redis ---------------------------------------------------------------------------------------


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    from peers.redis import running_redis

    with running_redis() as server:
        yield server


async def test_over_redis_it_is_heard_much_sooner(
    sqlite_shelves: Shelves, redis: RedisServer
) -> None:
    sqlite_shelves.redis_url = redis.url
    async with sqlite_shelves.open() as one, sqlite_shelves.open() as other:
        async with asyncio.timeout(5):
            await one.revocations.wait_connected()
            await other.revocations.wait_connected()
        voice, _ = await admit(one)
        lease = await other.lease(**LEASE)
        await withdraw(one, voice)
        assert (await lost(lease))[1] is Reason.WITHDRAWN
        assert other.revocations.stats.heard >= 1
        lease.close()


async def test_redis_dying_ends_no_lease_and_hides_no_withdrawal(
    sqlite_shelves: Shelves, redis: RedisServer
) -> None:
    sqlite_shelves.redis_url = redis.url
    async with sqlite_shelves.open() as one, sqlite_shelves.open() as other:
        voice, _ = await admit(one)
        leases = await asyncio.gather(*(other.lease(**LEASE) for _ in range(10)))
        redis.kill()
        for _ in range(40):
            await asyncio.sleep(0.05)
            now = asyncio.get_running_loop().time()
            assert all(lease.licence.holds(now) for lease in leases)
        (await other.lease(**LEASE)).close()
        await withdraw(one, voice)
        seconds, why = await lost(leases[0])
        assert seconds < LIMIT
        assert why is Reason.WITHDRAWN
        assert all(lease.lost for lease in leases)
        for lease in leases:
            lease.close()


async def test_no_dump_holds_a_voiceprint(
    sqlite_shelves: Shelves, redis: RedisServer, tmp_path: Path
) -> None:
    sqlite_shelves.redis_url = redis.url
    async with sqlite_shelves.open(keep_recordings=True) as library:
        voice, _ = await admit(library)
        lease = await library.lease(**LEASE)
        await spoken(lease)
        lease.close()
        async with asyncio.timeout(5):
            while not library.cache.stats.stored:
                await asyncio.sleep(0.01)
        names = redis.ask("KEYS", "*").splitlines()
        assert names
        dumped = b"".join(names)
        for name in names:
            if redis.ask("TYPE", name) == b"string":
                dumped += redis.ask("GET", name)
        files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        assert any(voice.id.encode() in data for data in files)
        for secret in SECRETS:
            # The register of names itself is the operator's to read; a voiceprint is nobody's.
            if secret != NAME.encode():
                assert not any(secret in data for data in files)
            assert secret not in dumped
        await library.erase(TENANT, voice.id, utc_now())
        assert [n for n in redis.ask("KEYS", "*").splitlines() if voice.id.encode() in n] == []


# -- configuration -------------------------------------------------------------------------------


def test_a_new_library_gets_keys_and_an_old_one_never(tmp_path: Path) -> None:
    settings = VoicesSettings(dir=tmp_path)
    made = library_config(settings, {})
    again = library_config(settings, {})
    assert made.signer.public == again.signer.public
    assert (tmp_path / "keys" / "master.keys").stat().st_mode & 0o777 == 0o600
    (tmp_path / "voices.db").touch()
    (tmp_path / "keys" / "master.keys").unlink()
    with pytest.raises(KeyMaterialError, match=r"master\.keys"):
        library_config(settings, {})


def test_keys_that_are_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(KeyMaterialError, match="nowhere"):
        library_config(VoicesSettings(dir=tmp_path, master_keys_file=tmp_path / "nowhere"), {})
    with pytest.raises(KeyMaterialError, match="RINGTRUE_MASTER_KEYS"):
        library_config(VoicesSettings(dir=tmp_path, master_keys="environment"), {})


def test_where_it_is_and_whether_it_is_wanted(tmp_path: Path) -> None:
    environ = {"XDG_DATA_HOME": str(tmp_path)}
    auto = VoicesSettings()
    assert not library_exists(auto, environ)
    assert not library_wanted(auto, named=False, environ=environ)
    assert library_wanted(auto, named=True, environ=environ)
    assert not library_wanted(VoicesSettings(enabled=False), named=True, environ=environ)
    config = library_config(auto, environ)
    assert config.database_url == f"sqlite:///{tmp_path}/ringtrue/voices.db"
    assert config.keys_url == f"sqlite:///{tmp_path}/ringtrue/keys/keys.db"
    (tmp_path / "ringtrue" / "voices.db").touch()
    assert library_wanted(auto, named=False, environ=environ)


def test_secrets_do_not_print(tmp_path: Path) -> None:
    secret = SecretStr("postgresql://u:hunter2@h/a")
    settings = VoicesSettings(
        dir=tmp_path, database_url=secret, keys_url=SecretStr("postgresql://u:hunter2@h/b")
    )
    with pytest.raises(KeyMaterialError):  # a named database gets no keys made
        library_config(settings, {})
    assert "hunter2" not in repr(settings)
