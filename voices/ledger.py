"""Where the library tells what is done with voices: a port, so that any log may stand behind it.

What can't be kept must not happen: while a ledger is not writable, no voice begins to speak.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.gate import UtteranceDigest


class LedgerError(RingtrueError):
    """What is about to be done could not be recorded, so it isn't done."""


class Act(StrEnum):
    """What was done with a voice."""

    ENROLLED = "enrolled"
    ENROLMENT_REFUSED = "enrolment_refused"
    """A check failed; there is no voice."""

    LEASED = "leased"
    REFUSED = "refused"
    """No consent lets it speak."""

    CONSENTED = "consented"
    RENEWED = "renewed"
    WITHDRAWN = "withdrawn"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    FROZEN = "frozen"
    """By an incident."""

    UNFROZEN = "unfrozen"
    ERASED = "erased"
    EXPORTED = "exported"


@dataclass(frozen=True, slots=True)
class Deed:
    """One act."""

    act: Act
    tenant: str
    voice: str | None = None
    """Its id."""

    consent: str | None = None
    agent: str | None = None
    asked_by: str | None = None
    engine: str | None = None
    reason: str | None = None
    detail: dict[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Speech:
    """A text that was spoken outside of a call."""

    digest: UtteranceDigest
    """What went out of it."""

    rate: int
    """Hz."""

    tenant: str
    voice: str
    """A cloned voice's id, or a stock voice's name."""

    engine: str
    version: int | None = None
    """Of a cloned voice's state."""

    agent: str | None = None
    asked_by: str | None = None
    text: str | None = field(default=None, repr=False)


class Ledger(Protocol):
    """Keeps what was done."""

    @property
    def writable(self) -> bool:
        """Whether what is noted now is going to be kept."""
        ...

    def note(self, deed: Deed) -> None:
        """Keep ``deed``; never raises, never blocks."""
        ...

    def spoken(self, speech: Speech) -> None:
        """Keep what was spoken; never raises, never blocks."""
        ...


class NoLedger:
    """Keeps nothing."""

    writable = True

    def note(self, deed: Deed) -> None:
        """Forget ``deed``."""

    def spoken(self, speech: Speech) -> None:
        """Forget ``speech``."""
