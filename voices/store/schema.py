"""Brings a database to the schema this version knows, by its Alembic revisions.

Revisions take their ``op`` as an argument instead of importing Alembic's process-wide one, so two
databases can be upgraded at once in one process. Processes that start together take turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, text

from ringtrue.voices.store.errors import SchemaTooNewError
from ringtrue.voices.store.tables import KEY_METADATA, VOICE_METADATA

log = structlog.get_logger(__name__)

_REVISIONS: Final = Path(__file__).parent / "migrations"
_UPGRADE_LOCK: Final = 0x52696E67  # any constant, the same in every process


@dataclass(frozen=True, slots=True)
class Schema:
    """One database's tables and the revisions that lead to them."""

    name: str
    metadata: MetaData

    @property
    def version_table(self) -> str:
        """Where the database notes its revision."""
        return f"ringtrue_{self.name}_schema"


VOICES: Final = Schema("voices", VOICE_METADATA)
KEYS: Final = Schema("keys", KEY_METADATA)


def upgrade(connection: Connection, schema: Schema) -> tuple[str, ...]:
    """Run the revisions that are missing, in the transaction that is open; returns their ids.

    Raises :class:`SchemaTooNewError` where the database is at a revision this version lacks;
    nothing is changed then.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _UPGRADE_LOCK})
    context = MigrationContext.configure(
        connection, opts={"version_table": schema.version_table, "transactional_ddl": True}
    )
    scripts = ScriptDirectory(str(_REVISIONS), version_locations=[str(_REVISIONS / schema.name)])
    known = [script.revision for script in scripts.walk_revisions()]
    current = context.get_current_revision()
    if current is not None and current not in known:
        raise SchemaTooNewError(
            f"the {schema.name} database is at schema {current!r}; this version knows "
            f"{', '.join(sorted(known))}: run the version that made it, or a newer one"
        )
    operations = Operations(context)
    missing = list(scripts.iterate_revisions("head", current or "base"))
    for script in reversed(missing):
        script.module.upgrade(operations)
    if missing:
        context.stamp(scripts, "head")
        log.info("schema_upgraded", database=schema.name, was=current, now=missing[0].revision)
    return tuple(script.revision for script in reversed(missing))
