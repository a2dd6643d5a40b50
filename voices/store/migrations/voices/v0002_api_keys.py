"""Keys of the HTTP interface, as hashes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "v0002"
down_revision = "v0001"


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("tenant", sa.String(256), nullable=False),
        sa.Column("label", sa.String(320), nullable=False),
        sa.Column("scopes", sa.String(256), nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )
    op.create_index("ix_api_keys_tenant", "api_keys", ["tenant"])
