"""Who is speaking, judged by cepstra: a measure no voice is fitted to.

Voices are fitted with the GE2E encoder's help, so its word alone is not enough. Here a universal
background model, a mixture of Gaussians over many speakers' normalised cepstra, is adapted to each
candidate by MAP (Reynolds, Quatieri & Dunn, "Speaker Verification Using Adapted Gaussian Mixture
Models", Digital Signal Processing 10, 2000), and speech is scored by the log likelihood ratio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.cloning.statistics import Mixture, fit_mixture

RATE: Final = 16000
HOP: Final = 160
WINDOW: Final = 400
FFT: Final = 512
FILTERS: Final = 40
EDGES: Final = (60.0, 7600.0)
"""Hz; the band looked at."""

CEPSTRA: Final = 19
DELTAS: Final = 12
GAUSSIANS: Final = 128
RELEVANCE: Final = 10.0
"""Frames by which a Gaussian is moved half way to a speaker (tau)."""

MAX_ROWS: Final = 60_000
"""Frames the background model is fitted to, drawn from all."""

_SPEECH_NEPERS: Final = 5.5
"""Frames this far below the loud ones, in mean log filter energy, are no speech."""

_RMS: Final = 0.05
"""Level recordings are brought to, so that the floor under the logarithm means the same in all."""

Samples = npt.NDArray[np.floating]
RealArray = npt.NDArray[np.float64]


class CepstralJudge:
    """Scores speech against speakers. Deterministic."""

    def __init__(
        self,
        background: Sequence[Samples],
        candidates: Mapping[str, Sequence[Samples]],
        gaussians: int = GAUSSIANS,
    ) -> None:
        """Learn from recordings at 16 kHz: ``background``'s speakers are nobody's candidates.

        Takes some 20 s for ten minutes of background. Raises ``ValueError`` without either.
        """
        if not background or not candidates:
            raise ValueError(
                f"need background recordings and candidates, got {len(background)} and "
                f"{len(candidates)}"
            )
        rng = np.random.default_rng(0)
        rows = np.concatenate([features(recording) for recording in background])
        rows = rows[np.sort(rng.permutation(len(rows))[:MAX_ROWS])]
        self._world = fit_mixture(rows, gaussians, rng, rounds=15)
        self._speakers = {
            name: self._adapted(np.concatenate([features(one) for one in recordings]))
            for name, recordings in candidates.items()
        }

    @property
    def candidates(self) -> tuple[str, ...]:
        """Whom :meth:`ratios` scores against."""
        return tuple(self._speakers)

    def _adapted(self, rows: RealArray) -> Mixture:
        share = self._world.posteriors(rows)
        mass = share.sum(axis=0)[:, None]
        means = (share.T @ rows + RELEVANCE * self._world.means) / (mass + RELEVANCE)
        return Mixture(self._world.weights, means, self._world.variances)

    def ratios(self, recording: Samples) -> dict[str, float]:
        """Mean log likelihood ratio per frame of each candidate to the world; higher is closer."""
        rows = features(recording)
        world = _total(self._world, rows)
        return {
            name: float((_total(speaker, rows) - world).mean())
            for name, speaker in self._speakers.items()
        }


def _total(mixture: Mixture, rows: RealArray) -> RealArray:
    log = mixture.log_densities(rows)
    peak = log.max(axis=1, keepdims=True)
    return np.asarray(peak[:, 0] + np.log(np.exp(log - peak).sum(axis=1)))


def features(recording: Samples) -> RealArray:
    """Cepstra 1 to 19 and deltas of the first 12 of speech frames, mean 0 and variance 1: (T, 31).

    ``recording`` is mono at 16 kHz, at least 50 ms. Normalising each recording by itself takes
    out the channel and the level.
    """
    samples = np.asarray(recording, np.float64)
    if len(samples) < RATE // 20:
        raise ValueError(f"a recording needs 50 ms, got {1000 * len(samples) / RATE:.0f} ms")
    samples = samples * (_RMS / max(1e-9, float(np.sqrt(np.mean(samples**2)))))
    emphasised = np.append(samples[0], samples[1:] - 0.97 * samples[:-1])
    padded = np.pad(emphasised, WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hamming(WINDOW)
    power = np.abs(np.fft.rfft(frames, FFT, axis=1)) ** 2
    log = np.log(power @ _filters().T + 1e-8)
    cepstra = log @ _cosines().T
    energy = log.mean(axis=1)
    spoken = energy > np.percentile(energy, 95) - _SPEECH_NEPERS
    slopes = np.zeros_like(cepstra)
    if len(cepstra) > 4:
        slopes[2:-2] = (2 * (cepstra[4:] - cepstra[:-4]) + cepstra[3:-1] - cepstra[1:-3]) / 10
    rows = np.concatenate([cepstra[:, :CEPSTRA], slopes[:, :DELTAS]], axis=1)[spoken]
    return np.asarray((rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-6))


@cache
def _filters() -> RealArray:
    """Triangles on the mel scale (2595 log10(1 + f/700)): (FILTERS, FFT/2 + 1)."""
    low, high = (2595 * np.log10(1 + edge / 700) for edge in EDGES)
    corners = 700 * (10 ** (np.linspace(low, high, FILTERS + 2) / 2595) - 1)
    hertz = np.fft.rfftfreq(FFT, 1 / RATE)
    rise = (hertz - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    fall = (corners[2:, None] - hertz) / (corners[2:] - corners[1:-1])[:, None]
    return np.asarray(np.maximum(0.0, np.minimum(rise, fall)))


@cache
def _cosines() -> RealArray:
    """The discrete cosine transform (type II) to cepstra 1 .. CEPSTRA: (CEPSTRA, FILTERS)."""
    orders = np.arange(1, CEPSTRA + 1)[:, None]
    centres = np.pi * (np.arange(FILTERS) + 0.5) / FILTERS
    return np.asarray(np.sqrt(2 / FILTERS) * np.cos(orders * centres))
