"""Tables of the two databases.

The *voice database* holds profiles, ciphertexts, consents, challenges, incidents and the hashes of
API keys.
The *key database* holds the wrapped data keys and nothing else, so that a backup of the first,
restored after an erasure, opens nothing. They must not be the same database, nor share a backup.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAMES: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcInstant(TypeDecorator[datetime]):
    """A moment, as microseconds since 1970 in UTC: the same in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """To the database; a ``datetime`` without a time zone is a :class:`ValueError`."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


VOICE_METADATA: Final = MetaData(naming_convention=_NAMES)
KEY_METADATA: Final = MetaData(naming_convention=_NAMES)

voices: Final = Table(
    "voices",
    VOICE_METADATA,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(256), nullable=False),
    Column("name", String(320)),  # NULL once erased, like all that tells about a person
    Column("name_key", String(320)),
    Column("language", String(35)),
    Column("engine", String(64)),
    Column("lifecycle", String(16), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", UtcInstant, nullable=False),
    Column("changed_at", UtcInstant, nullable=False),
    UniqueConstraint("tenant", "name_key"),
)

voice_blobs: Final = Table(
    "voice_blobs",
    VOICE_METADATA,
    Column("voice_id", String(64), ForeignKey("voices.id"), primary_key=True),
    Column("kind", String(64), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("written_at", UtcInstant, nullable=False),
)


def _signed_records(name: str) -> Table:
    """One kind of signed record, each sealed under its voice's key."""
    return Table(
        name,
        VOICE_METADATA,
        Column("serial", String(32), primary_key=True),
        Column("voice_id", String(64), ForeignKey("voices.id"), nullable=False),
        Column("sha256", String(64), nullable=False),  # of the signed record; outlives its erasure
        Column("nonce", LargeBinary),
        Column("ciphertext", LargeBinary),
        Column("stored_at", UtcInstant, nullable=False),
        Index(None, "voice_id"),
    )


consents: Final = _signed_records("consents")
withdrawals: Final = _signed_records("withdrawals")

challenges: Final = Table(
    "challenges",
    VOICE_METADATA,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(256), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("issued_at", UtcInstant, nullable=False),
    Column("expires_at", UtcInstant, nullable=False),
    Column("redeemed_at", UtcInstant),
    Index(None, "tenant"),
    Index(None, "expires_at"),
)

api_keys: Final = Table(
    "api_keys",
    VOICE_METADATA,
    Column("id", String(16), primary_key=True),
    Column("tenant", String(256), nullable=False),
    Column("label", String(320), nullable=False),
    Column("scopes", String(256), nullable=False),  # sorted, separated by spaces
    Column("digest", LargeBinary, nullable=False),  # SHA-256 of the whole token
    Column("created_at", UtcInstant, nullable=False),
    Column("expires_at", UtcInstant),
    Column("revoked_at", UtcInstant),
    Column("agent", String(1024), nullable=False, server_default="api"),  # whom it speaks as
    Index(None, "tenant"),
)

incidents: Final = Table(
    "incidents",
    VOICE_METADATA,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(256), nullable=False),
    Column("voice_id", String(64), ForeignKey("voices.id"), nullable=False),
    Column("was", String(16), nullable=False),  # what the voice is again once it is lifted
    Column("reason", String(512), nullable=False),
    Column("opened_by", String(256), nullable=False),
    Column("opened_at", UtcInstant, nullable=False),
    Column("lifted_by", String(256)),
    Column("lifted_at", UtcInstant),
    Column("lifted_for", String(512)),
    Index(None, "voice_id"),
    Index(None, "tenant"),
)

data_keys: Final = Table(
    "data_keys",
    KEY_METADATA,
    Column("voice_id", String(64), primary_key=True),
    Column("tenant", String(256), nullable=False),
    Column("key_id", String(64)),
    Column("nonce", LargeBinary),
    Column("wrapped", LargeBinary),
    Column("created_at", UtcInstant, nullable=False),
    Column("destroyed_at", UtcInstant),
    Index(None, "key_id"),
)
