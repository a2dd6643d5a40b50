"""Sentences of several languages, written compactly."""

from __future__ import annotations


def sentences(table: dict[str, str]) -> list[tuple[str, str]]:
    """(language, sentence) of each: they stand on lines of their own or between ``|``."""
    lines = ((code, line) for code, text in table.items() for line in text.strip().split("\n"))
    return [(code, one.strip()) for code, line in lines for one in line.split("|")]
