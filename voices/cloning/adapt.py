"""A first model from statistics: what maps the base voice's sounds on average onto the speaker's.

The speaker's recording and the base voice say different things, so nothing is aligned in time. A
mixture of Gaussians of the base voice is moved onto the speaker's frames by an affine transform
(MLLR: Leggetter and Woodland, Computer Speech and Language 1995) and then component by component
(MAP: Gauvain and Lee, IEEE Trans. SAP 1994); a ridge regression between the two sets of means is
the transform. What it takes away of the variance is given back by voicing.
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
"""Frames of speech of a component that weigh as much as what the affine transform predicts."""

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


def adapted(base: BaseMaterial, target: Frames, rng: np.random.Generator) -> CloneModel:
    """A model fitted by statistics alone; under 2 s of CPU for 30 s of speech.

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
    affine = spectral_map(source.mcep, wanted, rng)
    matrices = np.empty((2, COEFFICIENTS, COEFFICIENTS))
    offsets = np.empty((2, CLASSES, COEFFICIENTS))
    for voiced in (False, True):
        ours = affine(source.mcep[source.voiced == voiced])
        theirs = wanted[target.voiced == voiced]
        gain = _variance_gain(ours, theirs)
        centre = ours.mean(axis=0)
        added = (source.mcep - given.mcep)[source.voiced == voiced].mean(axis=0)
        added[0] += _SCALE
        matrix = gain[:, None] * affine.matrix
        matrices[int(voiced)] = matrix
        offsets[int(voiced)] = gain * affine.offset + (1.0 - gain) * centre + matrix @ added - added
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


def spectral_map(source: RealArray, target: RealArray, rng: np.random.Generator) -> Affine:
    """Which affine transform makes frames (N, 25) of one voice sound like (M, 25) of another."""
    mixture = fit_mixture(source[::2], COMPONENTS, rng)
    moved, mass = moved_onto(mixture, target)
    return _ridge(mixture.means, moved.means, mass[:, None] / moved.variances, RIDGE, 1e-3)


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
