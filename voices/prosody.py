"""Speaking rate, pitch and volume on a voice's parameters, word by word.

Works on whole phrases before the vocoder, so slicing can't change the result: durations are scaled
by resampling the frames in time, pitch by the F0 of voiced frames, volume by the cepstrum's c0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.streaming.ssml import PLAIN, Style
from ringtrue.voices.flite import Parameters

F0_RANGE: Final = (40.0, 700.0)
"""Hz; what the vocoder is made for. Shifted pitch stays inside."""

_NEPERS_PER_DECIBEL: Final = float(np.log(10.0) / 20.0)

FloatArray = npt.NDArray[np.float32]
RealArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.intp]


def styled(found: Parameters, styles: Sequence[Style]) -> Parameters:
    """``found`` with its tokens spoken in ``styles``, one each; new arrays, same layout.

    A token's style holds from the end of the token before it (for the first one: from the
    beginning) to its own end, for the last one to the end of the frames. A token spoken at rate
    r takes 1/r of its frames, rounded to whole ones over the phrase. Raises ``ValueError`` if
    the lengths disagree.
    """
    if len(styles) != len(found.token_ends):
        raise ValueError(f"{len(found.token_ends)} tokens need as many styles, got {len(styles)}")
    if all(style == PLAIN for style in styles):
        return found
    owner = _owners(found.token_ends, len(found.f0))
    rates = np.array([style.rate for style in styles])[owner]
    clock = np.concatenate([[0.0], np.cumsum(1.0 / rates)])
    frames = max(1, round(float(clock[-1])))
    clock *= frames / clock[-1]
    centres = np.interp(np.arange(frames) + 0.5, clock, np.arange(len(clock))) - 0.5
    nearest = np.clip(np.rint(centres), 0, len(owner) - 1).astype(np.intp)
    pitch = np.array([2.0 ** (style.pitch / 12.0) for style in styles])[owner][nearest]
    volume = np.array([style.volume * _NEPERS_PER_DECIBEL for style in styles])[owner][nearest]
    low, high = _neighbours(centres, len(owner))
    weight = np.clip(centres - low, 0.0, 1.0)
    mcep = _between(found.mcep, low, high, weight)
    mcep[:, 0] += volume.astype(np.float32)
    f0 = _pitched(found.f0, low, high, weight, nearest)
    f0 = np.where(f0 > 0, np.clip(f0 * pitch, *F0_RANGE), 0.0)

    def moved(frame: int) -> int:
        return round(float(clock[min(max(frame, 0), len(owner))]))

    return Parameters(
        f0=f0.astype(np.float32),
        mcep=mcep,
        strengths=_between(found.strengths, low, high, weight),
        phones=tuple((name, moved(end)) for name, end in found.phones),
        token_ends=tuple(moved(end) for end in found.token_ends),
    )


def _owners(ends: Sequence[int], frames: int) -> IndexArray:
    """For each frame the token it belongs to."""
    owner = np.searchsorted(np.asarray(ends), np.arange(frames), side="right")
    return np.minimum(owner, len(ends) - 1)


def _neighbours(centres: RealArray, frames: int) -> tuple[IndexArray, IndexArray]:
    low = np.clip(np.floor(centres), 0, frames - 1).astype(np.intp)
    return low, np.minimum(low + 1, frames - 1)


def _between(rows: FloatArray, low: IndexArray, high: IndexArray, weight: RealArray) -> FloatArray:
    part = weight[:, None].astype(np.float32)
    return np.asarray(rows[low] * (1 - part) + rows[high] * part, np.float32)


def _pitched(
    f0: FloatArray, low: IndexArray, high: IndexArray, weight: RealArray, nearest: IndexArray
) -> RealArray:
    """F0 between frames; where only one of them is voiced, that of the nearest."""
    between = f0[low] * (1 - weight) + f0[high] * weight
    return np.where((f0[low] > 0) & (f0[high] > 0), between, f0[nearest].astype(np.float64))
