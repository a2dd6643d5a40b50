"""Alembic revisions of both databases; :mod:`ringtrue.voices.store.schema` runs them."""
