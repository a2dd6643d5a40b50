"""Whom a key of the HTTP interface speaks as."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "v0003"
down_revision = "v0002"


def upgrade(op: Operations) -> None:
    """Add the column; keys that are there speak as ``api``."""
    agent = sa.Column("agent", sa.String(1024), nullable=False, server_default="api")
    op.add_column("api_keys", agent)
