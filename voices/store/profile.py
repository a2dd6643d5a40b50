"""Values the store takes and gives: voices, their states, blobs, tombstones."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from ringtrue.voices.consent.challenge import MAX_NAME, clean

MAX_BLOB: Final = 64 * 1024 * 1024
"""Largest blob in bytes."""

_VOICE_ID: Final = re.compile(r"v_[0-9a-f]{32}")
_KIND: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}")
_ENGINE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Lifecycle(StrEnum):
    """Where a voice stands."""

    ENROLLING = "enrolling"
    """Not complete yet; can't speak."""

    LIVE = "live"
    """May speak, as far as its consents allow."""

    SUSPENDED = "suspended"
    """Stopped by an operator; may be taken up again."""

    WITHDRAWN = "withdrawn"
    """Its consent was taken back. A new consent may make it live again."""

    FROZEN = "frozen"
    """Stopped by an incident, and nothing else may be done with it until that is lifted."""

    ERASED = "erased"
    """Only a tombstone is left. Reached by erasing, and final."""


NEXT: Final = {
    Lifecycle.ENROLLING: {Lifecycle.LIVE, Lifecycle.WITHDRAWN},
    Lifecycle.LIVE: {Lifecycle.SUSPENDED, Lifecycle.WITHDRAWN},
    Lifecycle.SUSPENDED: {Lifecycle.LIVE, Lifecycle.WITHDRAWN},
    Lifecycle.WITHDRAWN: {Lifecycle.LIVE},
    Lifecycle.FROZEN: frozenset[Lifecycle](),
    Lifecycle.ERASED: frozenset[Lifecycle](),
}
"""States that may follow each state; into ``frozen`` and out of it only an incident leads."""


class BlobKind(StrEnum):
    """Kinds of blob that every engine shares; an engine may add its own."""

    EMBEDDING = "embedding"
    ENGINE_STATE = "engine_state"
    ENROLMENT_AUDIO = "enrolment_audio"
    STATEMENT_AUDIO = "statement_audio"


@dataclass(frozen=True, slots=True)
class Voice:
    """One voice's profile."""

    id: str
    tenant: str
    name: str = field(repr=False)
    language: str
    """BCP 47, e.g. ``en-GB``."""

    engine: str
    lifecycle: Lifecycle
    version: int
    """Grows by one with every change of the profile or of a blob; part of every cache key."""

    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is left of an erased voice: nothing about the person."""

    id: str
    tenant: str
    created_at: datetime
    erased_at: datetime


@dataclass(frozen=True, slots=True)
class Blob:
    """One decrypted blob."""

    kind: str
    version: int
    """Grows by one each time the kind is written."""

    data: bytes = field(repr=False)


def is_voice_id(text: str) -> bool:
    """Whether ``text`` can be a voice's id at all; nothing else is given to a database."""
    return _VOICE_ID.fullmatch(text) is not None


def name_key(name: str) -> str:
    """What two names must share to be the same name: case and spacing don't count."""
    return clean("name", name, MAX_NAME).casefold()


def checked_kind(kind: str) -> str:
    """``kind`` if it can name a blob; :class:`ValueError` otherwise."""
    if not _KIND.fullmatch(kind):
        raise ValueError(f"blob kind {kind!r}: 1 to 64 of a-z 0-9 _ . -, beginning with a letter")
    return str(kind)


def checked_language(language: str) -> str:
    """``language`` if it looks like a BCP 47 tag; :class:`ValueError` otherwise."""
    if not _LANGUAGE.fullmatch(language):
        raise ValueError(f"language {language!r} is not a language tag such as en or en-GB")
    return language


def checked_engine(engine: str) -> str:
    """``engine`` if it can name an engine; :class:`ValueError` otherwise."""
    if not _ENGINE.fullmatch(engine):
        raise ValueError(f"engine {engine!r}: 1 to 64 of A-Z a-z 0-9 . _ -")
    return engine
