"""What a consent register answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Reason(StrEnum):
    """Why a voice may speak (``covered``) or may not (everything else)."""

    COVERED = "covered"
    NO_CONSENT = "no_consent"
    TENANT = "tenant"
    """Given to another tenant."""

    AGENT = "agent"
    """Given for other agents."""

    PURPOSE = "purpose"
    """Given for other purposes."""

    NOT_YET = "not_yet"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    SUPERSEDED = "superseded"
    """Renewed, and the renewal doesn't cover it either."""

    SIGNATURE = "signature"
    """Altered, or signed by a key that isn't trusted."""

    VOICE_CHANGED = "voice_changed"
    """Given for another voiceprint than the one stored now."""

    VOICE_STATE = "voice_state"
    """The voice is not live: being enrolled, suspended, withdrawn or erased."""

    FROZEN = "frozen"
    """An incident stopped the voice."""

    LIKENESS = "likeness"
    """What was heard of the voice is not like its speaker."""

    UNAVAILABLE = "unavailable"
    """The register couldn't find out."""


@dataclass(frozen=True, slots=True)
class Decision:
    """May the voice speak? Only where ``allowed``; everything uncertain is a no."""

    reason: Reason
    serial: str | None = None
    """The consent that allowed it, or came closest."""

    until: datetime | None = None
    """When an allowed consent expires."""

    @property
    def allowed(self) -> bool:
        """True for ``covered`` and nothing else."""
        return self.reason is Reason.COVERED
