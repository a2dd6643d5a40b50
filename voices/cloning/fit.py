"""Cloning: from a speaker's recording to a :class:`~.model.CloneModel`. Blocking, long work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog

from ringtrue.voices.cloning.adapt import adapted, eased
from ringtrue.voices.cloning.analysis import Frames, analyse
from ringtrue.voices.cloning.bases import BaseMaterial, embedding_of, material, voice_of
from ringtrue.voices.cloning.clarity import PhoneClassifier
from ringtrue.voices.cloning.ge2e_gradient import DifferentiableEncoder
from ringtrue.voices.cloning.guard import Listener, judged
from ringtrue.voices.cloning.hush import loud_level
from ringtrue.voices.cloning.model import CloneModel
from ringtrue.voices.cloning.refine import Aim, Refinement, Schedule
from ringtrue.voices.cloning.script import JUDGING, LEARNING
from ringtrue.voices.encoder import EncoderError, SpeakerEncoder, similarity
from ringtrue.voices.engine import SPEECH_RATE, OnProgress, Progress, Speech
from ringtrue.voices.errors import CloningError
from ringtrue.voices.flite import VOICES, Flite, FliteVoice
from ringtrue.voices.renderer import RenderedVoice

_log = structlog.get_logger(__name__)

MIN_SECONDS: Final = 5.0
MAX_SECONDS: Final = 40.0
"""Beyond this the rest is not used."""

LIVELINESS: Final = 0.5
"""Share by which new voices' cepstra move more than the base voice's. It raises DNSMOS's mark by
some 0.1, and the recognizer's understanding with it, where the formants sharpened by a postfilter
in its stead cost likeness; 0.8 gives no more."""

EASE: Final = 0.8
"""Share of the statistical map that is applied before the refinement, which finds the rest of the
likeness with less harm to naturalness."""

PITCH_SHARE: Final = 0.5
"""Share of the way, in log F0, that the base voice's pitch is moved to the speaker's. The encoder
hears no less of the speaker for what is left out (up to two semitones), and a voice whose
spectrum was learnt at another pitch sounds better the nearer it stays to that."""

SPREAD_SHARE: Final = 0.5
"""The same for the range of pitch."""

HUSH: Final = 2.0
"""Nepers by which new voices' quiet frames are lowered."""

PITCH_COST: Final = 0.1
"""Cosine that a base voice's pitch must be worth for each neper it is moved by: the further, the
more the clone loses of its likeness while it is refined, and of its naturalness."""

_SEED: Final = 20
_TRIED: Final = 4
"""Sentences by which adapted base voices are compared."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A base voice fitted by one map for all its sounds, and at the speaker's pitch."""

    base: BaseMaterial
    voice: FliteVoice
    model: CloneModel
    likeness: float

    @property
    def promise(self) -> float:
        """What may be expected of a clone made from it; higher is better."""
        return self.likeness - PITCH_COST * abs(self.model.pitch.target - self.model.pitch.source)

    def started(self) -> CloneModel:
        """What the refinement begins with: its pitch is not moved all the way."""
        return replace(self.model, pitch=self.model.pitch.eased(PITCH_SHARE, SPREAD_SHARE))

    def base_embedding(self, encoder: SpeakerEncoder) -> npt.NDArray[np.float32]:
        """Of the base voice as it is, (256,)."""
        known = self.base.known_embedding
        return embedding_of(self.voice, encoder) if known is None else known

    def hushed(self, model: CloneModel) -> CloneModel:
        """``model``, made from this one, lowering what is quiet."""
        plain = replace(model, hush=0.0)
        spoken = np.concatenate([plain.transform(found).mcep for found in self.base.phrases])
        return replace(model, hush=HUSH, loud=loud_level(spoken))


def clone(
    speech: Speech,
    *,
    library_dir: Path | None = None,
    search: Sequence[Path] = (),
    on_progress: OnProgress | None = None,
    schedule: Schedule | None = None,
) -> CloneModel:
    """Fit a model to ``speech``; deterministic, 25 to 30 s of CPU on one core.

    Flite is looked for in ``library_dir`` or ``search`` as by
    :class:`~ringtrue.voices.flite.Flite`. Raises
    :class:`~ringtrue.voices.errors.CloningError` where there is too little speech, and
    :class:`~ringtrue.voices.errors.EngineUnavailableError` without Flite.
    """
    report = _Report(on_progress)
    report.stage("listening to the recording", 0.0, 0.08)
    recording = _recording(speech)
    encoder = SpeakerEncoder.load()
    try:
        target = encoder.embed(recording, SPEECH_RATE)
    except EncoderError as error:
        raise CloningError(f"the speaker can't be told from this speech: {error}") from error
    frames = analyse(recording)

    report.stage("choosing the voice to start from", 0.08, 0.35)
    flite = Flite(library_dir, search)
    candidates = []
    for done, name in enumerate(VOICES, 1):
        candidates.append(_candidate(FliteVoice(flite, name), frames, target, encoder))
        report.within(done / len(VOICES))
    chosen = max(candidates, key=lambda candidate: candidate.promise)
    start = chosen.started()

    report.stage("fitting the voice", 0.35, 0.75)
    refinement = Refinement(
        start,
        chosen.base.phrases,
        Aim(
            target,
            frames.speech().mcep,
            chosen.base_embedding(encoder),
            chosen.base.added,
        ),
        DifferentiableEncoder(),
        PhoneClassifier([candidate.base.phrases for candidate in candidates]),
        schedule or Schedule(),
        np.random.default_rng(_SEED),
    )
    change = refinement.run(report.within)

    report.stage("listening to the clone", 0.75, 1.0)

    def refined(strength: float) -> CloneModel:
        return chosen.hushed(change.added_to(start, strength))

    def clone_of(strength: float) -> RenderedVoice:
        return refined(strength).rendered(chosen.voice)

    with closing(Listener()) as listener:
        verdict = judged(RenderedVoice(chosen.voice), clone_of, listener, report.within)
    _log.info(
        "voice_fitted",
        base=chosen.model.base,
        strength=verdict.strength,
        word_errors=round(verdict.error_rate, 3),
        base_word_errors=verdict.base_error_rate,
    )
    report.stage("done", 1.0, 1.0)
    return refined(verdict.strength)


def _candidate(
    voice: FliteVoice,
    frames: Frames,
    target: npt.NDArray[np.float32],
    encoder: SpeakerEncoder,
) -> _Candidate:
    base = material(voice, LEARNING, neural=True, liveliness=LIVELINESS)
    statistics = adapted(base, frames, np.random.default_rng(_SEED))
    model = replace(eased(statistics, EASE), neural=True, liveliness=LIVELINESS)
    likeness = similarity(target, voice_of(model.rendered(voice), JUDGING[:_TRIED], encoder))
    return _Candidate(base, voice, model, likeness)


def _recording(speech: Speech) -> npt.NDArray[np.float32]:
    parts = [speech.samples] if speech.statement is None else [speech.samples, speech.statement]
    samples = np.concatenate(parts)[: int(MAX_SECONDS * SPEECH_RATE)]
    if len(samples) < MIN_SECONDS * SPEECH_RATE:
        raise CloningError(
            f"{len(samples) / SPEECH_RATE:.1f} s of recording; at least {MIN_SECONDS:g} s is needed"
        )
    return samples


class _Report:
    """Progress through stages, each a share of the whole."""

    def __init__(self, on_progress: Callable[[Progress], None] | None) -> None:
        self._on_progress = on_progress
        self._doing = ""
        self._from = 0.0
        self._to = 0.0

    def stage(self, doing: str, start: float, end: float) -> None:
        self._doing, self._from, self._to = doing, start, end
        self.within(0.0)

    def within(self, share: float) -> None:
        if self._on_progress is not None:
            done = self._from + share * (self._to - self._from)
            self._on_progress(Progress(min(1.0, done), self._doing))
