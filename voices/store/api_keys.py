"""API keys in the voice database: who may use the HTTP interface, for which tenant, to do what.

A key's token is shown once, when it is made; the database holds its SHA-256 (the token carries
256 random bits, so nothing slower is needed). What a key may see follows from its tenant alone.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import structlog
from sqlalchemy import Row, func, insert, select, update

from ringtrue.voices.consent.challenge import clean
from ringtrue.voices.consent.records import ANY_AGENT
from ringtrue.voices.store.database import Database
from ringtrue.voices.store.errors import ApiKeyError, ApiKeyNotFoundError, StoreError
from ringtrue.voices.store.tables import api_keys

log = structlog.get_logger(__name__)

MAX_KEYS: Final = 1000
"""Keys one tenant may have that are not revoked."""

MAX_LABEL: Final = 80
MAX_AGENT: Final = 256

API_AGENT: Final = "api"
"""Whom a key speaks as that was made for no agent."""

_TOKEN: Final = re.compile(r"rtk_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ApiScope(StrEnum):
    """What a key may do."""

    READ = "voices:read"
    """List and show voices, consents and enrolments."""

    WRITE = "voices:write"
    """Enrol, renew, withdraw, erase."""

    SPEAK = "voices:speak"
    """Synthesize, as far as a consent covers it."""

    DETECT = "watermark:detect"
    """Search recordings for this installation's watermark."""

    CALL = "calls:place"
    """Place calls, watch and end those placed."""

    WEBRTC = "webrtc:token"
    """Make tokens with which a browser calls an agent."""

    INCIDENT = "incidents"
    """Freeze voices, see what they said, and lift that."""

    ADMIN = "admin"
    """All of these."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key, without what opens it."""

    id: str
    tenant: str
    label: str
    """What it is for, in its owner's words."""

    scopes: frozenset[ApiScope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    agent: str = API_AGENT
    """The one agent that what it synthesizes is spoken by, as consents name agents."""

    def allows(self, scope: ApiScope) -> bool:
        """Whether the key has ``scope``; ``admin`` has every one."""
        return scope in self.scopes or ApiScope.ADMIN in self.scopes


@dataclass(frozen=True, slots=True)
class IssuedApiKey:
    """A new key with its token, which is kept nowhere."""

    key: ApiKey
    token: str = field(repr=False)


class ApiKeyStore:
    """Makes, checks, lists and revokes keys."""

    def __init__(self, database: Database) -> None:
        """``database`` has the schema ``VOICES``."""
        self._database = database

    async def create(
        self,
        tenant: str,
        *,
        label: str,
        scopes: Iterable[str],
        now: datetime,
        expires: datetime | None = None,
        agent: str = API_AGENT,
    ) -> IssuedApiKey:
        """A new key.

        Raises :class:`ValueError` on an unfit tenant, label, scope, expiry or agent and
        :class:`~ringtrue.voices.store.errors.StoreError` where the tenant has :data:`MAX_KEYS`.
        """
        if not _TENANT.fullmatch(tenant):
            raise ValueError(
                f"tenant {tenant[:80]!r}: 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter "
                "or digit"
            )
        granted = _scopes(scopes)
        if expires is not None and expires <= now:
            raise ValueError(f"expires {expires} is not after now")
        agent = clean("agent", agent, MAX_AGENT)
        if agent == ANY_AGENT:
            raise ValueError(f"agent {ANY_AGENT!r}: a key speaks as one agent; allowed: its name")
        label = clean("label", label, MAX_LABEL)
        key_id = secrets.token_hex(8)
        token = f"rtk_{key_id}_{secrets.token_urlsafe(32)}"
        key = ApiKey(key_id, tenant, label, granted, now, expires, None, agent)
        held = select(func.count()).where(
            api_keys.c.tenant == tenant, api_keys.c.revoked_at.is_(None)
        )
        row = insert(api_keys).values(
            id=key.id,
            tenant=tenant,
            label=key.label,
            scopes=" ".join(sorted(granted)),
            digest=_digest(token),
            created_at=now,
            expires_at=expires,
            agent=agent,
        )
        async with self._database.write() as connection:
            if (await connection.execute(held)).scalar_one() >= MAX_KEYS:
                raise StoreError(f"this tenant has {MAX_KEYS} keys; revoke one first")
            await connection.execute(row)
        log.info("api_key_created", key=key.id, tenant=tenant, scopes=" ".join(sorted(granted)))
        return IssuedApiKey(key, token)

    async def authenticate(self, token: str, now: datetime) -> ApiKey:
        """The key a token opens.

        Raises :class:`~ringtrue.voices.store.errors.ApiKeyError`, the same for a token that
        never was, one that expired and one that was revoked.
        """
        digest = _digest(token)
        match = _TOKEN.fullmatch(token)
        row = None
        if match is not None:
            query = select(api_keys).where(api_keys.c.id == match.group(1))
            async with self._database.read() as connection:
                row = (await connection.execute(query)).one_or_none()
        known = row.digest if row is not None else bytes(len(digest))
        if not hmac.compare_digest(known, digest) or row is None:
            raise ApiKeyError
        key = _key(row)
        if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
            raise ApiKeyError
        return key

    async def list(self, tenant: str | None = None) -> tuple[ApiKey, ...]:
        """All keys of ``tenant``, or of all tenants, oldest first, revoked ones too."""
        query = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
        if tenant is not None:
            query = query.where(api_keys.c.tenant == tenant)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return tuple(_key(row) for row in rows)

    async def revoke(self, key_id: str, now: datetime) -> ApiKey:
        """Make a key useless from the next request on; a revoked one stays as it was.

        Raises :class:`~ringtrue.voices.store.errors.ApiKeyNotFoundError`.
        """
        mine = api_keys.c.id == key_id
        revoked = update(api_keys).where(mine, api_keys.c.revoked_at.is_(None))
        async with self._database.write() as connection:
            await connection.execute(revoked.values(revoked_at=now))
            row = (await connection.execute(select(api_keys).where(mine))).one_or_none()
        if row is None:
            raise ApiKeyNotFoundError(key_id)
        log.info("api_key_revoked", key=key_id, tenant=row.tenant)
        return _key(row)


def _scopes(names: Iterable[str]) -> frozenset[ApiScope]:
    allowed = ", ".join(scope.value for scope in ApiScope)
    granted = set()
    for name in names:
        try:
            granted.add(ApiScope(name))
        except ValueError:
            raise ValueError(f"scope {name[:80]!r}; allowed: {allowed}") from None
    if not granted:
        raise ValueError(f"scopes is empty; allowed: {allowed}")
    return frozenset(granted)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        tenant=row.tenant,
        label=row.label,
        scopes=frozenset(ApiScope(name) for name in row.scopes.split()),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        agent=row.agent,
    )
