"""Incidents in the voice database: which voices are frozen, since when, and why.

Freezing and lifting change a voice's state and note the incident in one transaction, so that
neither is ever without the other. Nothing else takes a voice out of ``frozen``.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy import insert, select, update
from sqlalchemy.engine import RowMapping

from ringtrue.voices.consent.challenge import clean
from ringtrue.voices.store.database import Database
from ringtrue.voices.store.errors import IncidentNotFoundError, LifecycleError
from ringtrue.voices.store.profile import Lifecycle
from ringtrue.voices.store.rows import bump, voice_row
from ringtrue.voices.store.tables import incidents, voices

log = structlog.get_logger(__name__)

MAX_REASON: Final = 512
MAX_ASKER: Final = 256
MAX_LISTED: Final = 1000

_ID: Final = re.compile(r"inc_[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Incident:
    """One freeze of one voice."""

    id: str
    tenant: str
    voice: str
    """Its id."""

    was: Lifecycle
    """What the voice becomes again when the freeze is lifted."""

    reason: str = field(repr=False)
    opened_by: str
    opened_at: datetime
    lifted_by: str | None = None
    lifted_at: datetime | None = None
    lifted_for: str | None = field(default=None, repr=False)
    """Why it was lifted."""

    @property
    def open(self) -> bool:
        """Whether the voice is frozen by it."""
        return self.lifted_at is None


class IncidentStore:
    """Freezes voices and lifts that again."""

    def __init__(self, database: Database) -> None:
        """``database`` is the voices'."""
        self._database = database

    async def freeze(
        self, tenant: str, voice: str, *, reason: str, asked_by: str, now: datetime
    ) -> tuple[Incident, bool]:
        """Freeze a voice (by id); the incident, and whether it is new: a voice is frozen once.

        Raises :class:`ValueError` on an unfit reason or asker,
        :class:`~ringtrue.voices.store.errors.VoiceNotFoundError`, and
        :class:`~ringtrue.voices.store.errors.LifecycleError` for one that is being enrolled.
        """
        reason = clean("reason", reason, MAX_REASON)
        asked_by = clean("asked_by", asked_by, MAX_ASKER)
        async with self._database.write() as connection:
            row = await voice_row(connection, tenant, voice, lock=True)
            was = Lifecycle(row["lifecycle"])
            if was is Lifecycle.FROZEN:
                query = select(incidents).where(
                    incidents.c.voice_id == voice, incidents.c.lifted_at.is_(None)
                )
                return _incident((await connection.execute(query)).mappings().one()), False
            if was is Lifecycle.ENROLLING:
                raise LifecycleError(
                    f"voice {voice!r} is being enrolled, and can't speak: cancel the enrolment"
                )
            incident = Incident(
                f"inc_{secrets.token_hex(8)}", tenant, voice, was, reason, asked_by, now
            )
            await connection.execute(
                insert(incidents).values(
                    id=incident.id,
                    tenant=tenant,
                    voice_id=voice,
                    was=was.value,
                    reason=reason,
                    opened_by=asked_by,
                    opened_at=now,
                )
            )
            await bump(connection, row, now, lifecycle=Lifecycle.FROZEN.value)
        log.warning("voice_frozen", voice=voice, tenant=tenant, incident=incident.id)
        return incident, True

    async def lift(
        self, tenant: str, incident: str, *, reason: str, asked_by: str, now: datetime
    ) -> Incident:
        """End the freeze; the voice is then what it was, or withdrawn if that came meanwhile.

        Raises :class:`ValueError` on an unfit reason or asker,
        :class:`~ringtrue.voices.store.errors.IncidentNotFoundError`, and
        :class:`~ringtrue.voices.store.errors.LifecycleError` where it is lifted already.
        """
        reason = clean("reason", reason, MAX_REASON)
        asked_by = clean("asked_by", asked_by, MAX_ASKER)
        async with self._database.write() as connection:
            query = select(incidents).where(
                incidents.c.id == incident, incidents.c.tenant == tenant
            )
            found = (await connection.execute(query)).mappings().one_or_none()
            if found is None:
                raise IncidentNotFoundError(incident)
            row = await voice_row(connection, tenant, found["voice_id"], lock=True, erased=True)
            # Read again under the voice's lock: somebody else may have been faster.
            found = (await connection.execute(query)).mappings().one()
            if found["lifted_at"] is not None:
                raise LifecycleError(f"incident {incident!r} is lifted already")
            changes = {"lifted_by": asked_by, "lifted_at": now, "lifted_for": reason}
            await connection.execute(
                update(incidents).where(incidents.c.id == incident).values(**changes)
            )
            if row["lifecycle"] == Lifecycle.FROZEN:
                await bump(connection, row, now, lifecycle=found["was"])
        log.warning("voice_unfrozen", voice=found["voice_id"], tenant=tenant, incident=incident)
        return _incident({**found, **changes})

    async def get(self, tenant: str, incident: str) -> Incident:
        """One incident.

        Raises :class:`~ringtrue.voices.store.errors.IncidentNotFoundError`.
        """
        if not _ID.fullmatch(incident):
            raise IncidentNotFoundError(incident)
        query = select(incidents).where(incidents.c.id == incident, incidents.c.tenant == tenant)
        async with self._database.read() as connection:
            found = (await connection.execute(query)).mappings().one_or_none()
        if found is None:
            raise IncidentNotFoundError(incident)
        return _incident(found)

    async def list(self, tenant: str, *, lifted: bool = False) -> tuple[Incident, ...]:
        """The tenant's latest incidents, newest first; those lifted too only on request."""
        query = select(incidents).where(incidents.c.tenant == tenant)
        if not lifted:
            query = query.where(incidents.c.lifted_at.is_(None))
        query = query.order_by(incidents.c.opened_at.desc(), incidents.c.id).limit(MAX_LISTED)
        async with self._database.read() as connection:
            return tuple(map(_incident, (await connection.execute(query)).mappings().all()))

    async def frozen(self, tenant: str) -> tuple[str, ...]:
        """Ids of the tenant's voices that are frozen."""
        query = select(voices.c.id).where(
            voices.c.tenant == tenant, voices.c.lifecycle == Lifecycle.FROZEN.value
        )
        async with self._database.read() as connection:
            return tuple((await connection.execute(query)).scalars().all())


def _incident(row: RowMapping | dict[Any, Any]) -> Incident:
    return Incident(
        id=row["id"],
        tenant=row["tenant"],
        voice=row["voice_id"],
        was=Lifecycle(row["was"]),
        reason=row["reason"],
        opened_by=row["opened_by"],
        opened_at=row["opened_at"],
        lifted_by=row["lifted_by"],
        lifted_at=row["lifted_at"],
        lifted_for=row["lifted_for"],
    )
