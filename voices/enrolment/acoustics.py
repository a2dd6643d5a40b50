"""What a recording tells of the way from a mouth to a file: colour, noise, room, and breaks in it.

All blocking, on mono samples at 16 kHz, shape ``(n,)``, full scale 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.engine import SPEECH_RATE

RealArray = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]

HOP: Final = 160
"""Samples from frame to frame: 10 ms."""

_WINDOW: Final = 320
_BANDS: Final = 20
_LOW_HZ: Final = 90.0
_HIGH_HZ: Final = 7000.0

FLOOR_DB: Final = 65.0
"""How far below the speech noise is still told from silence: gates and codecs rule further down."""

_SPEECH_DB: Final = 25.0
"""Frames closer than this to the loud ones are speech."""


@dataclass(frozen=True, slots=True)
class Levels:
    """A recording's course, relative to its own loud parts."""

    bands: RealArray = field(repr=False)
    """dB in each band below the loud frames' overall level, shape ``(frames, bands)``."""

    overall: RealArray = field(repr=False)
    """dB of all bands together, shape ``(frames,)``; 0 is the loudest twentieth."""


@dataclass(frozen=True, slots=True)
class Channel:
    """The traits of one recording's channel."""

    colour: RealArray
    """Mean level of the speech in each band, dB, less its mean over the bands."""

    floor: RealArray
    """Level of the quietest tenth in each band, dB below the loud speech, at least
    -:data:`FLOOR_DB`."""

    decay: float
    """How fast sound dies away after speech stops, dB per 10 ms: little in a hall."""

    bass: float
    """Level of 70 to 180 Hz against 180 to 1000 Hz in voiced speech, dB."""


def levels(samples: FloatArray) -> Levels | None:
    """The course of a recording; None under half a second or for silence."""
    if len(samples) < SPEECH_RATE // 2:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::HOP]
    window, matrix = _analysis()
    power = np.abs(np.fft.rfft(frames * window, 512, axis=1)) ** 2
    bands = power @ matrix
    total = bands.sum(axis=1)
    loud = float(np.quantile(total, 0.95))
    if loud < 1e-12:
        return None
    lowest = 10 ** (-9.0)
    return Levels(10 * np.log10(bands / loud + lowest), 10 * np.log10(total / loud + lowest))


def channel(samples: FloatArray) -> Channel | None:
    """The channel of a recording; None where :func:`levels` finds nothing."""
    course = levels(samples)
    if course is None:
        return None
    speech = course.overall > -_SPEECH_DB
    colour = course.bands[speech].mean(axis=0)
    floor = np.maximum(np.quantile(course.bands, 0.1, axis=0), -FLOOR_DB)
    return Channel(colour - colour.mean(), floor, _decay(course.overall), _bass(samples))


def _decay(overall: RealArray) -> float:
    """The typical steepest fall over 60 ms after speech, dB per 10 ms, before the floor."""
    smooth = np.convolve(overall, np.ones(3) / 3, "valid")
    floor = max(float(np.quantile(smooth, 0.05)) + 6.0, -45.0)
    falls = smooth[:-6] - smooth[6:]
    usable = (smooth[:-6] > -20) & (smooth[6:] > floor)
    if usable.sum() < 10:
        return 6.0
    return float(np.quantile(falls[usable], 0.98)) / 6


def _bass(samples: FloatArray) -> float:
    frames = np.lib.stride_tricks.sliding_window_view(samples, 1024)[::512]
    power = np.abs(np.fft.rfft(frames * np.hanning(1024), axis=1)) ** 2
    total = power.sum(axis=1)
    loud = power[total >= np.quantile(total, 0.6)].mean(axis=0)
    hz = np.fft.rfftfreq(1024, 1 / SPEECH_RATE)
    low = loud[(hz >= 70) & (hz < 180)].sum()
    middle = loud[(hz >= 180) & (hz < 1000)].sum()
    return float(10 * np.log10((low + 1e-12) / (middle + 1e-12)))


def difference(a: Channel, b: Channel) -> RealArray:
    """How two channels differ, shape (5,), each part 0 for equal ones.

    The colour's smooth part in dB, the floor's mean and its shape in dB, the decay and the bass.
    """
    colour = np.convolve(a.colour - b.colour, np.ones(3) / 3, "valid")
    floor = a.floor - b.floor
    return np.array(
        [
            float(np.sqrt(np.mean(colour**2))),
            abs(float(np.mean(floor))),
            float(np.std(np.convolve(floor, np.ones(3) / 3, "valid"))),
            abs(a.decay - b.decay),
            abs(a.bass - b.bass),
        ]
    )


BREAKS: Final = (
    "click 1", "click 3", "click 6",
    "fall 1", "fall 3", "fall 6",
    "step",
)  # fmt: skip
"""What each number of :func:`breaks` is: the mean of so many of the strongest, 40 ms apart.

A *click* is a corner of the waveform against all others within 15 ms of it; a *fall* is how far
the level drops within half a millisecond, from the 8 ms before to the 4 ms after; the *step* is
the largest change of the noise from one pause to the next, mean over the bands. All in dB. Rises
are left out: plosives rise as fast as cuts do.
"""


def breaks(samples: FloatArray) -> RealArray | None:
    """How abruptly a recording changes between its first word and its last, ``(len(BREAKS),)``.

    None where :func:`levels` finds nothing. Blocking: some 60 ms of CPU for 10 s.
    """
    course = levels(samples)
    if course is None:
        return None
    inside, first, last = _speech_of(samples, course)
    power = _powers(inside)
    parts = [
        _strongest(_clicks(inside), 640),
        _strongest(_falls(power), 80),
    ]
    return np.array([*np.concatenate(parts), _step(course, first, last)])


def dead_seconds(samples: FloatArray) -> float:
    """Seconds between the first word and the last in which the waveform stands still, 8 ms and
    more at a time.
    """
    course = levels(samples)
    if course is None:
        return 0.0
    inside = _speech_of(samples, course)[0]
    same = np.abs(np.diff(inside)) < 1e-7
    edges = np.flatnonzero(np.diff(np.concatenate([[0], same.astype(int), [0]])))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= 128].sum()) / SPEECH_RATE


def _speech_of(samples: FloatArray, course: Levels) -> tuple[RealArray, int, int]:
    """From the first frame of speech to the last, and which these are."""
    speech = np.flatnonzero(course.overall > -_SPEECH_DB)
    first, last = int(speech[0]), int(speech[-1])
    return samples[first * HOP : last * HOP + _WINDOW].astype(np.float64), first, last


def _strongest(values: RealArray, apart: int) -> RealArray:
    """Means of the strongest one, three and six values, ``apart`` from one another."""
    blocks = -(-len(values) // apart)
    padded = np.zeros(max(blocks, 6) * apart)
    padded[: len(values)] = values
    # One value a block: two of a break's may count, at a block's edge, in people's speech too.
    top = np.sort(padded.reshape(-1, apart).max(axis=1))[::-1]
    return np.array([top[0], top[:3].mean(), top[:6].mean()])


_AROUND: Final = 240
"""Samples to each side a corner is held against: 15 ms, more than a period of a low voice."""

_APART: Final = 16
"""Samples that belong to the corner itself."""


def _clicks(inside: RealArray) -> RealArray:
    corner = np.abs(np.diff(inside, 3))
    if len(corner) < 4 * _AROUND or corner.max() == 0.0:
        return np.zeros(1)
    reach = _AROUND + _APART
    highest = _sliding_maximum(np.pad(corner, reach), _AROUND)
    before = highest[: len(corner)]
    after = highest[reach + _APART + 1 :][: len(corner)]
    size = len(after)
    others = np.maximum(np.maximum(before[:size], after), 1e-4 * corner.max())
    energy = np.convolve(inside**2, np.ones(400) / 400, "same")[:size]
    loud = energy > 1e-3 * np.quantile(energy, 0.9)
    return np.asarray(
        np.where(loud, np.maximum(20 * np.log10(corner[:size] / others + 1e-9), 0.0), 0.0)
    )


def _sliding_maximum(values: RealArray, width: int) -> RealArray:
    """``out[i] = values[i : i + width].max()``, by doubling."""
    out, done = values, 1
    while 2 * done <= width:
        out = np.maximum(out[: len(out) - done], out[done:])
        done *= 2
    rest = width - done
    return np.maximum(out[: len(out) - rest], out[rest:]) if rest else out


def _powers(inside: RealArray) -> RealArray:
    """Mean power of every eight samples."""
    size = len(inside) // 8 * 8
    return np.asarray(np.mean(inside[:size].reshape(-1, 8) ** 2, axis=1))


def _falls(power: RealArray) -> RealArray:
    """How far a loud sound's level falls within half a millisecond, at every instant, dB."""
    before, after = 16, 8
    total = np.concatenate([[0.0], np.cumsum(power)])
    at = np.arange(before, len(power) - after - 1)
    if len(at) == 0:
        return np.zeros(1)
    was = (total[at] - total[at - before]) / before
    then = np.maximum(total[at + 1 + after] - total[at + 1], 0.0) / after
    loud = was > 10 ** (-2.5) * np.quantile(was, 0.95)
    fall = 10 * np.log10((was + 1e-12) / (then + 1e-9 * was.max() + 1e-12))
    return np.asarray(np.where(loud, np.maximum(fall, 0.0), 0.0))


_PAUSE_DB: Final = 33.0
_SHORTEST_PAUSE: Final = 14
"""Frames: 140 ms, of which 30 ms at either end are still speech."""

_AUDIBLE_DB: Final = 61.0
"""Noise further than this below the speech is taken to be this far below it: studios' gates and
codecs rule there."""


def _step(course: Levels, first: int, last: int) -> float:
    quiet = course.overall[first : last + 1] < -_PAUSE_DB
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(int), [0]])))
    floors = [
        np.maximum(
            np.median(course.bands[first + start + 3 : first + end - 3], axis=0), -_AUDIBLE_DB
        )
        for start, end in zip(edges[::2], edges[1::2], strict=True)
        if end - start >= _SHORTEST_PAUSE
    ]
    steps = [float(np.mean(np.abs(b - a))) for a, b in pairwise(floors)]
    return max(steps, default=0.0)


@cache
def _analysis() -> tuple[RealArray, RealArray]:
    """The window and the bands, equally wide on the mel scale, as (257, bands)."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (_LOW_HZ, _HIGH_HZ))
    mel = np.linspace(low, high, _BANDS + 1)
    edges = 700 * (10 ** (mel / 2595) - 1)
    hz = np.fft.rfftfreq(512, 1 / SPEECH_RATE)
    matrix = (hz[:, None] >= edges[:-1]) & (hz[:, None] < edges[1:])
    return np.hanning(_WINDOW), matrix.astype(np.float64)
