"""Revisions of the key database."""
