"""What entries are called in Redis: hashes, so that a listing tells nothing about anybody.

A voice's id holds 128 random bits, so a hash over it can't be guessed back; neither tenant nor
kind shows. The part in braces is Redis Cluster's hash tag: everything of one voice lies in one
slot, where a script can reach it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ringtrue.voices.keys.sealing import SealContext


@dataclass(frozen=True, slots=True)
class VoiceNames:
    """The names of one voice's things."""

    prefix: str
    """``rt:{…}``, before every name of the voice's."""

    @property
    def index(self) -> str:
        """The set of its entries' suffixes."""
        return f"{self.prefix}:index"

    @property
    def dropped(self) -> str:
        """There while entries must not be written, because the voice was just dropped."""
        return f"{self.prefix}:dropped"

    def entry(self, suffix: str) -> str:
        """One entry."""
        return f"{self.prefix}:{suffix}"


def names_of(tenant: str, voice: str) -> VoiceNames:
    """The names of a voice's things."""
    place = SealContext(tenant, voice, "names", 0)
    return VoiceNames(f"rt:{{{_digest(place)}}}")


def suffix_of(place: SealContext) -> str:
    """What tells the entry of one kind and version from the voice's others."""
    return _digest(place)


def _digest(place: SealContext) -> str:
    return hashlib.sha256(b"ringtrue/cache/1" + place.aad()).hexdigest()[:32]
