"""Wrapped data keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "k0001"
down_revision = None


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "data_keys",
        sa.Column("voice_id", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(256), nullable=False),
        sa.Column("key_id", sa.String(64)),
        sa.Column("nonce", sa.LargeBinary),
        sa.Column("wrapped", sa.LargeBinary),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("destroyed_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("voice_id", name="pk_data_keys"),
    )
    op.create_index("ix_data_keys_key_id", "data_keys", ["key_id"])
