"""Consents and withdrawals in the voice database, and the register that reads them.

Records are encrypted under their voice's data key, so erasing the voice erases who said what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Row, Table, insert, select, update
from sqlalchemy.exc import IntegrityError

from ringtrue.voices.consent.decision import Decision, Reason
from ringtrue.voices.consent.errors import RecordError
from ringtrue.voices.consent.records import (
    ConsentArtifact,
    Signed,
    Withdrawal,
    is_consent,
    is_withdrawal,
    read_signed,
    sha256_of,
)
from ringtrue.voices.consent.register import decide
from ringtrue.voices.keys.errors import UnsealError
from ringtrue.voices.keys.sealing import DataKey, SealContext, Sealed
from ringtrue.voices.keys.signing import TrustedKeys
from ringtrue.voices.store.database import Database
from ringtrue.voices.store.errors import (
    BlobNotFoundError,
    ConflictError,
    VoiceFrozenError,
    VoiceNotFoundError,
)
from ringtrue.voices.store.profile import BlobKind, Lifecycle
from ringtrue.voices.store.rows import bump, voice_row
from ringtrue.voices.store.tables import consents, incidents, voice_blobs, withdrawals
from ringtrue.voices.store.vault import KeyVault
from ringtrue.voices.store.voices import VoiceStore

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Stored:
    lifecycle: Lifecycle
    consents: Sequence[Row[Any]]
    withdrawals: Sequence[Row[Any]]
    embedding: Row[Any] | None


class ConsentStore:
    """Keeps the records of all voices; implements the consent register."""

    def __init__(
        self, database: Database, vault: KeyVault, store: VoiceStore, trusted: TrustedKeys
    ) -> None:
        """``database`` and ``vault`` are those of ``store``; ``trusted`` checks signatures."""
        self._database = database
        self._vault = vault
        self._store = store
        self.trusted = trusted
        """What signatures are checked against."""

    async def add(self, signed: Signed[ConsentArtifact], now: datetime) -> None:
        """Store a consent.

        Raises :class:`~ringtrue.voices.consent.errors.SignatureError` on a bad signature,
        :class:`RecordError` where it is of another voiceprint than the stored one or renews a
        consent this voice doesn't have, :class:`ConflictError` on a serial used before,
        :class:`~ringtrue.voices.store.errors.VoiceFrozenError` for a frozen voice, and
        :class:`~ringtrue.voices.store.errors.VoiceNotFoundError`.
        """
        consent = signed.verify(self.trusted)
        tenant, voice = consent.scope.tenant, consent.voice
        embedding = await self._store.get_blob(tenant, voice, BlobKind.EMBEDDING)
        if sha256_of(embedding.data) != consent.voice_sha256:
            raise RecordError(f"consent {consent.serial} is of another voiceprint than the stored")
        if consent.supersedes is not None:
            query = select(consents.c.serial).where(
                consents.c.serial == consent.supersedes, consents.c.voice_id == voice
            )
            async with self._database.read() as connection:
                if (await connection.execute(query)).one_or_none() is None:
                    raise RecordError(
                        f"consent {consent.serial} renews {consent.supersedes}, "
                        f"which voice {voice!r} doesn't have"
                    )
        await self._insert(consents, signed, tenant, voice, now)
        log.info("consent_stored", voice=voice, tenant=tenant, serial=consent.serial)

    async def withdraw(self, signed: Signed[Withdrawal], now: datetime) -> None:
        """Store a withdrawal; one of all consents also moves the voice to ``withdrawn``, or has a
        frozen one moved there once its incident is lifted.

        Both happen in one transaction: from its end on, the register says no. Raises as
        :meth:`add` does.
        """
        withdrawal = signed.verify(self.trusted)
        state = Lifecycle.WITHDRAWN if withdrawal.consent is None else None
        await self._insert(withdrawals, signed, withdrawal.tenant, withdrawal.voice, now, state)
        log.info("consent_withdrawn", voice=withdrawal.voice, serial=withdrawal.serial)

    async def records(
        self, tenant: str, voice: str
    ) -> tuple[tuple[Signed[ConsentArtifact], ...], tuple[Signed[Withdrawal], ...]]:
        """Everything signed about one voice, oldest first, signatures unchecked; for export.

        Raises :class:`~ringtrue.voices.store.errors.VoiceNotFoundError`,
        :class:`~ringtrue.voices.keys.errors.KeyManagementError` and :class:`RecordError`: a record
        that can't be read is never passed over.
        """
        stored = await self._read(tenant, voice)
        return _opened(tenant, voice, stored, await self._vault.get(tenant, voice))

    async def decide(
        self, *, tenant: str, voice: str, agent: str, purpose: str, now: datetime
    ) -> Decision:
        """Whether ``voice`` may speak; never raises, and whatever can't be found out is a no."""
        try:
            stored = await self._read(tenant, voice)
            if stored.lifecycle is Lifecycle.WITHDRAWN:
                return Decision(Reason.WITHDRAWN)
            if stored.lifecycle is Lifecycle.FROZEN:
                return Decision(Reason.FROZEN)
            if stored.lifecycle is not Lifecycle.LIVE:
                return Decision(Reason.VOICE_STATE)
            # After the records: of an erasure meanwhile, the key is gone by now.
            key = await self._vault.get(tenant, voice)
            given, taken = _opened(tenant, voice, stored, key)
            embedding = _embedding(tenant, voice, stored, key)
            return decide(
                given,
                taken,
                self.trusted,
                tenant=tenant,
                voice=voice,
                voice_sha256=sha256_of(embedding),
                agent=agent,
                purpose=purpose,
                now=now,
            )
        except VoiceNotFoundError:
            return Decision(Reason.VOICE_STATE)
        except Exception as error:  # fail closed whatever the register's parts raise
            log.error("consent_register_failed", voice=voice, error=type(error).__name__)
            return Decision(Reason.UNAVAILABLE)

    async def _read(self, tenant: str, voice: str) -> _Stored:
        """Everything the register weighs, in one transaction, still encrypted."""
        of_voice = {
            table.name: select(table)
            .where(table.c.voice_id == voice)
            .order_by(table.c.stored_at, table.c.serial)
            for table in (consents, withdrawals)
        }
        blob = select(voice_blobs).where(
            voice_blobs.c.voice_id == voice, voice_blobs.c.kind == BlobKind.EMBEDDING.value
        )
        async with self._database.read() as connection:
            row = await voice_row(connection, tenant, voice)
            return _Stored(
                lifecycle=Lifecycle(row["lifecycle"]),
                consents=(await connection.execute(of_voice["consents"])).all(),
                withdrawals=(await connection.execute(of_voice["withdrawals"])).all(),
                embedding=(await connection.execute(blob)).one_or_none(),
            )

    async def _insert(
        self,
        table: Table,
        signed: Signed[ConsentArtifact] | Signed[Withdrawal],
        tenant: str,
        voice: str,
        now: datetime,
        state: Lifecycle | None = None,
    ) -> None:
        key = await self._vault.get(tenant, voice)
        serial, data = signed.record.serial, signed.to_json()
        sealed = key.seal(data, _context(tenant, voice, table, serial))
        try:
            async with self._database.write() as connection:
                row = await voice_row(connection, tenant, voice, lock=True)
                frozen = row["lifecycle"] == Lifecycle.FROZEN
                if frozen and table is consents:
                    raise VoiceFrozenError(voice, "it takes no consent")
                await connection.execute(
                    insert(table).values(
                        serial=serial,
                        voice_id=voice,
                        sha256=sha256_of(data),
                        nonce=sealed.nonce,
                        ciphertext=sealed.ciphertext,
                        stored_at=now,
                    )
                )
                changes = {} if state is None or frozen else {"lifecycle": state.value}
                await bump(connection, row, now, **changes)
                if state is not None and frozen:
                    # It stays frozen, and is withdrawn once that is lifted.
                    await connection.execute(
                        update(incidents)
                        .where(incidents.c.voice_id == voice, incidents.c.lifted_at.is_(None))
                        .values(was=state.value)
                    )
        except IntegrityError:
            raise ConflictError(f"serial {serial} was used before") from None


def _context(tenant: str, voice: str, table: Table, serial: str) -> SealContext:
    return SealContext(tenant, voice, f"{table.name}/{serial}", 1)


def _opened(
    tenant: str, voice: str, stored: _Stored, key: DataKey
) -> tuple[tuple[Signed[ConsentArtifact], ...], tuple[Signed[Withdrawal], ...]]:
    given, taken = list[Signed[ConsentArtifact]](), list[Signed[Withdrawal]]()
    for table, rows in ((consents, stored.consents), (withdrawals, stored.withdrawals)):
        for row in rows:
            if row.ciphertext is None or row.nonce is None:
                raise UnsealError(f"{table.name}: record {row.serial} has no content")
            sealed = Sealed(row.nonce, row.ciphertext)
            signed = read_signed(key.unseal(sealed, _context(tenant, voice, table, row.serial)))
            if is_consent(signed):
                given.append(signed)
            elif is_withdrawal(signed):
                taken.append(signed)
    return tuple(given), tuple(taken)


def _embedding(tenant: str, voice: str, stored: _Stored, key: DataKey) -> bytes:
    row = stored.embedding
    if row is None:
        raise BlobNotFoundError(f"voice {voice!r} has no {BlobKind.EMBEDDING}")
    context = SealContext(tenant, voice, BlobKind.EMBEDDING, row.version)
    return key.unseal(Sealed(row.nonce, row.ciphertext), context)
