"""The Flite voices as material for a fit, and what voices sound like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.cloning.analysis import Frames, analyse
from ringtrue.voices.cloning.model import BaseVoice
from ringtrue.voices.cloning.movement import enlivened
from ringtrue.voices.cloning.phones import class_weights, voiceless
from ringtrue.voices.encoder import SpeakerEncoder, centroid
from ringtrue.voices.flite import Parameters, spoken_tokens
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

    @property
    def always_voiced(self) -> bool:
        """Whether even voiceless phones have a pitch, as with a voice built without F0 marks."""
        marks = [(voiceless(found.phones, len(found.f0)), found.f0 > 0) for found in self.phrases]
        both = sum(int((quiet & pitched).sum()) for quiet, pitched in marks)
        return both > _ALWAYS * sum(int(quiet.sum()) for quiet, _ in marks)

    @property
    def measured_classes(self) -> RealArray:
        """How much each frame of ``measured`` belongs to each phone class, (T, CLASSES)."""
        phrases = self.phrases[:MEASURED]
        weights = [class_weights(found.phones, len(found.f0)) for found in phrases]
        return np.concatenate(weights)[: len(self.measured)]

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
    """``voice`` speaking ``sentences``; about 2 s of CPU.

    ``neural`` and ``liveliness`` as of the :class:`~.model.CloneModel` that is to be fitted.
    """
    phrases = tuple(voice.analyse(spoken_tokens(text)) for text in sentences)
    measured, given = measure(phrases[:MEASURED], neural=neural, liveliness=liveliness)
    return BaseMaterial(voice, phrases, measured, given)


def measure(
    phrases: Sequence[Parameters], *, neural: bool = False, liveliness: float = 0.0
) -> tuple[Frames, Frames]:
    """What analysis finds in rendered ``phrases``, and what was rendered: frame for frame."""
    f0, strengths = (
        np.concatenate([getattr(found, name) for found in phrases]).astype(np.float64)
        for name in ("f0", "strengths")
    )
    mcep = np.concatenate([scaled(enlivened(found.mcep, liveliness)) for found in phrases])
    vocoder = vocoder_for(0.0, neural=neural)
    stream = vocoder.stream()
    samples = np.concatenate([stream.render(f0, mcep, strengths), stream.finish()])
    seen = analyse(samples[vocoder.delay - HOP :])
    # A frame's centre is heard one frame later than where analysis puts the centre of its own.
    later = slice(1, len(f0))
    measured = Frames(seen.f0[later], seen.mcep[later], seen.strengths[later])
    return measured, Frames(f0[:-1], mcep[:-1], strengths[:-1])


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
