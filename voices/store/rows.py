"""Rows of the ``voices`` table, for whoever changes a voice inside a transaction of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ringtrue.voices.store.errors import VoiceErasedError, VoiceNotFoundError
from ringtrue.voices.store.profile import Lifecycle, Voice, is_voice_id
from ringtrue.voices.store.tables import voices


async def voice_row(
    connection: AsyncConnection,
    tenant: str,
    voice: str,
    *,
    lock: bool = False,
    erased: bool = False,
) -> dict[str, Any]:
    """The voice's row; with ``lock`` no other transaction changes it until this one ends.

    Raises :class:`VoiceNotFoundError`, and :class:`VoiceErasedError` unless ``erased`` asks for
    tombstones too.
    """
    if not is_voice_id(voice):
        raise VoiceNotFoundError(voice)
    query = select(voices).where(voices.c.id == voice, voices.c.tenant == tenant)
    if lock:
        query = query.with_for_update()
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise VoiceNotFoundError(voice)
    if row["lifecycle"] == Lifecycle.ERASED and not erased:
        raise VoiceErasedError(voice)
    return dict(row)


async def bump(
    connection: AsyncConnection, row: dict[str, Any], now: datetime, **values: object
) -> Voice:
    """Change a locked row, and its version with it; returns the voice as it is then."""
    changes = {"version": row["version"] + 1, "changed_at": now, **values}
    await connection.execute(update(voices).where(voices.c.id == row["id"]).values(**changes))
    return voice_of(row | changes)


def voice_of(row: dict[str, Any]) -> Voice:
    """The profile a row of a voice that is not erased holds."""
    return Voice(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        language=row["language"],
        engine=row["engine"],
        lifecycle=Lifecycle(row["lifecycle"]),
        version=row["version"],
        created_at=row["created_at"],
        changed_at=row["changed_at"],
    )
