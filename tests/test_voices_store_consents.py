"""The stored register: says yes for a live consent only, and no to whatever goes wrong."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from ringtrue.voices.consent.decision import Decision, Reason
from ringtrue.voices.consent.errors import RecordError, SignatureError
from ringtrue.voices.consent.records import sha256_of
from ringtrue.voices.consent.register import ConsentRegister
from ringtrue.voices.keys.errors import KeyManagementError
from ringtrue.voices.keys.signing import Signer
from ringtrue.voices.store.database import Database
from ringtrue.voices.store.errors import ConflictError, VoiceNotFoundError
from ringtrue.voices.store.opening import Store
from ringtrue.voices.store.profile import BlobKind, Lifecycle, Voice
from ringtrue.voices.store.schema import VOICES
from ringtrue.voices.store.tables import consents, voice_blobs
from store_links import HOUR, NOW, PURPOSE, Link, Urls, live_voice, new_voice, ring


async def ask(store: Store, voice: Voice, /, **changes: Any) -> Decision:
    question = {"tenant": voice.tenant, "voice": voice.id, "agent": "reception", "now": NOW + HOUR}
    register: ConsentRegister = store.consents
    return await register.decide(**({"purpose": PURPOSE} | question | changes))


async def test_a_live_consent_allows(store_urls: Urls) -> None:
    link = Link(store_urls)
    async with link.open() as store:
        voice = await new_voice(store)
        assert (await ask(store, voice)).reason is Reason.VOICE_STATE
        signed = link.consent(voice)
        await store.voices.set_lifecycle("acme", voice.id, Lifecycle.LIVE, NOW)
        assert (await ask(store, voice)).reason is Reason.NO_CONSENT
        await store.consents.add(signed, NOW)
        scope = signed.record.scope
        expected = Decision(Reason.COVERED, signed.record.serial, scope.expires)
        assert await ask(store, voice) == expected
        for changes, reason in (
            ({"tenant": "evil"}, Reason.VOICE_STATE),
            ({"voice": "v_unknown"}, Reason.VOICE_STATE),
            ({"purpose": "fraud"}, Reason.PURPOSE),
            ({"now": NOW - HOUR}, Reason.NOT_YET),
            ({"now": scope.expires}, Reason.EXPIRED),
        ):
            assert (await ask(store, voice, **changes)).reason is reason
        await store.voices.set_lifecycle("acme", voice.id, Lifecycle.SUSPENDED, NOW)
        assert (await ask(store, voice)).reason is Reason.VOICE_STATE
    async with link.open() as store:
        given, taken = await store.consents.records("acme", voice.id)
        assert (given, taken) == ((signed,), ())
        assert given[0].verify(store.consents.trusted).transcript.startswith("I Ada")


async def test_withdrawal_and_consent_anew(store_urls: Urls) -> None:
    link = Link(store_urls)
    async with link.open() as store:
        voice = await live_voice(store, link)
        assert (await ask(store, voice)).allowed
        await store.consents.withdraw(link.withdrawal(voice), NOW + HOUR)
        assert (await ask(store, voice)).reason is Reason.WITHDRAWN
        assert (await store.voices.get("acme", voice.id)).lifecycle is Lifecycle.WITHDRAWN
        # Making it live again brings back nothing; only a new consent does.
        await store.voices.set_lifecycle("acme", voice.id, Lifecycle.LIVE, NOW)
        assert (await ask(store, voice)).reason is Reason.WITHDRAWN
        anew = link.consent(voice, made_at=NOW + 2 * HOUR)
        await store.consents.add(anew, NOW + 2 * HOUR)
        assert (await ask(store, voice, now=NOW + 3 * HOUR)).allowed


async def test_withdrawing_one_of_two(store_urls: Urls) -> None:
    link = Link(store_urls)
    async with link.open() as store:
        voice = await live_voice(store, link)
        other = link.consent(voice, made_at=NOW + timedelta(minutes=1))
        await store.consents.add(other, NOW + timedelta(minutes=1))
        (first, _), _ = await store.consents.records("acme", voice.id)
        await store.consents.withdraw(link.withdrawal(voice, consent=first.record.serial), NOW)
        assert (await store.voices.get("acme", voice.id)).lifecycle is Lifecycle.LIVE
        assert (await ask(store, voice)).serial == other.record.serial
        await store.consents.withdraw(link.withdrawal(voice, consent=other.record.serial), NOW)
        assert (await ask(store, voice)).reason is Reason.WITHDRAWN


async def test_renewal(store_urls: Urls) -> None:
    link = Link(store_urls)
    async with link.open() as store:
        voice = await live_voice(store, link)
        (first,), _ = await store.consents.records("acme", voice.id)
        end = first.record.scope.expires
        later = first.record.scope.model_copy(
            update={"not_before": end - HOUR, "expires": end + timedelta(days=365)}
        )
        renewal = link.consent(voice, supersedes=first.record.serial, scope=later)
        await store.consents.add(renewal, end - HOUR)
        assert (await ask(store, voice, now=end - 2 * HOUR)).serial == first.record.serial
        assert (await ask(store, voice, now=end + HOUR)).serial == renewal.record.serial
        with pytest.raises(RecordError, match="doesn't have"):
            await store.consents.add(link.consent(voice, supersedes="0" * 32), NOW)


async def test_what_is_not_taken_in(store_urls: Urls) -> None:
    link = Link(store_urls)
    async with link.open() as store:
        voice = await new_voice(store)
        stranger = Link(store_urls, Signer.generate())
        with pytest.raises(SignatureError, match="unknown key"):
            await store.consents.add(stranger.consent(voice), NOW)
        with pytest.raises(SignatureError, match="unknown key"):
            await store.consents.withdraw(stranger.withdrawal(voice), NOW)
        with pytest.raises(RecordError, match="another voiceprint"):
            await store.consents.add(link.consent(voice, voice_sha256=sha256_of(b"other")), NOW)
        with pytest.raises(VoiceNotFoundError):
            await store.consents.add(link.consent(voice, voice="v_unknown"), NOW)
        signed = link.consent(voice)
        await store.consents.add(signed, NOW)
        with pytest.raises(ConflictError, match="was used before"):
            await store.consents.add(signed, NOW)
        assert len((await store.consents.records("acme", voice.id))[0]) == 1


async def test_another_voiceprint_has_no_consent(store_urls: Urls) -> None:
    link = Link(store_urls)
    async with link.open() as store:
        voice = await live_voice(store, link)
        await store.voices.put_blob("acme", voice.id, BlobKind.EMBEDDING, b"someone else", NOW)
        assert (await ask(store, voice)).reason is Reason.VOICE_CHANGED


async def tamper(urls: Urls, statement: Any) -> None:
    database = Database(urls.voices, VOICES)
    try:
        async with database.write() as connection:
            await connection.execute(statement)
    finally:
        await database.close()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (update(consents).values(ciphertext=b"\0" * 64), Reason.UNAVAILABLE),
        (update(consents).values(ciphertext=None), Reason.UNAVAILABLE),
        (update(voice_blobs).values(ciphertext=b"\0" * 64), Reason.UNAVAILABLE),
        (delete(voice_blobs), Reason.UNAVAILABLE),
        (delete(consents), Reason.NO_CONSENT),
    ],
    ids=["altered", "emptied", "voiceprint altered", "voiceprint gone", "consent gone"],
)
async def test_what_was_tampered_with_is_a_no(
    store_urls: Urls, statement: Any, reason: Reason
) -> None:
    link = Link(store_urls)
    async with link.open() as store:
        voice = await live_voice(store, link)
        assert (await ask(store, voice)).allowed
        await tamper(store_urls, statement)
        assert (await ask(store, voice)).reason is reason
        if reason is Reason.UNAVAILABLE and "consents" in str(statement):
            with pytest.raises(KeyManagementError):
                await store.consents.records("acme", voice.id)


async def test_without_keys_or_trust_it_is_a_no(store_urls: Urls) -> None:
    link = Link(store_urls)
    async with link.open() as store:
        voice = await live_voice(store, link)
    async with link.open(ring("other")) as store:
        assert (await ask(store, voice)).reason is Reason.UNAVAILABLE
    async with Link(store_urls, Signer.generate()).open() as store:
        assert (await ask(store, voice)).reason is Reason.SIGNATURE
    async with link.open() as store:
        assert (await ask(store, voice)).allowed


async def test_without_a_database_it_is_a_no(tmp_path: Path) -> None:
    link = Link(Urls(f"sqlite:///{tmp_path}/v.db", f"sqlite:///{tmp_path}/k.db"))
    async with link.open() as store:
        voice = await live_voice(store, link)
        # A moment without a time zone is no moment.
        assert (await ask(store, voice, now=datetime(2025, 3, 2))).reason is Reason.UNAVAILABLE
        assert (await ask(store, voice)).allowed
        with sqlite3.connect(tmp_path / "k.db") as plain:
            plain.execute("ALTER TABLE data_keys RENAME TO gone")
        plain.close()
        assert (await ask(store, voice)).reason is Reason.UNAVAILABLE
