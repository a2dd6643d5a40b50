"""A first model from statistics: what maps the base voice's sounds on average onto the speaker's.

The speaker's recording and the base voice say different things, so nothing is aligned in time. A
mixture of Gaussians of the base voice is moved onto the speaker's frames by an affine transform
(MLLR: Leggetter and Woodland, Computer Speech and Language 1995) and then component by component
(MAP: Gauvain and Lee, IEEE Trans. SAP 1994); a ridge regression between the two sets of means is
the transform. What one transform for all sounds leaves of the way to the means is added by phone
class. What the transform takes away of the variance is given back by voicing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.cloning.analysis import Frames, speech_mask
from ringtrue.voices.cloning.bases import BaseMaterial
from ringtrue.voices.cloning.model import CloneModel, PitchMap
from ringtrue.voices.cloning.phones import CLASSES
from ringtrue.voices.cloning.statistics import Mixture, fit_mixture
from ringtrue.voices.flite.frontend import BANDS, COEFFICIENTS

COMPONENTS: Final = 64
ROUNDS: Final = 12
PRIOR_FRAMES: Final = 20.0
"""Frames of speech that weigh as much as what the affine transform predicts, of a component or a
phone class."""

CLASS_GAIN: Final = 1.5
"""Of what is found to be left of a phone class, how many times as much is added to it: the means it
is found from were drawn to what one transform predicts, and half their speech is other classes'."""

RIDGE: Final = 10.0
MLLR_RIDGE: Final = 1.0

VARIANCE_GAINS: Final = (0.8, 1.3)
SPREADS: Final = (0.8, 2.2)
"""A base voice stretched further than this sings: its accents are not where the speaker's are."""

_NORMAL_QUARTILES: Final = 1.349
"""Distance of the quartiles of a normal distribution, in standard deviations."""

_SCALE: Final = float(np.log(1 / 32768))
"""Flite's parameters are for 16-bit samples, those of analysis for a full scale of 1."""

RealArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Affine:
    """Rows x of mel-cepstra to ``x @ matrix.T + offset``."""

    matrix: RealArray
    offset: RealArray

    def __call__(self, rows: RealArray) -> RealArray:
        """Of shape (N, 25), as ``rows``."""
        return np.asarray(rows @ self.matrix.T + self.offset)


@dataclass(frozen=True, slots=True)
class SpectralMap:
    """How the sounds of one voice become those of another."""

    affine: Affine
    """For all sounds."""

    mixture: Mixture
    """The first voice's."""

    left: RealArray
    """What ``affine`` leaves of the way from each Gaussian's mean to the other voice's (M, 25)."""

    def by_class(self, rows: RealArray, weights: RealArray) -> RealArray:
        """What is left on average of each phone class (CLASSES, 25), of little speech less.

        The level is left to the voice.
        ``rows`` (N, 25) are the first voice's and ``weights`` (N, CLASSES) their classes.
        """
        mass = weights.T @ self.mixture.posteriors(rows)
        found = mass @ self.left / (mass.sum(axis=1, keepdims=True) + PRIOR_FRAMES)
        found[:, 0] = 0.0
        return np.asarray(found)


def adapted(
    base: BaseMaterial,
    target: Frames,
    rng: np.random.Generator,
    class_gain: float = CLASS_GAIN,
) -> CloneModel:
    """A model fitted by statistics alone; under 2 s of CPU for 30 s of speech.

    ``class_gain`` times what one map leaves of a phone class is added to that class.

    Voicing strengths stay the base voice's: the speaker's, as analysis finds them, make it hoarser
    and no more like the speaker.

    The speaker is compared with what analysis finds in the rendered base voice, not with its
    parameters: what analysis adds to either (it fills in the band below F0, by 20 dB) cancels.
    """
    spoken = speech_mask(base.measured.mcep)
    source, given = base.measured.where(spoken), base.given.where(spoken)
    target = target.speech()
    level = source.mcep[:, 0].mean() - target.mcep[:, 0].mean()
    wanted = target.mcep.copy()
    wanted[:, 0] += level
    classes = base.measured_classes[spoken]
    sounds = spectral_map(source.mcep, wanted, rng)
    matrices = np.empty((2, COEFFICIENTS, COEFFICIENTS))
    offsets = np.empty((2, CLASSES, COEFFICIENTS))
    for voiced in (False, True):
        rows, weights = source.mcep[source.voiced == voiced], classes[source.voiced == voiced]
        left = class_gain * sounds.by_class(rows, weights)
        ours = sounds.affine(rows) + weights @ left
        theirs = wanted[target.voiced == voiced]
        gain = _variance_gain(ours, theirs)
        centre = ours.mean(axis=0)
        added = (source.mcep - given.mcep)[source.voiced == voiced].mean(axis=0)
        added[0] += _SCALE
        matrix = gain[:, None] * sounds.affine.matrix
        matrices[int(voiced)] = matrix
        common = gain * sounds.affine.offset + (1.0 - gain) * centre + matrix @ added - added
        offsets[int(voiced)] = common + gain * left
    return CloneModel(
        base=base.voice.name,
        pitch=pitch_map(base.frames.f0, target.f0),
        matrices=matrices,
        offsets=offsets,
        strengths=np.stack([np.ones(BANDS), np.zeros(BANDS)]),
        devoice=base.always_voiced,
    )


def eased(model: CloneModel, share: float) -> CloneModel:
    """``model`` with ``share`` of what it does to the spectrum; at 0 the base voice's stays."""
    eye = np.eye(COEFFICIENTS)
    return replace(
        model, matrices=eye + share * (model.matrices - eye), offsets=share * model.offsets
    )


def pitch_map(source: RealArray, target: RealArray) -> PitchMap:
    """Median to median, quartile distance to quartile distance; unvoiced frames don't count."""
    ours, theirs = (_log_quartiles(f0) for f0 in (source, target))
    spread = np.clip((theirs[2] - theirs[0]) / (ours[2] - ours[0]), *SPREADS)
    return PitchMap(float(ours[1]), float(theirs[1]), float(spread))


def _log_quartiles(f0: RealArray) -> RealArray:
    return np.asarray(np.percentile(np.log(f0[f0 > 0]), [25, 50, 75]))


def spectral_map(source: RealArray, target: RealArray, rng: np.random.Generator) -> SpectralMap:
    """What makes frames (N, 25) of one voice sound like (M, 25) of another."""
    mixture = fit_mixture(source[::2], COMPONENTS, rng)
    moved, mass = moved_onto(mixture, target)
    affine = _ridge(mixture.means, moved.means, mass[:, None] / moved.variances, RIDGE, 1e-3)
    return SpectralMap(affine, mixture, moved.means - affine(mixture.means))


def moved_onto(mixture: Mixture, target: RealArray) -> tuple[Mixture, RealArray]:
    """``mixture`` adapted to ``target``, and how many frames each component explains."""
    shift = target.mean(axis=0) - mixture.weights @ mixture.means
    moved = Mixture(mixture.weights, mixture.means + shift, mixture.variances)
    mass = np.zeros(len(mixture.weights))
    for step in range(ROUNDS):
        share = moved.posteriors(target)
        mass = share.sum(axis=0)
        floor = np.maximum(mass, 1e-6)[:, None]
        means = share.T @ target / floor
        affine = _ridge(
            mixture.means, means, mass[:, None] / moved.variances, MLLR_RIDGE, MLLR_RIDGE * 1e-3
        )
        predicted = affine(mixture.means)
        if step >= ROUNDS // 2:
            weight = mass[:, None]
            predicted = (weight * means + PRIOR_FRAMES * predicted) / (weight + PRIOR_FRAMES)
        spread = share.T @ target**2 / floor - means**2
        spread = (mass[:, None] * spread + 50 * mixture.variances) / (mass[:, None] + 50)
        moved = Mixture(
            0.5 * (mixture.weights + mass / mass.sum()),
            predicted,
            0.5 * (mixture.variances + np.maximum(spread, 1e-4)),
        )
    return moved, mass


def _ridge(
    inputs: RealArray, outputs: RealArray, weights: RealArray, ridge: float, offset_ridge: float
) -> Affine:
    """Weighted least squares drawn towards the identity, one output dimension at a time."""
    count, size = inputs.shape
    extended = np.concatenate([np.ones((count, 1)), inputs], axis=1)
    matrix = np.empty((size, size))
    offset = np.empty(size)
    for d in range(size):
        weight = weights[:, d]
        penalty = np.full(size + 1, ridge * weight.sum() / count)
        penalty[0] *= offset_ridge / ridge
        prior = np.zeros(size + 1)
        prior[d + 1] = 1.0
        normal = extended.T @ (weight[:, None] * extended) + np.diag(penalty)
        row = np.linalg.solve(normal, extended.T @ (weight * outputs[:, d]) + penalty * prior)
        offset[d], matrix[d] = row[0], row[1:]
    return Affine(matrix, offset)


def _variance_gain(ours: RealArray, theirs: RealArray) -> RealArray:
    """Per coefficient; the level's variance is left to the base voice."""
    if len(theirs) < 2 * COEFFICIENTS or len(ours) < 2 * COEFFICIENTS:
        return np.ones(COEFFICIENTS)
    gain = np.clip(theirs.std(axis=0) / (ours.std(axis=0) + 1e-6), *VARIANCE_GAINS)
    gain[0] = 1.0
    return np.asarray(gain)
