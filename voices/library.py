"""The library of cloned voices: kept encrypted, governed by consent, spoken by lease only.

Everything that changes or speaks a voice goes through :class:`VoiceLibrary`. A voice's state is
decrypted inside :meth:`VoiceLibrary.lease`, after the consent register said yes, and what was made
of it leaves in no other form than a :class:`~ringtrue.voices.lease.Lease`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from ringtrue.streaming.errors import RingtrueError
from ringtrue.voices.cache.blobs import CachedBlobs
from ringtrue.voices.cache.bus import News, Revocation
from ringtrue.voices.cache.opening import CacheSettings, Caching, open_caching
from ringtrue.voices.consent.challenge import MAX_NAME, clean
from ringtrue.voices.consent.decision import Decision, Reason
from ringtrue.voices.consent.records import (
    ANY_AGENT,
    ConsentArtifact,
    Scope,
    Withdrawal,
    sha256_of,
    sign,
)
from ringtrue.voices.engine import VoiceEngine
from ringtrue.voices.errors import EngineStateError
from ringtrue.voices.flite import VOICES
from ringtrue.voices.frozen import incident_deed, refuse_frozen_speaker
from ringtrue.voices.lease import Lease
from ringtrue.voices.ledger import Act, Deed, Ledger, LedgerError, NoLedger
from ringtrue.voices.library_config import LibraryConfig
from ringtrue.voices.licensing import ConsentRefusedError, ConsentWatch, Grant, Question
from ringtrue.voices.rolling_likeness import SOUND
from ringtrue.voices.shelf import ReadyVoice, Shelf
from ringtrue.voices.store.incidents import Incident
from ringtrue.voices.store.opening import Store, open_store
from ringtrue.voices.store.profile import BlobKind, Lifecycle, Tombstone, Voice, is_voice_id

log = structlog.get_logger(__name__)

RESERVED_NAMES: Final = frozenset(VOICES)
"""Stock voices: a cloned voice can't be taken for one of them."""


class VoiceNameError(RingtrueError):
    """A voice can't be called that."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A consent that was spoken, checked and recognized, and how far it goes."""

    speaker: str = field(repr=False)
    transcript: str = field(repr=False)
    sha256: str
    """Of the recorded statement's audio, in hexadecimal."""

    purposes: tuple[str, ...]
    asked_by: str
    agents: tuple[str, ...] = (ANY_AGENT,)
    expires: datetime | None = None
    """None: as many days on as the library's configuration says."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A voice that passed every check of its enrolment."""

    name: str = field(repr=False)
    language: str
    engine: str
    """Id of the engine that made ``state``."""

    embedding: bytes = field(repr=False)
    """The speaker embedding, exactly as it is to be stored and signed over."""

    state: bytes = field(repr=False)
    recordings: Mapping[BlobKind, bytes] = field(default_factory=dict, repr=False)
    """Kept, encrypted, only where the configuration says so."""

    kept: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Further blobs by their kind, always kept, encrypted."""


class VoiceLibrary:
    """Keeps, admits, leases, withdraws and erases voices; see :func:`open_library`."""

    def __init__(
        self,
        store: Store,
        caching: Caching,
        config: LibraryConfig,
        engines: Mapping[str, VoiceEngine],
        ledger: Ledger | None = None,
    ) -> None:
        """Over an open ``store``. ``engines`` are closed by whoever made them.

        ``ledger`` is told what is done with voices; None: nobody is.
        """
        self.ledger: Ledger = NoLedger() if ledger is None else ledger
        self.store = store
        self.cache = caching.cache
        self.revocations = caching.revocations
        self.signer = config.signer
        self.config = config
        self.engines = dict(engines)
        self._blobs = CachedBlobs(store.voices, store.vault, caching.cache)
        self._shelf: Shelf[ReadyVoice] = Shelf()
        self._watch = ConsentWatch(
            store.consents, store.voices.versions, term=config.lease_seconds, clock=utc_now
        )
        self._unsubscribe = self.revocations.subscribe(self._heard, self._watch.look)

    async def find(self, tenant: str, voice: str) -> Voice:
        """One voice by id or name.

        Raises :class:`~ringtrue.voices.store.errors.VoiceNotFoundError`.
        """
        if is_voice_id(voice):
            return await self.store.voices.get(tenant, voice)
        return await self.store.voices.find(tenant, voice)

    async def decide(self, *, tenant: str, voice: str, agent: str, purpose: str) -> Decision:
        """What the register says at this moment; for people, not for speaking."""
        return await self.store.consents.decide(
            tenant=tenant, voice=voice, agent=agent, purpose=purpose, now=utc_now()
        )

    async def lease(self, *, tenant: str, voice: str, agent: str, purpose: str) -> Lease:
        """Leave to speak with ``voice`` (id or name): the only way to its sound.

        Close the lease when the call or the command is over. Raises
        :class:`~ringtrue.voices.licensing.ConsentRefusedError` where no consent covers it,
        :class:`~ringtrue.voices.ledger.LedgerError` while that could not be recorded,
        :class:`~ringtrue.voices.store.errors.StoreError` and
        :class:`~ringtrue.voices.keys.errors.KeyManagementError` where the voice can't be had, and
        :class:`~ringtrue.voices.errors.EngineStateError` where no engine here speaks it.
        """
        profile = await self.find(tenant, voice)
        if not self.ledger.writable:
            raise LedgerError("the audit log can't be written: no cloned voice begins to speak")
        try:
            grant = await self._watch.grant(Question(tenant, profile.id, agent, purpose))
        except ConsentRefusedError as error:
            decision = error.decision
            deed = Deed(Act.REFUSED, tenant, profile.id, decision.serial, agent=agent)
            self.ledger.note(replace(deed, reason=decision.reason.value))
            raise
        try:
            ready = await self._ready(profile)
        except BaseException:
            self._watch.release(grant)
            raise
        deed = Deed(Act.LEASED, tenant, profile.id, grant.consent, agent=agent)
        detail: dict[str, str | int | bool] = {"version": profile.version}
        self.ledger.note(replace(deed, engine=profile.engine, detail=detail))
        return Lease(
            grant,
            ready.prepared,
            self._release,
            engine=profile.engine,
            version=profile.version,
            speaker=ready.speaker,
            sound=ready.sound,
            lines=ready.lines,
        )

    async def admit(
        self, tenant: str, candidate: Candidate, statement: Statement, now: datetime
    ) -> tuple[Voice, ConsentArtifact]:
        """Store a voice with its consent and make it live; on any failure nothing is left of it.

        Raises :class:`VoiceNameError`, :class:`~ringtrue.voices.store.errors.VoiceExistsError`,
        :class:`~ringtrue.voices.store.errors.VoiceFrozenError` for a speaker whose voice is frozen,
        and what storing raises.
        """
        name = checked_name(candidate.name)
        await refuse_frozen_speaker(self.store, tenant, candidate.embedding)
        if candidate.engine not in self.engines:
            raise EngineStateError(self._no_engine(candidate.engine))
        voices = self.store.voices
        voice = await voices.create(
            tenant, name=name, language=candidate.language, engine=candidate.engine, now=now
        )
        try:
            blobs: dict[str, bytes] = {
                BlobKind.EMBEDDING: candidate.embedding,
                BlobKind.ENGINE_STATE: candidate.state,
                **candidate.kept,
            }
            if self.config.keep_recordings:
                blobs.update({str(kind): data for kind, data in candidate.recordings.items()})
            for kind, data in blobs.items():
                await voices.put_blob(tenant, voice.id, kind, data, now)
            consent = await self._consent(voice, candidate.embedding, statement, None, now)
            voice = await voices.set_lifecycle(tenant, voice.id, Lifecycle.LIVE, now)
        except BaseException:
            await asyncio.shield(voices.erase(tenant, voice.id, now))
            raise
        deed = Deed(Act.ENROLLED, tenant, voice.id, consent.serial, engine=voice.engine)
        self.ledger.note(replace(deed, asked_by=statement.asked_by))
        self.ledger.note(_given(Act.CONSENTED, consent))
        return voice, consent

    async def renew(
        self,
        tenant: str,
        voice: str,
        statement: Statement,
        now: datetime,
        *,
        supersedes: str | None = None,
    ) -> ConsentArtifact:
        """Add a consent to a voice; one that was withdrawn is live again by it.

        ``supersedes`` is the serial of the consent it takes the place of, if any. Raises
        :class:`~ringtrue.voices.consent.errors.RecordError` and
        :class:`~ringtrue.voices.store.errors.StoreError`.
        """
        profile = await self.find(tenant, voice)
        embedding = await self.store.voices.get_blob(tenant, profile.id, BlobKind.EMBEDDING)
        consent = await self._consent(profile, embedding.data, statement, supersedes, now)
        if profile.lifecycle is Lifecycle.WITHDRAWN:
            await self.store.voices.set_lifecycle(tenant, profile.id, Lifecycle.LIVE, now)
        self.ledger.note(_given(Act.RENEWED, consent))
        await self.revocations.publish(profile.id, News.CHANGED)
        return consent

    async def withdraw(
        self, tenant: str, voice: str, *, asked_by: str, now: datetime, consent: str | None = None
    ) -> Withdrawal:
        """Take back one consent (by serial), or all: calls in progress change voice at once.

        Raises :class:`~ringtrue.voices.store.errors.StoreError`; then nothing was withdrawn.
        """
        profile = await self.find(tenant, voice)
        withdrawal = Withdrawal(
            tenant=tenant, voice=profile.id, consent=consent, asked_by=asked_by, made_at=now
        )
        await self.store.consents.withdraw(sign(withdrawal, self.signer), now)
        deed = Deed(Act.WITHDRAWN, tenant, profile.id, consent, asked_by=asked_by)
        self.ledger.note(replace(deed, detail={"record": withdrawal.serial}))
        if consent is None:
            self._watch.revoke(profile.id, Reason.WITHDRAWN)
        await self.revocations.publish(profile.id, News.WITHDRAWN)
        await self.cache.drop(tenant, profile.id)
        return withdrawal

    async def suspend(
        self, tenant: str, voice: str, now: datetime, *, asked_by: str | None = None
    ) -> Voice:
        """Stop a voice without touching its consents; :meth:`resume` takes it up again."""
        profile = await self.find(tenant, voice)
        changed = await self.store.voices.set_lifecycle(
            tenant, profile.id, Lifecycle.SUSPENDED, now
        )
        self.ledger.note(Deed(Act.SUSPENDED, tenant, profile.id, asked_by=asked_by))
        self._watch.revoke(profile.id, Reason.VOICE_STATE)
        await self.revocations.publish(profile.id, News.CHANGED)
        return changed

    async def resume(
        self, tenant: str, voice: str, now: datetime, *, asked_by: str | None = None
    ) -> Voice:
        """Take up a suspended voice; its consents are weighed as ever."""
        profile = await self.find(tenant, voice)
        changed = await self.store.voices.set_lifecycle(tenant, profile.id, Lifecycle.LIVE, now)
        self.ledger.note(Deed(Act.RESUMED, tenant, profile.id, asked_by=asked_by))
        return changed

    async def freeze(
        self, tenant: str, voice: str, *, reason: str, asked_by: str, now: datetime
    ) -> tuple[Incident, bool]:
        """Stop a voice everywhere by an incident; whether that is new is the second value.

        While it is open the voice speaks nowhere, takes no consent, and is neither resumed nor
        erased. Raises ValueError on an unfit reason and
        :class:`~ringtrue.voices.store.errors.StoreError`; then nothing was frozen.
        """
        profile = await self.find(tenant, voice)
        incident, new = await self.store.incidents.freeze(
            tenant, profile.id, reason=reason, asked_by=asked_by, now=now
        )
        if new:
            self.ledger.note(incident_deed(Act.FROZEN, incident, reason, asked_by))
        self._watch.revoke(profile.id, Reason.FROZEN)
        await self.revocations.publish(profile.id, News.CHANGED)
        await self.cache.drop(tenant, profile.id)
        return incident, new

    async def unfreeze(
        self, tenant: str, incident: str, *, reason: str, asked_by: str, now: datetime
    ) -> Incident:
        """Lift an incident's freeze; the voice is what it was, and its consents are weighed.

        Raises ValueError on an unfit reason, :class:`~ringtrue.voices.ledger.LedgerError` while
        that could not be recorded, and :class:`~ringtrue.voices.store.errors.StoreError`.
        """
        if not self.ledger.writable:
            raise LedgerError("the audit log can't be written: no voice is unfrozen")
        lifted = await self.store.incidents.lift(
            tenant, incident, reason=reason, asked_by=asked_by, now=now
        )
        self.ledger.note(incident_deed(Act.UNFROZEN, lifted, reason, asked_by))
        return lifted

    async def erase(
        self, tenant: str, voice: str, now: datetime, *, asked_by: str | None = None
    ) -> Tombstone:
        """Erase a voice for good, here, in the store and in every cache. May be repeated.

        Raises :class:`~ringtrue.voices.store.errors.StoreError`.
        """
        voice_id = voice if is_voice_id(voice) else (await self.find(tenant, voice)).id
        tombstone = await self.store.voices.erase(tenant, voice_id, now)
        self.ledger.note(Deed(Act.ERASED, tenant, voice_id, asked_by=asked_by))
        self._watch.revoke(voice_id, Reason.VOICE_STATE)
        await self.revocations.publish(voice_id, News.ERASED)
        await self.cache.drop(tenant, voice_id)
        return tombstone

    async def export_consent(
        self, tenant: str, voice: str, *, asked_by: str | None = None
    ) -> bytes:
        """Everything signed about a voice with the public keys that check it, as JSON.

        Raises :class:`~ringtrue.voices.store.errors.StoreError` and
        :class:`~ringtrue.voices.consent.errors.RecordError`.
        """
        profile = await self.find(tenant, voice)
        given, taken = await self.store.consents.records(tenant, profile.id)
        trusted = self.store.consents.trusted
        document = {
            "format": 1,
            "tenant": tenant,
            "voice": profile.id,
            "consents": [json.loads(signed.to_json()) for signed in given],
            "withdrawals": [json.loads(signed.to_json()) for signed in taken],
            "keys": {key: trusted.public(key).hex() for key in trusted.ids},
        }
        self.ledger.note(Deed(Act.EXPORTED, tenant, profile.id, asked_by=asked_by))
        return json.dumps(document, indent=2, ensure_ascii=False).encode()

    async def close(self) -> None:
        """End every lease; nothing decrypted is left."""
        self._unsubscribe()
        await self._watch.close()
        self._shelf.clear()

    async def _consent(
        self,
        voice: Voice,
        embedding: bytes,
        statement: Statement,
        supersedes: str | None,
        now: datetime,
    ) -> ConsentArtifact:
        expires = statement.expires or now + timedelta(days=self.config.consent_days)
        artifact = ConsentArtifact(
            voice=voice.id,
            voice_sha256=sha256_of(embedding),
            speaker=statement.speaker,
            statement_sha256=statement.sha256,
            transcript=statement.transcript,
            scope=Scope(
                tenant=voice.tenant,
                agents=statement.agents,
                purposes=statement.purposes,
                not_before=now,
                expires=expires,
            ),
            asked_by=statement.asked_by,
            made_at=now,
            supersedes=supersedes,
        )
        await self.store.consents.add(sign(artifact, self.signer), now)
        return artifact

    async def _ready(self, voice: Voice) -> ReadyVoice:
        engine = self.engines.get(voice.engine)
        if engine is None:
            raise EngineStateError(self._no_engine(voice.engine))

        async def make() -> ReadyVoice:
            state = await self._blobs.get_blob(voice.tenant, voice.id, BlobKind.ENGINE_STATE)
            speaker = await self._blobs.get_blob(voice.tenant, voice.id, BlobKind.EMBEDDING)
            sound = await self._blobs.data(voice.tenant, voice.id, SOUND)
            return ReadyVoice(await engine.prepare(state.data), speaker.data, sound)

        return await self._shelf.get(voice.id, voice.version, make)

    def _no_engine(self, engine: str) -> str:
        known = ", ".join(sorted(self.engines)) or "none"
        return f"no engine {engine!r} is set up here; engines: {known}"

    def _heard(self, revocation: Revocation) -> None:
        """Something happened to a voice, here or in another process."""
        self._shelf.drop(revocation.voice)
        self._watch.suspect(revocation.voice)

    def _release(self, grant: Grant) -> None:
        self._watch.release(grant)


def _given(act: Act, consent: ConsentArtifact) -> Deed:
    """A consent, as the ledger keeps it: everything but who spoke and the words."""
    scope = consent.scope
    detail: dict[str, str | int | bool] = {
        "agents": ", ".join(scope.agents),
        "purposes": ", ".join(scope.purposes),
        "not_before": scope.not_before.isoformat(),
        "expires": scope.expires.isoformat(),
        "statement": consent.statement_sha256,
    }
    if consent.supersedes is not None:
        detail["supersedes"] = consent.supersedes
    return Deed(
        act, scope.tenant, consent.voice, consent.serial, asked_by=consent.asked_by, detail=detail
    )


def checked_name(name: str) -> str:
    """``name`` as a cloned voice may have it.

    Raises :class:`VoiceNameError` on a stock voice's name, on what looks like a voice's id, and on
    what can't be read out.
    """
    try:
        cleaned = clean("name", name, MAX_NAME)
    except ValueError as error:
        raise VoiceNameError(str(error)) from None
    if cleaned.casefold() in RESERVED_NAMES:
        stock = ", ".join(sorted(RESERVED_NAMES))
        raise VoiceNameError(f"name {cleaned!r} is a stock voice's; taken: {stock}")
    if is_voice_id(cleaned):
        raise VoiceNameError(f"name {cleaned!r} looks like the id of a voice")
    return cleaned


def utc_now() -> datetime:
    """The time of day, with its zone."""
    return datetime.now(UTC)


@asynccontextmanager
async def open_library(
    config: LibraryConfig, engines: Mapping[str, VoiceEngine], ledger: Ledger | None = None
) -> AsyncIterator[VoiceLibrary]:
    """Open store, cache and bus, and hold the library open; ``engines`` by their ids.

    ``ledger`` is told what is done with voices.

    Redis need not be there. Raises :class:`~ringtrue.voices.store.errors.StoreError` and
    :class:`~ringtrue.voices.cache.errors.RedisUrlError`.
    """
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            open_store(
                config.database_url,
                config.keys_url,
                keys=config.keys,
                trusted=config.trusted,
                now=utc_now(),
            )
        )
        kept = CacheSettings(ttl=config.cache_seconds)
        caching = await stack.enter_async_context(open_caching(config.redis_url, kept))
        library = VoiceLibrary(store, caching, config, engines, ledger)
        stack.push_async_callback(library.close)
        yield library


__all__ = [
    "Candidate",
    "ConsentRefusedError",
    "Lease",
    "Statement",
    "VoiceLibrary",
    "VoiceNameError",
    "checked_name",
    "open_library",
    "utc_now",
]
