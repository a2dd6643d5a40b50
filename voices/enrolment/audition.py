"""A new voice is heard once, under its own consent, before anybody relies on it."""

from __future__ import annotations

import asyncio
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.encoder import SpeakerEncoder, similarity
from ringtrue.voices.encoder.embeddings import Embedding
from ringtrue.voices.encoder.errors import EncoderError
from ringtrue.voices.engine import SPEECH_RATE
from ringtrue.voices.errors import CloningError
from ringtrue.voices.lease import Lease

SENTENCES: Final = (
    "Good morning, and thank you for calling.",
    "We are open on weekdays from nine in the morning until five.",
    "What can I do for you today?",
)
SECONDS: Final = 60.0
"""How long the engine may take to say them."""

_MAX_BYTES: Final = 2 * SPEECH_RATE * 60


async def likeness(lease: Lease, speaker: Embedding) -> float:
    """Cosine between ``speaker`` (256,) and a few sentences spoken under ``lease``.

    Raises :class:`~ringtrue.voices.errors.CloningError` where the voice can't be heard,
    :class:`~ringtrue.streaming.errors.SynthesisError` where it can't speak.
    """
    stream = lease.open(SPEECH_RATE)
    for sentence in SENTENCES:
        stream.feed(sentence)
    stream.finish()
    pcm = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            async for chunk in stream.frames():
                pcm += chunk.pcm
                if len(pcm) > _MAX_BYTES:
                    raise CloningError("the new voice speaks without end")
    except TimeoutError:
        raise CloningError(f"the new voice took more than {SECONDS:g} s to speak") from None
    finally:
        stream.cut()
    return await asyncio.to_thread(_compared, np.frombuffer(bytes(pcm), "<i2"), speaker)


def _compared(heard: npt.NDArray[np.int16], speaker: Embedding) -> float:
    try:
        return similarity(SpeakerEncoder.load().embed(heard, SPEECH_RATE), speaker)
    except EncoderError as error:
        raise CloningError(f"the new voice can't be heard: {error}") from None
