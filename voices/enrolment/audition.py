"""A new voice is heard once, under its own consent, before anybody relies on it.

What it says is measured in this process and leaves it not, so it passes no gate and bears no mark.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Final

from ringtrue.voices.encoder import SpeakerEncoder
from ringtrue.voices.encoder.embeddings import Embedding
from ringtrue.voices.encoder.errors import EncoderError
from ringtrue.voices.errors import CloningError
from ringtrue.voices.lease import Lease
from ringtrue.voices.quality.likeness import Heard, heard
from ringtrue.voices.store.errors import BlobNotFoundError
from ringtrue.voices.store.voices import VoiceStore

SECONDS: Final = 60.0
"""How long the engine may take to say it."""

LIKENESS: Final = "likeness"
"""Kind of the blob that keeps the figure: what an audit compares with."""

_FIGURE: Final = struct.Struct("<d")


async def audition(lease: Lease, speaker: Embedding) -> Heard:
    """How like ``speaker`` (256,) a new voice is, and how it sounds.

    Raises :class:`~ringtrue.voices.errors.CloningError` where the voice can't be heard,
    :class:`~ringtrue.streaming.errors.SynthesisError` where it can't speak.
    """
    encoder = await asyncio.to_thread(SpeakerEncoder.load)
    try:
        async with asyncio.timeout(SECONDS):
            return await heard(lease, speaker, encoder)
    except TimeoutError:
        raise CloningError(f"the new voice took more than {SECONDS:g} s to speak") from None
    except EncoderError as error:
        raise CloningError(f"the new voice can't be heard: {error}") from None


def kept(figure: float) -> bytes:
    """``figure`` as the blob :data:`LIKENESS`."""
    return _FIGURE.pack(figure)


async def enrolled_likeness(voices: VoiceStore, tenant: str, voice: str) -> float | None:
    """The figure kept when ``voice`` was enrolled; None where there is none.

    Raises :class:`~ringtrue.voices.store.errors.StoreError` and
    :class:`~ringtrue.voices.keys.errors.KeyManagementError`.
    """
    try:
        blob = await voices.get_blob(tenant, voice, LIKENESS)
    except BlobNotFoundError:
        return None
    figure: float = _FIGURE.unpack(blob.data)[0]
    return figure
