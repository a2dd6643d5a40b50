"""What the network is told: the bands' energies as it would measure them in the sound wanted.

The network was trained on features of recordings: cepstra of 18 bands' energies in windows of
20 ms, the pitch, and how periodic the sound is (libopus 1.5, ``dnn/lpcnet_enc.c``, ``dnn/freq.c``).
Here they are computed from parameters without making that sound. A voiced frame's harmonics are
put where they lie and seen through the window, since the lowest bands are narrower than a high
voice's harmonics are apart; noise fills the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.fargan.network import FEATURES
from ringtrue.voices.jit import compiled

RATE: Final = 16000
BANDS: Final = 18
HALVES: Final = 2
"""Frames of 5 ms, as parameters come, in a frame of the network's."""

_SHORTEST: Final = 32
_LONGEST: Final = 228
"""Samples of the pitch periods the network is at home with: 70 to 500 Hz. At 63 Hz and below, where
it can hardly have been trained, it shrieks."""

_WINDOW: Final = 320
_BINS: Final = _WINDOW // 2 + 1
_SPACING: Final = RATE / _WINDOW
_EDGES: Final = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 34, 40]) * 4
"""Bins of the bands' centres; each band falls linearly to zero at its neighbours'."""

_EMPHASIS: Final = 0.85
_STEP: Final = 6.25
"""Hz between the frequencies at which a harmonic's way into the bands is tabled."""

_FLOOR: Final = 0.01
_RANGE: Final = 8.0
_SLOPE: Final = 2.5
"""Decades by which a band may lie below the loudest, and below the one before it."""

_LEVEL: Final = 4.0
_FULL_SCALE: Final = float(np.log(32768.0))
_STEEPNESS: Final = 5.0
_PERIODIC: Final = 0.8
"""Correlation from period to period that a wholly voiced frame has; speech moves."""

_FIRST_PITCH: Final = float(np.log2(256.0 / 160.0) - 1.5)
"""Pitch given before the first voiced frame: 100 Hz."""

RealArray = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Constants for one mel-cepstrum format; 0.4 MB, shared and never written to."""

    cosines: RealArray
    """(order, 161): of the warped frequencies."""

    emphasis: RealArray
    """(161,): power gain of the pre-emphasis."""

    bands: RealArray
    """(18, 161): power in a bin into the bands' energy, window included."""

    harmonics: RealArray
    """(1281, 18): power of a sinusoid every 6.25 Hz into the bands' energy."""

    voicing: RealArray
    """(161, 5): shares of the voicing bands in a bin."""

    transform: RealArray
    """(18, 18): the bands' logarithms to cepstra."""


@lru_cache(maxsize=8)
def tables(alpha: float, order: int, centres: tuple[float, ...]) -> Tables:
    """For ``order`` coefficients warped by ``alpha`` and voicing bands at ``centres`` Hz."""
    omega = np.pi * np.arange(_BINS) / (_BINS - 1)
    warped = omega + 2 * np.arctan2(alpha * np.sin(omega), 1 - alpha * np.cos(omega))
    hertz = np.arange(_BINS, dtype=np.float64) * _SPACING
    half = np.arange(_WINDOW // 2) + 0.5
    rise = np.sin(0.5 * np.pi * np.sin(np.pi * half / _WINDOW) ** 2)
    window = np.concatenate([rise, rise[::-1]])
    triangles = np.stack([np.interp(np.arange(_BINS), _EDGES, row) for row in np.eye(BANDS)])
    triangles[[0, -1]] *= 2.0
    index = np.arange(BANDS)
    transform = np.cos((index[:, None] + 0.5) * index * np.pi / BANDS) * np.sqrt(2.0 / BANDS)
    transform[:, 0] *= np.sqrt(0.5)
    return Tables(
        np.ascontiguousarray(np.cos(np.arange(order)[:, None] * warped)),
        np.abs(1.0 - _EMPHASIS * np.exp(-1j * omega)) ** 2,
        np.ascontiguousarray(triangles * ((window**2).sum() / _WINDOW**2)),
        _sinusoids(window, triangles, hertz),
        np.stack([np.interp(hertz, centres, row) for row in np.eye(len(centres))], axis=1),
        np.ascontiguousarray(transform),
    )


def _sinusoids(window: RealArray, triangles: RealArray, hertz: RealArray) -> RealArray:
    """Energy in each band of a sinusoid of unit power, by its frequency and in any phase."""
    size = int(RATE / _STEP)
    spread = np.abs(np.fft.fft(window, size)) ** 2
    found = []
    for at in np.arange(0.0, RATE / 2 + _STEP, _STEP):
        below, above = (
            spread[np.round((hertz - sign * at) / _STEP).astype(int) % size] for sign in (1, -1)
        )
        found.append(triangles @ (0.5 * (below + above)))
    return np.ascontiguousarray(np.stack(found) / _WINDOW**2)


def fresh_pitch() -> RealArray:
    """What :func:`features` remembers before the first frame: the last pitch, (1,)."""
    return np.full(1, _FIRST_PITCH)


def features(
    given: Tables,
    f0: npt.ArrayLike,
    mcep: npt.ArrayLike,
    strengths: npt.ArrayLike,
    sharpen: float,
    pitch: RealArray,
) -> FloatArray:
    """The network's features (N, 20) of 2·N frames of 5 ms.

    ``f0`` (2N,) in Hz, 0 where unvoiced; ``mcep`` (2N, order) of the natural-log magnitude at
    full scale 1.0; ``strengths`` (2N, bands). ``sharpen`` scales the coefficients from the third
    on at equal energy, as :class:`~ringtrue.voices.vocoder.Vocoder`'s postfilter. ``pitch``, of
    :func:`fresh_pitch`, is carried from call to call. Raises ``ValueError`` for an odd number.
    """
    hertz = np.ascontiguousarray(f0, np.float64)
    if len(hertz) % HALVES:
        raise ValueError(f"frames of 5 ms come in pairs, got {len(hertz)}")
    out = np.empty((len(hertz) // HALVES, FEATURES), np.float32)
    _features(
        hertz,
        np.ascontiguousarray(mcep, np.float64),
        np.ascontiguousarray(strengths, np.float64),
        sharpen,
        given.cosines,
        given.emphasis,
        given.bands,
        given.harmonics,
        given.voicing,
        given.transform,
        _EDGES,
        pitch,
        out,
    )
    return out


@compiled
def _power(
    cepstrum: RealArray, sharpen: float, cosines: RealArray, emphasis: RealArray, power: RealArray
) -> None:
    """``power`` := squared magnitude of the sharpened, pre-emphasised envelope, 16-bit scale."""
    power[:] = 0.0
    for i in range(2, cepstrum.shape[0]):
        for k in range(_BINS):
            power[k] += cepstrum[i] * cosines[i, k]
    before = 0.0
    after = 0.0
    for k in range(_BINS):
        tilt = 2.0 * cepstrum[1] * cosines[1, k]
        before += np.exp(tilt + 2.0 * power[k])
        power[k] = np.exp(tilt + 2.0 * sharpen * power[k])
        after += power[k]
    level = np.exp(2.0 * (cepstrum[0] + _FULL_SCALE)) * before / after
    for k in range(_BINS):
        power[k] *= level * emphasis[k]


@compiled
def _energies(
    f0: float,
    power: RealArray,
    strengths: RealArray,
    voicing: RealArray,
    bands: RealArray,
    harmonics: RealArray,
    edges: npt.NDArray[np.int64],
    out: RealArray,
) -> None:
    """Add half of what the bands would measure of this spectrum to ``out`` (18,)."""
    noise = np.empty(_BINS)
    for k in range(_BINS):
        share = 0.0
        if f0 > 0.0:
            for b in range(strengths.shape[0]):
                share += strengths[b] * voicing[k, b]
        noise[k] = power[k] * (1.0 - share)
        power[k] -= noise[k]
    for b in range(BANDS):
        low = edges[max(0, b - 1)]
        high = edges[min(BANDS - 1, b + 1)]
        for k in range(low, high + 1):
            out[b] += 0.5 * noise[k] * bands[b, k]
    if f0 <= 0.0:
        return
    density = f0 / (0.5 * RATE)
    for number in range(1, int(0.5 * RATE / f0) + 1):
        at = number * f0 / _SPACING
        k = min(int(at), _BINS - 2)
        part = at - k
        strength = ((1.0 - part) * power[k] + part * power[k + 1]) * density
        row = min(int(np.rint(number * f0 / _STEP)), harmonics.shape[0] - 1)
        for b in range(BANDS):
            out[b] += 0.5 * strength * harmonics[row, b]


@compiled
def _features(
    f0: RealArray,
    cepstra: RealArray,
    strengths: RealArray,
    sharpen: float,
    cosines: RealArray,
    emphasis: RealArray,
    bands: RealArray,
    harmonics: RealArray,
    voicing: RealArray,
    transform: RealArray,
    edges: npt.NDArray[np.int64],
    pitch: RealArray,
    out: FloatArray,
) -> None:
    power = np.empty(_BINS)
    energies = np.empty(BANDS)
    for n in range(out.shape[0]):
        energies[:] = 0.0
        periodic = 0.0
        heard = 0.0
        voiced = 0
        for t in range(HALVES * n, HALVES * (n + 1)):
            _power(cepstra[t], sharpen, cosines, emphasis, power)
            _energies(f0[t], power, strengths[t], voicing, bands, harmonics, edges, energies)
            if f0[t] > 0.0:
                voiced += 1
                heard += f0[t]
                periodic += _PERIODIC * strengths[t, 0] / HALVES
        loudest = -2.0
        follow = -2.0
        for b in range(BANDS):
            level = max(loudest - _RANGE, follow - _SLOPE, np.log10(_FLOOR + energies[b]))
            loudest = max(loudest, level)
            follow = max(follow - _SLOPE, level)
            energies[b] = level
        for i in range(BANDS):
            total = 0.0
            for b in range(BANDS):
                total += energies[b] * transform[b, i]
            out[n, i] = total
        out[n, 0] -= _LEVEL
        if voiced:
            period = min(float(_LONGEST), max(float(_SHORTEST), RATE * voiced / heard))
            pitch[0] = np.log2(256.0 / period) - 1.5
        out[n, BANDS] = pitch[0]
        out[n, BANDS + 1] = (
            np.log(1.0 + np.exp(_STEEPNESS * periodic)) / np.log(1.0 + np.exp(_STEEPNESS)) - 0.5
        )
