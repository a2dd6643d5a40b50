"""Whose a mark is: the call, tenant and voice behind its session number, from the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ringtrue.agent.audit.opening import audit_dir
from ringtrue.agent.audit.searching import entries_of
from ringtrue.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Session:
    """What the log knows of one session."""

    mark: str
    """The mark's id: format, key and session."""

    tenant: str | None
    call: str | None
    agent: str | None
    voices: tuple[str, ...]
    """Every voice that spoke in it."""

    first: str
    """When its first entry was written, ISO 8601."""

    last: str


class Sessions(Protocol):
    """Knows sessions by their marks. Blocking."""

    def find(self, mark: str) -> Session | None:
        """The session of a mark's id; None where nothing is known of it."""
        ...


class AuditSessions:
    """Sessions as the audit log's entries tell of them; the log isn't verified on the way."""

    def __init__(self, directory: Path) -> None:
        """``directory`` holds the log; it may not be there."""
        self._directory = directory

    def find(self, mark: str) -> Session | None:
        """The session of a mark's id. Reads the whole log."""
        if not self._directory.is_dir():
            return None
        hint = b'"watermark":"' + mark.encode() + b'"'
        entries = list(
            entries_of(self._directory, lambda entry: entry.get("watermark") == mark, hint)
        )
        if not entries:
            return None
        entries.sort(key=lambda entry: str(entry["at"]))
        voices = dict.fromkeys(entry["voice"] for entry in entries if entry.get("voice"))
        return Session(
            mark=mark,
            tenant=_first(entries, "tenant"),
            call=_first(entries, "call"),
            agent=_first(entries, "agent"),
            voices=tuple(voices),
            first=str(entries[0]["at"]),
            last=str(entries[-1]["at"]),
        )


def sessions_of(settings: Settings) -> AuditSessions:
    """Those of the audit log that ``settings`` name."""
    return AuditSessions(audit_dir(settings))


def _first(entries: list[dict[str, Any]], name: str) -> str | None:
    return next((str(entry[name]) for entry in entries if entry.get(name)), None)
