"""The second fit: what else must change in the spectrum for the encoder to hear the speaker.

An offset for each phone class and one linear map, added to a model and fitted by gradient descent
through the speaker encoder. The clone so far is rendered once; while the envelope moves, its
spectrogram is multiplied by how much, as if the vocoder's filters had moved with it. Penalties
keep the change small: all of it a little, and more what differs from sound to sound. A classifier
of phones, :mod:`.clarity`, holds apart what words are told apart by, and :mod:`.divergence` draws
the sounds, taken together, to the speaker's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from ringtrue.voices.cloning.clarity import PhoneClassifier
from ringtrue.voices.cloning.divergence import Divergence
from ringtrue.voices.cloning.ge2e_gradient import DifferentiableEncoder
from ringtrue.voices.cloning.model import CloneModel
from ringtrue.voices.cloning.phones import CLASSES, PAUSE, class_weights, phone_numbers
from ringtrue.voices.cloning.warp import cosines
from ringtrue.voices.encoder.mel import HOP as MEL_HOP
from ringtrue.voices.encoder.mel import filterbank, power_spectrum
from ringtrue.voices.encoder.speaker import WINDOW
from ringtrue.voices.encoder.speech import LEVEL_DBFS
from ringtrue.voices.flite import Parameters
from ringtrue.voices.flite.frontend import COEFFICIENTS
from ringtrue.voices.renderer import scaled, vocoder_for
from ringtrue.voices.vocoder import HOP

BINS: Final = 201
_DECIBELS: Final = 20.0 / np.log(10.0)
_FRAMES_PER_MEL: Final = MEL_HOP // HOP
_FRAMES_WEIGHED: Final = 2500
"""Frames of speech by which penalties and clarity are taken."""

_REACH: Final = 2.5
"""Frames to either side of a spectrogram's column whose envelopes it sees."""

FloatArray = npt.NDArray[np.float32]
RealArray = npt.NDArray[np.float64]
Row = TypeVar("Row", np.float32, np.intp)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the fit is done."""

    steps: int = 44
    windows: int = 10
    """Windows of 1.6 s looked at in each step; 20 ms of CPU each. With eight, the encoder took
    one of 96 utterances for somebody else's."""

    rate: float = 0.03
    late_rate: float = 0.008
    """Step size of Adam (Kingma and Ba, ICLR 2015), and over the last 40 % of the steps."""

    overall: float = 0.001
    """Loss for each square decibel the spectrum moves by, mean over speech."""

    varying: float = 0.005
    """The same for what of it is not common to all frames."""

    clarity: float = 0.3
    """Weight of the cross entropy (nats) of the phones."""

    centroid: float = 0.5
    """Weight of the mean embedding's similarity beside that of single windows."""

    away: float = 0.5
    """Weight of the similarity to the base voice, whom the clone is not to be taken for."""

    divergence: float = 0.05
    """Weight of the divergence (nats) of the clone's sounds from the speaker's."""


@dataclass(frozen=True, slots=True)
class Aim:
    """Who the clone is to be taken for, and who not."""

    speaker: npt.NDArray[np.float32]
    """The speaker's embedding, shape (256,)."""

    mcep: RealArray
    """Frames of the speaker's speech as analysed, (M, 25)."""

    base: npt.NDArray[np.float32]
    """The base voice's embedding, shape (256,)."""

    added: RealArray
    """What rendering and analysis add to frames, (K, 25), as
    :attr:`~ringtrue.voices.cloning.bases.BaseMaterial.added`."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a refinement adds, in units of the spread of each coefficient over speech."""

    offsets: RealArray
    """(CLASSES, 25)."""

    matrix: RealArray
    """(25, 25): normalised mel-cepstrum in, change out."""

    mean: RealArray
    spread: RealArray
    """(25,) both: what normalises the mel-cepstrum of the model before the change."""

    def added_to(self, model: CloneModel, strength: float = 1.0) -> CloneModel:
        """``model`` with ``strength`` times this change."""
        turn = strength * self.matrix * self.spread[:, None] / self.spread
        constant = strength * self.offsets * self.spread - turn @ self.mean
        eye = np.eye(COEFFICIENTS) + turn
        return replace(
            model,
            matrices=eye @ model.matrices,
            offsets=model.offsets @ eye.T + constant,
        )


@dataclass(slots=True)
class _Batch:
    """Windows of rendered speech, ready to be changed."""

    power: FloatArray
    """Power of the speech before any change, (N, 160, 201)."""

    mcep: FloatArray
    """(N, 160, 25), at the spectrogram's rate."""

    classes: FloatArray
    """(N, 160, CLASSES)."""

    phones: npt.NDArray[np.intp]
    """(N, 160): numbers of :data:`~.phones.PHONES`."""


class Refinement:
    """One fit under way."""

    def __init__(
        self,
        model: CloneModel,
        phrases: Sequence[Parameters],
        aim: Aim,
        encoder: DifferentiableEncoder,
        classifier: PhoneClassifier,
        schedule: Schedule,
        rng: np.random.Generator,
    ) -> None:
        """Begin from ``model``, with phrases of its base voice."""
        self._encoder = encoder
        self._classifier = classifier
        self._schedule = schedule
        self._aim = aim
        self._rng = rng
        self._windows = _windows(model, phrases)
        speech = self._windows.mcep.reshape(-1, COEFFICIENTS)
        self._mean: FloatArray = speech.mean(axis=0)
        self._spread: FloatArray = speech.std(axis=0)
        stride = slice(None, None, max(1, len(speech) // _FRAMES_WEIGHED))
        self._speech = self._normalised(speech[stride])
        self._speech_classes = self._windows.classes.reshape(-1, CLASSES)[stride]
        self._speech_phones = self._windows.phones.reshape(-1)[stride]
        self._divergence = Divergence(
            aim.mcep, speech[stride].astype(np.float64), aim.added, rng.spawn(1)[0]
        )
        sharpened = np.ones(COEFFICIENTS)
        sharpened[2:] += model.postfilter
        self._cosines: FloatArray = (cosines(BINS) * sharpened).astype(np.float32)

    def run(self, on_step: Callable[[float], None]) -> Change:
        """Fit; ``on_step`` is told the share done."""
        plan = self._schedule
        parameters = np.zeros((CLASSES + COEFFICIENTS, COEFFICIENTS), np.float32)
        first, second = np.zeros_like(parameters), np.zeros_like(parameters)
        for step in range(1, plan.steps + 1):
            slope = self._slope(parameters)
            norm = float(np.linalg.norm(slope))
            slope /= max(1.0, norm)
            first = 0.9 * first + 0.1 * slope
            second = 0.999 * second + 0.001 * slope**2
            rate = plan.rate if step <= 0.6 * plan.steps else plan.late_rate
            moment = first / (1 - 0.9**step)
            parameters -= rate * moment / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
            on_step(step / plan.steps)
        return Change(
            offsets=parameters[:CLASSES].astype(np.float64),
            matrix=parameters[CLASSES:].T.astype(np.float64),
            mean=self._mean.astype(np.float64),
            spread=self._spread.astype(np.float64),
        )

    def _normalised(self, mcep: FloatArray) -> FloatArray:
        return np.asarray((mcep - self._mean) / self._spread)

    def _slope(self, parameters: FloatArray) -> FloatArray:
        """Derivative of the loss with respect to the parameters."""
        chosen = self._rng.choice(
            len(self._windows.mcep), min(self._schedule.windows, len(self._windows.mcep)), False
        )
        inputs = np.concatenate(
            [self._windows.classes[chosen], self._normalised(self._windows.mcep[chosen])], axis=2
        )
        change = (inputs @ parameters) * self._spread
        log = change @ self._cosines.T
        power = self._windows.power[chosen] * np.exp(np.clip(2 * log, -12, 12))
        heard = levelled(power)
        run = self._encoder.forward(np.swapaxes(heard @ filterbank(), 0, 1))
        back = self._encoder.backward(run, self._embedding_slope(run.embeddings))
        into_heard = np.swapaxes(back, 0, 1) @ filterbank().T
        into_log = 2 * heard * into_heard
        into_log -= heard * (into_log.sum(axis=(1, 2), keepdims=True) / _LEVEL)
        into_change = (into_log @ self._cosines) * self._spread
        slope = np.einsum("ntp,ntc->pc", inputs, into_change, optimize=True)
        return np.asarray(slope + self._penalty_slope(parameters), np.float32)

    def _embedding_slope(self, embeddings: FloatArray) -> FloatArray:
        """Of minus the mean similarity, of single windows and of their centroid, and of that to the
        base voice.
        """
        count = len(embeddings)
        mean = embeddings.mean(axis=0)
        length = float(np.linalg.norm(mean))
        direction = mean / length
        onto = float(direction @ self._aim.speaker)
        shared = (self._aim.speaker - onto * direction) * (self._schedule.centroid / length)
        wanted = self._aim.speaker + shared - self._schedule.away * self._aim.base
        return np.asarray(np.broadcast_to(-wanted / count, embeddings.shape), np.float32)

    def _penalty_slope(self, parameters: FloatArray) -> FloatArray:
        inputs = np.concatenate([self._speech_classes, self._speech], axis=1)
        change = inputs @ parameters * self._spread
        moved = change @ self._cosines.T * np.float32(_DECIBELS)
        varying = moved - moved.mean(axis=0)
        slope = 2 * (self._schedule.overall * moved + self._schedule.varying * varying)
        slope *= np.float32(_DECIBELS / moved.size)
        into_change = slope @ self._cosines
        made = self._speech * self._spread + self._mean + change
        if self._schedule.clarity:
            unclear = self._classifier.slope(made, self._speech_phones)
            into_change += np.float32(self._schedule.clarity) * unclear
        if self._schedule.divergence:
            unlike = self._divergence.slope(made.astype(np.float64))
            into_change += np.float32(self._schedule.divergence) * unlike.astype(np.float32)
        return np.asarray(inputs.T @ (into_change * self._spread))


_FULL_SCALE_POWER: Final = 400 * 150.0 / 2
"""A column's sum over 201 bins of the power of noise with an RMS of 1: half of Parseval's 400
times the window's energy (sum of squares of a Hann window of 400: 150)."""

_LEVEL: Final = np.float32(10 ** (LEVEL_DBFS / 10) * _FULL_SCALE_POWER * WINDOW)
"""Sum of a window's power at the level the encoder is given."""


def levelled(power: FloatArray) -> FloatArray:
    """Windows of power (N, 160, 201), each at the level the encoder is given."""
    return np.asarray(power * (_LEVEL / power.sum(axis=(1, 2), keepdims=True)))


def _windows(model: CloneModel, phrases: Sequence[Parameters]) -> _Batch:
    """The model's speech without its pauses, cut into windows of 1.6 s, half overlapping."""
    vocoder = vocoder_for(model.postfilter, neural=model.neural)
    power: list[FloatArray] = []
    mcep: list[FloatArray] = []
    classes: list[FloatArray] = []
    numbers: list[npt.NDArray[np.intp]] = []
    for phrase in phrases:
        made = model.transform(phrase)
        stream = vocoder.stream()
        samples = stream.render(made.f0, scaled(made.mcep), made.strengths)
        samples = np.concatenate([samples, stream.finish()])[vocoder.delay - HOP :]
        weights = class_weights(made.phones, len(made.f0))
        columns = power_spectrum(samples.astype(np.float32))
        count = min(len(columns), len(made.f0) // _FRAMES_PER_MEL)
        see = _seen(count, len(made.f0))
        said = phone_numbers(made.phones, len(made.f0))[: count * _FRAMES_PER_MEL : _FRAMES_PER_MEL]
        kept = said != PAUSE
        power.append(columns[:count][kept])
        mcep.append((see @ made.mcep)[kept].astype(np.float32))
        classes.append((see @ weights)[kept].astype(np.float32))
        numbers.append(said[kept])
    return _Batch(_cut(power), _cut(mcep), _cut(classes), _cut(numbers))


def _cut(parts: Sequence[npt.NDArray[Row]]) -> npt.NDArray[Row]:
    """Rows of phrases, one after the other, in windows that overlap by half."""
    joined = np.concatenate(parts)
    starts = range(0, len(joined) - WINDOW + 1, WINDOW // 2)
    return np.stack([joined[at : at + WINDOW] for at in starts])


def _seen(columns: int, frames: int) -> RealArray:
    """How much each column of the spectrogram sees of each frame, (columns, frames).

    A frame's centre is heard at the end of its 80 samples, a column's is at 160 samples times its
    number.
    """
    distance = _FRAMES_PER_MEL * np.arange(columns)[:, None] - (np.arange(frames)[None] + 1.0)
    weight = np.where(np.abs(distance) < _REACH, 0.5 + 0.5 * np.cos(np.pi * distance / _REACH), 0.0)
    return np.asarray(weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-9))
