"""Incidents: voices that are frozen, and that were."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "v0004"
down_revision = "v0003"


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "incidents",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(256), nullable=False),
        sa.Column("voice_id", sa.String(64), nullable=False),
        sa.Column("was", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(512), nullable=False),
        sa.Column("opened_by", sa.String(256), nullable=False),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("lifted_by", sa.String(256)),
        sa.Column("lifted_at", sa.BigInteger),
        sa.Column("lifted_for", sa.String(512)),
        sa.PrimaryKeyConstraint("id", name="pk_incidents"),
        sa.ForeignKeyConstraint(["voice_id"], ["voices.id"], name="fk_incidents_voice_id"),
    )
    op.create_index("ix_incidents_voice_id", "incidents", ["voice_id"])
    op.create_index("ix_incidents_tenant", "incidents", ["tenant"])
