"""The Flite voices as material for a fit, and what voices sound like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.cloning import heard
from ringtrue.voices.cloning.analysis import Frames, analyse, speech_mask
from ringtrue.voices.cloning.model import BaseVoice
from ringtrue.voices.cloning.movement import enlivened
from ringtrue.voices.cloning.phones import voiceless
from ringtrue.voices.cloning.script import LEARNING
from ringtrue.voices.encoder import SpeakerEncoder, centroid
from ringtrue.voices.flite import FliteVoice, Parameters, spoken_tokens
from ringtrue.voices.renderer import RenderedVoice, Renderer, scaled, vocoder_for
from ringtrue.voices.vocoder import HOP, RATE

SLICE_FRAMES: Final = 200

MEASURED: Final = 6
"""Phrases that are rendered and analysed; about 20 s of speech, 1.2 s of CPU."""

_ALWAYS: Final = 0.8
"""Share of voiceless phones that has a pitch; 0.3 where the voice knows better, or 1.0."""

IntArray = npt.NDArray[np.int16]
RealArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BaseMaterial:
    """One base voice speaking the learning script."""

    voice: BaseVoice
    phrases: tuple[Parameters, ...]

    measured: Frames
    """What analysis finds in the first of the phrases once they are rendered."""

    given: Frames
    """Their parameters, frame for frame those of ``measured``."""

    known_embedding: npt.NDArray[np.float32] | None = None
    """Of the voice itself saying those phrases, (256,), where :mod:`.heard` has it."""

    @property
    def always_voiced(self) -> bool:
        """Whether even voiceless phones have a pitch, as with a voice built without F0 marks."""
        marks = [(voiceless(found.phones, len(found.f0)), found.f0 > 0) for found in self.phrases]
        both = sum(int((quiet & pitched).sum()) for quiet, pitched in marks)
        return both > _ALWAYS * sum(int(quiet.sum()) for quiet, _ in marks)

    @property
    def added(self) -> RealArray:
        """What rendering and analysis add to the mel-cepstrum of each frame of speech, (N, 25)."""
        return (self.measured.mcep - self.given.mcep)[speech_mask(self.measured.mcep)]

    @property
    def frames(self) -> Frames:
        """All phrases one after the other, silences included."""
        return Frames(
            np.concatenate([found.f0 for found in self.phrases]).astype(np.float64),
            np.concatenate([found.mcep for found in self.phrases]).astype(np.float64),
            np.concatenate([found.strengths for found in self.phrases]).astype(np.float64),
        )


def material(
    voice: BaseVoice, sentences: Sequence[str], *, neural: bool = False, liveliness: float = 0.0
) -> BaseMaterial:
    """``voice`` speaking ``sentences``; 1 s of CPU, and 3 s where :mod:`.heard` doesn't know it.

    ``neural`` and ``liveliness`` as of the :class:`~.model.CloneModel` that is to be fitted.
    """
    phrases = tuple(voice.analyse(spoken_tokens(text)) for text in sentences)
    given = rendered(phrases[:MEASURED], liveliness)
    known = heard.kept(heard.digest(given, neural=neural))
    measured = measure(given, neural=neural) if known is None else known.frames
    kept = given.where(np.arange(len(given)) < len(measured))
    embedding = None if known is None else known.embedding
    return BaseMaterial(voice, phrases, measured, kept, embedding)


def measure(given: Frames, *, neural: bool = False) -> Frames:
    """What analysis finds where the vocoder renders ``given``: frame for frame, less the last."""
    vocoder = vocoder_for(0.0, neural=neural)
    stream = vocoder.stream()
    samples = stream.render(given.f0, given.mcep, given.strengths)
    seen = analyse(np.concatenate([samples, stream.finish()])[vocoder.delay - HOP :])
    # A frame's centre is heard one frame later than where analysis puts the centre of its own.
    at = np.arange(len(seen))
    return seen.where((at > 0) & (at < len(given)))


def rendered(phrases: Sequence[Parameters], liveliness: float) -> Frames:
    """What the vocoder is given for ``phrases``, one after the other."""
    f0, strengths = (
        np.concatenate([getattr(found, name) for found in phrases]).astype(np.float64)
        for name in ("f0", "strengths")
    )
    mcep = np.concatenate([scaled(enlivened(found.mcep, liveliness)) for found in phrases])
    return Frames(f0, mcep, strengths)


def spoken(voice: RenderedVoice, sentences: Sequence[str]) -> list[IntArray]:
    """Each sentence as a call would hear it, but at 16 kHz."""
    found: list[IntArray] = []
    for text in sentences:
        renderer = Renderer(voice, RATE)
        renderer.begin(text)
        chunks = []
        while not renderer.idle:
            chunks.append(renderer.next_slice(SLICE_FRAMES).pcm)
        chunks.append(renderer.finish().pcm)
        found.append(np.frombuffer(b"".join(chunks), "<i2"))
    return found


def voice_of(
    voice: RenderedVoice, sentences: Sequence[str], encoder: SpeakerEncoder
) -> npt.NDArray[np.float32]:
    """The embedding of ``voice`` speaking ``sentences``, shape (256,)."""
    return centroid([encoder.embed(samples, RATE) for samples in spoken(voice, sentences)])


def embedding_of(voice: FliteVoice, encoder: SpeakerEncoder) -> npt.NDArray[np.float32]:
    """The embedding of a base voice as it is, (256,): what :mod:`.heard` keeps of it."""
    return voice_of(RenderedVoice(voice), LEARNING[:MEASURED], encoder)
