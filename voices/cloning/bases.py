"""The Flite voices as material for a fit, and what voices sound like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.cloning.analysis import Frames
from ringtrue.voices.cloning.model import BaseVoice
from ringtrue.voices.encoder import SpeakerEncoder, centroid
from ringtrue.voices.flite import Parameters, spoken_tokens
from ringtrue.voices.renderer import RenderedVoice, Renderer
from ringtrue.voices.vocoder import RATE

SLICE_FRAMES: Final = 200

IntArray = npt.NDArray[np.int16]
RealArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BaseMaterial:
    """One base voice speaking the learning script."""

    voice: BaseVoice
    phrases: tuple[Parameters, ...]

    @property
    def frames(self) -> Frames:
        """All phrases one after the other, silences included."""
        return Frames(
            np.concatenate([found.f0 for found in self.phrases]).astype(np.float64),
            np.concatenate([found.mcep for found in self.phrases]).astype(np.float64),
            np.concatenate([found.strengths for found in self.phrases]).astype(np.float64),
        )


def material(voice: BaseVoice, sentences: Sequence[str]) -> BaseMaterial:
    """``voice`` speaking ``sentences``; about 5 ms of CPU for each second."""
    return BaseMaterial(voice, tuple(voice.analyse(spoken_tokens(text)) for text in sentences))


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
