"""Revisions of the voice database."""
