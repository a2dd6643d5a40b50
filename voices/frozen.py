"""Frozen voices: how the ledger names an incident, and who is not enrolled again."""

from __future__ import annotations

from typing import Final

import numpy as np

from ringtrue.voices.encoder.embeddings import similarity
from ringtrue.voices.ledger import Act, Deed
from ringtrue.voices.store.errors import BlobNotFoundError, VoiceFrozenError, VoiceNotFoundError
from ringtrue.voices.store.incidents import Incident
from ringtrue.voices.store.opening import Store
from ringtrue.voices.store.profile import BlobKind

SAME_SPEAKER: Final = 0.9
"""Cosine of two embeddings from which it is one speaker: 0.92 and more within, up to 0.86 across
speakers, over telephone bandwidth (:func:`~ringtrue.voices.encoder.embeddings.similarity`)."""


def incident_deed(act: Act, incident: Incident, reason: str, asked_by: str) -> Deed:
    """What was done about an incident, as the ledger keeps it."""
    return Deed(
        act,
        incident.tenant,
        incident.voice,
        asked_by=asked_by,
        reason=reason,
        detail={"incident": incident.id, "action": act.value},
    )


async def refuse_frozen_speaker(store: Store, tenant: str, embedding: bytes) -> None:
    """Raise :class:`VoiceFrozenError` where ``embedding`` (float32, 256) sounds like a voice of
    ``tenant`` that an incident froze."""
    for voice in await store.incidents.frozen(tenant):
        try:
            held = await store.voices.get_blob(tenant, voice, BlobKind.EMBEDDING)
        except (BlobNotFoundError, VoiceNotFoundError):
            continue
        if held.data == embedding or _alike(held.data, embedding):
            raise VoiceFrozenError(voice, "its speaker can't be enrolled again")


def _alike(one: bytes, other: bytes) -> bool:
    try:
        vectors = [np.frombuffer(data, np.float32) for data in (one, other)]
        return similarity(vectors[0], vectors[1]) >= SAME_SPEAKER
    except ValueError:  # of another engine's making: no embeddings that could be compared
        return False
