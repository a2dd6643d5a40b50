"""Cloning: from a speaker's recording to a :class:`~.model.CloneModel`. Blocking, long work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.cloning.adapt import adapted
from ringtrue.voices.cloning.analysis import analyse
from ringtrue.voices.cloning.bases import material, voice_of
from ringtrue.voices.cloning.model import CloneModel
from ringtrue.voices.cloning.script import JUDGING, LEARNING
from ringtrue.voices.encoder import EncoderError, SpeakerEncoder, similarity
from ringtrue.voices.engine import SPEECH_RATE, OnProgress, Progress, Speech
from ringtrue.voices.errors import CloningError
from ringtrue.voices.flite import VOICES, Flite, FliteVoice
from ringtrue.voices.renderer import RenderedVoice

MIN_SECONDS: Final = 5.0
MAX_SECONDS: Final = 60.0
"""Beyond this the rest is not used."""

_SEED: Final = 20


def clone(
    speech: Speech,
    *,
    library_dir: Path | None = None,
    search: Sequence[Path] = (),
    on_progress: OnProgress | None = None,
) -> CloneModel:
    """Fit a model to ``speech``; deterministic, at most 30 s of CPU on one core.

    Flite is looked for in ``library_dir`` or ``search`` as by
    :class:`~ringtrue.voices.flite.Flite`. Raises
    :class:`~ringtrue.voices.errors.CloningError` where there is too little speech, and
    :class:`~ringtrue.voices.errors.EngineUnavailableError` without Flite.
    """
    report = on_progress or _nobody
    report(Progress(0.0, "listening to the recording"))
    recording = _recording(speech)
    encoder = SpeakerEncoder.load()
    try:
        target = encoder.embed(recording, SPEECH_RATE)
    except EncoderError as error:
        raise CloningError(f"the speaker can't be told from this speech: {error}") from error
    frames = analyse(recording)
    report(Progress(0.1, "choosing the voice to start from"))
    flite = Flite(library_dir, search)
    voices = [FliteVoice(flite, name) for name in VOICES]
    likeness = [
        similarity(target, voice_of(RenderedVoice(voice), JUDGING[:3], encoder)) for voice in voices
    ]
    base = voices[int(np.argmax(likeness))]
    report(Progress(0.2, "fitting the voice"))
    model = adapted(material(base, LEARNING), frames, np.random.default_rng(_SEED))
    report(Progress(1.0, "done"))
    return model


def _recording(speech: Speech) -> npt.NDArray[np.float32]:
    parts = [speech.samples] if speech.statement is None else [speech.samples, speech.statement]
    samples = np.concatenate(parts)[: int(MAX_SECONDS * SPEECH_RATE)]
    if len(samples) < MIN_SECONDS * SPEECH_RATE:
        raise CloningError(
            f"{len(samples) / SPEECH_RATE:.1f} s of recording; at least {MIN_SECONDS:g} s is needed"
        )
    return samples


def _nobody(progress: Progress) -> None:
    """Progress is for nobody."""
