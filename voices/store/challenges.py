"""Challenges in the voice database: issued, and redeemed exactly once."""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, insert, select, update

from ringtrue.voices.consent.challenge import (
    DEFAULT_TTL,
    Challenge,
    IssuedChallenge,
    issue,
    open_token,
)
from ringtrue.voices.consent.errors import ChallengeError, ChallengeRefusal
from ringtrue.voices.store.database import Database
from ringtrue.voices.store.tables import challenges

MAX_OUTSTANDING: Final = 1000
"""Challenges one tenant may have that are not expired; more are refused."""

_REMEMBERED: Final = timedelta(days=1)
"""How long an expired challenge is still known as such."""


class ChallengeStore:
    """Issues and redeems challenges. Only hashes of them are stored."""

    def __init__(self, database: Database) -> None:
        """``database`` has the schema ``VOICES``."""
        self._database = database

    async def issue(
        self, tenant: str, *, name: str, purpose: str, now: datetime, ttl: timedelta = DEFAULT_TTL
    ) -> IssuedChallenge:
        """A new challenge; its token goes to the speaker and is kept nowhere.

        Raises :class:`ChallengeError` (``too_many``) and :class:`ValueError` as
        :func:`ringtrue.voices.consent.challenge.issue` does.
        """
        issued = issue(tenant, name, purpose, now, ttl)
        outstanding = (
            select(func.count())
            .select_from(challenges)
            .where(challenges.c.tenant == tenant, challenges.c.expires_at > now)
        )
        async with self._database.write() as connection:
            await connection.execute(
                delete(challenges).where(challenges.c.expires_at < now - _REMEMBERED)
            )
            if (await connection.execute(outstanding)).scalar_one() >= MAX_OUTSTANDING:
                raise ChallengeError(
                    ChallengeRefusal.TOO_MANY,
                    f"this tenant has {MAX_OUTSTANDING} challenges that have not expired",
                )
            await connection.execute(
                insert(challenges).values(
                    id=issued.challenge.id,
                    tenant=tenant,
                    digest=issued.digest,
                    issued_at=now,
                    expires_at=issued.challenge.expires,
                )
            )
        return issued

    async def redeem(
        self, tenant: str, token: str, *, name: str, purpose: str, now: datetime
    ) -> Challenge:
        """Use up a challenge: of any number of attempts at most one returns.

        Raises :class:`ChallengeError` with the reason. An attempt for another tenant, name or
        purpose doesn't use it up.
        """
        opened, digest = open_token(token, tenant, name, purpose, now)
        mine = (challenges.c.id == opened.id, challenges.c.tenant == tenant)
        claim = (
            update(challenges)
            .where(
                *mine,
                challenges.c.digest == digest,
                challenges.c.redeemed_at.is_(None),
                challenges.c.expires_at > now,
            )
            .values(redeemed_at=now)
        )
        async with self._database.write() as connection:
            claimed = (await connection.execute(claim)).rowcount == 1
            row = (await connection.execute(select(challenges).where(*mine))).one_or_none()
        if row is None:
            raise ChallengeError(ChallengeRefusal.UNKNOWN, "no such challenge")
        if claimed:
            return open_token(token, tenant, name, purpose, row.expires_at)[0]
        if not hmac.compare_digest(row.digest, digest):
            raise ChallengeError(
                ChallengeRefusal.MISMATCH, "the challenge was issued for another name or purpose"
            )
        if row.redeemed_at is not None:
            raise ChallengeError(ChallengeRefusal.USED, "the challenge was used before")
        raise ChallengeError(
            ChallengeRefusal.EXPIRED, f"the challenge expired at {row.expires_at:%H:%M:%S} UTC"
        )
