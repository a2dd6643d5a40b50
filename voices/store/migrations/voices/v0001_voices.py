"""Profiles, blobs, consents, withdrawals, challenges."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "v0001"
down_revision = None


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "voices",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(256), nullable=False),
        sa.Column("name", sa.String(320)),
        sa.Column("name_key", sa.String(320)),
        sa.Column("language", sa.String(35)),
        sa.Column("engine", sa.String(64)),
        sa.Column("lifecycle", sa.String(16), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_voices"),
        sa.UniqueConstraint("tenant", "name_key", name="uq_voices_tenant_name_key"),
    )
    op.create_table(
        "voice_blobs",
        sa.Column("voice_id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("nonce", sa.LargeBinary, nullable=False),
        sa.Column("ciphertext", sa.LargeBinary, nullable=False),
        sa.Column("written_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("voice_id", "kind", name="pk_voice_blobs"),
        sa.ForeignKeyConstraint(["voice_id"], ["voices.id"], name="fk_voice_blobs_voice_id"),
    )
    for table in ("consents", "withdrawals"):
        op.create_table(
            table,
            sa.Column("serial", sa.String(32), nullable=False),
            sa.Column("voice_id", sa.String(64), nullable=False),
            sa.Column("sha256", sa.String(64), nullable=False),
            sa.Column("nonce", sa.LargeBinary),
            sa.Column("ciphertext", sa.LargeBinary),
            sa.Column("stored_at", sa.BigInteger, nullable=False),
            sa.PrimaryKeyConstraint("serial", name=f"pk_{table}"),
            sa.ForeignKeyConstraint(["voice_id"], ["voices.id"], name=f"fk_{table}_voice_id"),
        )
        op.create_index(f"ix_{table}_voice_id", table, ["voice_id"])
    op.create_table(
        "challenges",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(256), nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("issued_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("redeemed_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_challenges"),
    )
    op.create_index("ix_challenges_tenant", "challenges", ["tenant"])
    op.create_index("ix_challenges_expires_at", "challenges", ["expires_at"])
