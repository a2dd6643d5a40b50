"""How like its speaker a cloned voice is, by the encoder voices are checked with at enrolment.

The same figure is taken when a voice is made and whenever it is audited, over the same sentences,
so that a drift between the two is the engine's and not the text's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.streaming.errors import SynthesisError
from ringtrue.voices.encoder import SpeakerEncoder, centroid, similarity
from ringtrue.voices.engine import PreparedVoice
from ringtrue.voices.rolling_likeness import sound_of
from ringtrue.voices.saying import said

RATE: Final = 16000

SENTENCES: Final = (
    "Hello, and thank you for calling us today.",
    "I can see your booking for Thursday afternoon, and everything is in order.",
    "Would you like me to send the details to your phone?",
    "That is no trouble at all, and I am glad I could help.",
)
"""What a voice is judged by; part of the figure's meaning, so never changed."""

MAX_SENTENCE: Final = 60.0
"""Seconds after which a sentence is taken to have no end."""

MAX_DROP: Final = 0.05
"""Cosine by which a voice may fall below its figure at enrolment before it has drifted."""


@dataclass(frozen=True, slots=True)
class Audit:
    """A voice re-scored."""

    likeness: float
    """Cosine to its speaker now."""

    enrolled: float
    """The same at enrolment."""

    max_drop: float = MAX_DROP

    @property
    def drifted(self) -> bool:
        """Whether it has fallen by more than :attr:`max_drop`."""
        return self.enrolled - self.likeness > self.max_drop


@dataclass(frozen=True, slots=True)
class Heard:
    """What listening to a voice gave."""

    likeness: float
    """Cosine to its speaker."""

    sound: bytes = field(repr=False)
    """What :func:`~ringtrue.voices.rolling_likeness.sound_of` gives."""


async def spoken(
    voice: PreparedVoice, sentences: Sequence[str] = SENTENCES
) -> list[npt.NDArray[np.float32]]:
    """Each sentence said by ``voice``: mono at 16 kHz, full scale 1.0.

    Raises :class:`~ringtrue.streaming.errors.SynthesisError` where the engine fails, or says more
    than :data:`MAX_SENTENCE` for one of them.
    """
    found: list[npt.NDArray[np.float32]] = []
    for text in sentences:
        stream = voice.open(RATE)
        pcm = bytearray()
        async for chunk in said(stream, text, markup=voice.speaks_markup):
            pcm += chunk.pcm
            if len(pcm) > 2 * RATE * MAX_SENTENCE:
                raise SynthesisError(f"a sentence of {len(text)} letters took {MAX_SENTENCE:g} s")
        found.append(np.asarray(np.frombuffer(pcm, "<i2") / 32768, np.float32))
    return found


async def heard(
    voice: PreparedVoice, speaker: npt.NDArray[np.float32], encoder: SpeakerEncoder
) -> Heard:
    """How like ``speaker``, shape (256,), a voice is, and how it sounds.

    Speaks :data:`SENTENCES` anew, some 12 s of speech; the encoder runs in a thread. Raises
    :class:`~ringtrue.streaming.errors.SynthesisError` where the engine fails and
    :class:`~ringtrue.voices.encoder.EncoderError` where what it says is no speech.
    """
    recordings = await spoken(voice)

    def listened() -> Heard:
        own = centroid([encoder.embed(samples, RATE) for samples in recordings])
        return Heard(similarity(own, speaker), sound_of(recordings, encoder))

    return await asyncio.to_thread(listened)


async def likeness(
    voice: PreparedVoice, speaker: npt.NDArray[np.float32], encoder: SpeakerEncoder
) -> float:
    """Cosine of ``voice``'s own embedding to ``speaker``'s, shape (256,); as :func:`heard`."""
    return (await heard(voice, speaker, encoder)).likeness


async def audit(
    voice: PreparedVoice,
    speaker: npt.NDArray[np.float32],
    enrolled: float,
    encoder: SpeakerEncoder,
) -> Audit:
    """Re-score a live voice against the figure :func:`likeness` gave when it was enrolled.

    Raises what :func:`likeness` does.
    """
    return Audit(await likeness(voice, speaker, encoder), enrolled)
