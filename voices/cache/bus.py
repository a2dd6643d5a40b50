"""What is said on the bus about a voice, and how it looks in Redis's pub/sub.

A message holds a voice's random id, never a name or a tenant. It orders nothing and allows
nothing: it says that something is to be looked up again. A forged one costs a look-up.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ringtrue.voices.store.profile import is_voice_id

CHANNEL: Final = "rt:bus:1"
"""The pub/sub channel; its number changes with the form of the messages."""

MAX_MESSAGE: Final = 512
MAX_ORIGIN: Final = 64


class News(StrEnum):
    """What happened to a voice."""

    CHANGED = "changed"
    """Its consents, state or blobs: ask the register and the store again."""

    WITHDRAWN = "withdrawn"
    """Consent was taken back."""

    ERASED = "erased"
    """Nothing of it is left."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """Something that happened to a voice, already in the database when it is told."""

    voice: str
    news: News


def packed(revocation: Revocation, origin: str) -> bytes:
    """``revocation`` as a message of the process called ``origin``."""
    return json.dumps(
        {"voice": revocation.voice, "news": revocation.news.value, "from": origin}
    ).encode()


def unpacked(message: object) -> tuple[Revocation, str] | None:
    """What a message says and who sent it; None for anything that is no message of ours."""
    if not isinstance(message, bytes) or len(message) > MAX_MESSAGE:
        return None
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    voice, news, origin = (fields.get(name) for name in ("voice", "news", "from"))
    if not isinstance(voice, str) or not is_voice_id(voice):
        return None
    if not isinstance(origin, str) or len(origin) > MAX_ORIGIN or news not in tuple(News):
        return None
    return Revocation(voice, News(news)), origin
