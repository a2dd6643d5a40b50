"""Finds marks in recordings that may be cropped, recoded, stretched, cut up or mixed.

A recording is searched epoch by epoch (:mod:`ringtrue.voices.watermark.tracking`), and as long as
nothing was found also in stretches of many epochs (:mod:`ringtrue.voices.watermark.folding`). In
each such test, for each key, the evidence's largest value bounds the probability that an unmarked
signal shows as much; the ``n``-th test counts with a weight of ``1/n(n+1)``, so that the bound
also holds for the best of all of them, however long the recording is. It holds for every signal
that does not depend on the key, whatever that signal is.

Where there is a mark, its course is traced, courses that go on from epoch to epoch are joined to
stretches, and with the secret key their tokens are read.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.watermark.carrier import CarrierStream, Samples, half_a_chip_on, respeed
from ringtrue.voices.watermark.folding import Folded, fold
from ringtrue.voices.watermark.keys import CHIP_RATE, DetectionKey, MarkKey
from ringtrue.voices.watermark.lpc import RealArray
from ringtrue.voices.watermark.stretches import Marks, Stretch
from ringtrue.voices.watermark.token import Token
from ringtrue.voices.watermark.tracing import Track, trace
from ringtrue.voices.watermark.tracking import (
    BETS,
    SEGMENT,
    SLIP,
    Bet,
    Course,
    Follower,
    Pilot,
    Segments,
)

FALSE_ALARM: Final = 1e-6
"""Bound on the false-alarm probability at or below which a mark counts as found."""

LEAST_BOUND: Final = 1e-300
"""The least bound that is told; below, it is about numbers and no longer about marks."""

SPEED_STEP: Final = 0.002
SPEED_RANGE: Final = 0.03
SPEEDS: Final = tuple(
    1.0 + sign * SPEED_STEP * n
    for n in range(1, round(SPEED_RANGE / SPEED_STEP) + 1)
    for sign in (1, -1)
)
"""Speeds that a thorough search tries besides the right one."""

FOLD_EPOCHS: Final = 8
"""Epochs that are folded together: 38 s."""

FOLD_EVERY: Final = 2

MARKS_AT_ONCE: Final = 3
"""Marks looked for in one epoch."""

_SPEED_BETS: Final = (
    Bet(0.08, slip=0.12),
    Bet(0.2, slip=0.12),
)
_OTHERS: Final = (0.06, 0.13)
"""Strengths of the bets on further marks in an epoch that has one."""

_SURE_AT: Final = math.log(1e15)
"""Evidence from which on the bound is left as it is. What was learned from one epoch about the
next may only then be used, since the same chips are bet on again."""

_TRACE_AT: Final = math.log(1e4)
_GO_ON_AT: Final = math.log(20.0)

_POINTS: Final = 12
"""Segments to one point of the curve; an epoch has a whole number of such points."""

CURVE_SECONDS: Final = _POINTS * SEGMENT / CHIP_RATE

MarkOrDetectionKey = MarkKey | DetectionKey
OnProgress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Detection:
    """What a search found."""

    seconds: float
    """How much was searched."""

    keys: tuple[str, ...]
    """Ids of the keys that were looked for."""

    false_alarm: float
    """Bound on the probability that a search like this finds as much in an unmarked recording."""

    key: str | None
    """Id of the key with the strongest sign, where there is a finding."""

    stretches: tuple[Stretch, ...]
    """Where marks run; empty without a finding."""

    curve: npt.NDArray[np.float32] = field(repr=False)
    """log10 of the evidence, which begins anew every 4.8 s; one value for each
    :data:`CURVE_SECONDS`."""

    @property
    def found(self) -> bool:
        """Whether there is a mark, at a false-alarm probability of :data:`FALSE_ALARM`."""
        return self.false_alarm <= FALSE_ALARM

    @property
    def significance(self) -> float:
        """−log10 of the false-alarm bound, at least 0."""
        return max(0.0, -math.log10(max(self.false_alarm, LEAST_BOUND)))

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The tokens that were read, each once, in order."""
        return tuple(dict.fromkeys(each.token for each in self.stretches if each.token is not None))


def detect(
    samples: Samples,
    rate: int,
    keys: Sequence[MarkOrDetectionKey],
    *,
    thorough: bool = False,
    on_progress: OnProgress | None = None,
) -> Detection:
    """Search mono ``samples`` for the marks of ``keys``; secret keys also read what they say.

    Floats have full scale 1.0. Found whatever their tempo (some ±3 %), and if ``thorough`` also
    at speeds, and so pitches, up to ±3 % off. Blocking: some 20 times faster than real time for
    one key on one core, or twice as fast as real time if thorough. ``on_progress`` gets the share
    done. Raises :class:`WatermarkError` for a rate outside 8 to 192 kHz or more than one channel.
    """
    search = Search(keys, rate, thorough=thorough)
    step = max(1, rate * 10)
    for first in range(0, len(samples), step):
        search.feed(samples[first : first + step])
        if on_progress is not None:
            on_progress(min(1.0, (first + step) / len(samples)))
    if samples.ndim != 1:
        search.feed(samples)
    return search.finish()


class Search:
    """Searches one channel as it comes, in memory that doesn't grow with its length.

    Some 100 MB, and 33 MB more for every key. Blocking; not for two threads at a time.
    """

    def __init__(
        self,
        keys: Sequence[MarkOrDetectionKey],
        rate: int,
        *,
        thorough: bool = False,
        beside: Search | None = None,
    ) -> None:
        """Look for the marks of ``keys`` in samples at ``rate`` Hz.

        ``beside``: a search for the same keys, in the same thread, whose memory is shared.
        Raises :class:`WatermarkError` for a rate outside 8 to 192 kHz.
        """
        self._stream = CarrierStream(rate)
        self._follower: Follower = Follower() if beside is None else beside._follower
        self._fast: Follower | None = None if beside is None else beside._fast
        if thorough and self._fast is None:
            self._fast = Follower(_SPEED_BETS)
        laid: dict[str, Pilot] = (
            {} if beside is None else {key.id: key.pilot for key in beside._keys}
        )
        self._keys: list[_Key] = [_Key(key, laid.get(key.id)) for key in keys]
        self._recent: deque[tuple[int, RealArray]] = deque(maxlen=FOLD_EPOCHS)
        """The last epochs with the chips of the recording that they begin at."""

        self._epochs = self._tests = 0
        self._chips = 0
        self._bound = 0.0
        """Natural logarithm of the largest evidence so far, over its epoch's weight."""

        self._best: str | None = None
        self._curve: list[float] = []

    @property
    def seconds(self) -> float:
        """How much has been searched."""
        return self._chips / CHIP_RATE

    def feed(self, samples: Samples) -> None:
        """Take the next samples, shape ``(n,)``; floats have full scale 1.0."""
        for carrier in self._stream.feed(samples):
            self._epoch(carrier)

    def finish(self) -> Detection:
        """Search what is left, and say what was found."""
        for carrier in self._stream.feed(np.zeros(0, np.float32), last=True):
            self._epoch(carrier)
        if self._epochs % FOLD_EVERY:
            self._fold()
        false_alarm = min(1.0, max(math.exp(-self._bound), LEAST_BOUND))
        found = false_alarm <= FALSE_ALARM
        stretches = [stretch for key in self._keys for stretch in key.marks.finish()]
        stretches.sort(key=lambda each: each.start)
        return Detection(
            seconds=self.seconds,
            keys=tuple(key.id for key in self._keys),
            false_alarm=false_alarm,
            key=self._best if found else None,
            stretches=tuple(stretches) if found else (),
            curve=np.array(self._curve, np.float32),
        )

    def _epoch(self, carrier: RealArray) -> None:
        start = self._chips
        self._chips += len(carrier)
        segments = Segments(carrier, half_a_chip_on(carrier))
        if not len(segments):
            return
        self._epochs += 1
        weight = self._next_weight()
        self._recent.append((start, carrier))
        evidence = np.full(len(segments), -np.inf)
        for key in self._keys:
            found = self._search(key, segments, carrier, start)
            evidence = np.logaddexp(evidence, np.pad(found, (0, 8), "edge")[: len(segments)])
            self._note_bound(float(found.max()) - weight, key)
        for first in range(0, len(segments), _POINTS):
            top = float(evidence[first : first + _POINTS].max(initial=-np.inf))
            self._curve.append(max(0.0, top / math.log(10.0)))
        if self._epochs % FOLD_EVERY == 0:
            self._fold()

    def _next_weight(self) -> float:
        """The logarithm by which the next test's evidence has to be lessened."""
        self._tests += 1
        return math.log(self._tests * (self._tests + 1)) + math.log(max(1, len(self._keys)))

    def _note_bound(self, bound: float, key: _Key) -> None:
        if bound > self._bound and self._bound <= _SURE_AT:
            self._bound, self._best = bound, key.id

    def _fold(self) -> None:
        """Look for a faint mark in the last epochs together."""
        if len(self._recent) < 2:
            return
        known = self._bound > -math.log(FALSE_ALARM)
        weight = 0.0 if known else self._next_weight()
        since = self._recent[max(0, len(self._recent) - FOLD_EVERY)][0]
        carrier = np.concatenate([part for _, part in self._recent])
        late = half_a_chip_on(carrier)
        for key in self._keys:
            if known and not key.marks.none_since(since):
                continue
            found = fold(key.pilot.chips, carrier, late)
            if not known:
                self._note_bound(found.evidence - weight, key)
            if found.evidence > _TRACE_AT + weight:
                self._trace_back(key, found)

    def _trace_back(self, key: _Key, found: Folded) -> None:
        """Note a mark that was too faint for each epoch alone, where none is known yet."""
        begin = self._recent[0][0]
        for start, carrier in self._recent:
            if key.marks.none_since(start):
                segments = Segments(carrier, half_a_chip_on(carrier))
                track = trace(key.pilot.chips, segments, found.bet, found.lag + start - begin)
                key.marks.add(segments, [track] if track.evidence > 0.0 else [], start, 1.0)

    def _search(self, key: _Key, segments: Segments, carrier: RealArray, start: int) -> RealArray:
        """The evidence that one epoch gives for ``key``, whose tracks are noted."""
        if not any(energy.any() for energy in segments.energies):
            key.marks.add(segments, [], start, 1.0)
            return np.zeros(len(segments))
        sure, last = self._bound > _SURE_AT, key.marks.bet
        bets = _narrowed(last) if sure and last is not None and key.speed is None else ()
        plain = self._follower.follow(key.pilot, segments, bets=bets)
        if self._fast is None or (sure and key.speed is None and _won(plain)):
            self._note(key, self._follower, segments, plain, start, 1.0)
            return plain.evidence
        speeds = (key.speed,) if sure and key.speed is not None else SPEEDS
        total = plain.evidence + math.log(0.5)
        best: tuple[Course, Segments, float] = plain, segments, 1.0
        for speed in speeds:
            other = respeed(carrier, speed)
            heard = Segments(other, half_a_chip_on(other))
            course = self._fast.follow(key.pilot, heard)
            total = _sum(total, course.evidence + math.log(0.5 / len(speeds)))
            if course.evidence.max(initial=0.0) > best[0].evidence.max(initial=0.0):
                best = course, heard, speed
        course, heard, speed = best
        if _won(course):
            key.speed = speed if speed != 1.0 else None
        follower = self._follower if speed == 1.0 else self._fast
        self._note(key, follower, heard, course, start, speed)
        return total

    def _note(
        self,
        key: _Key,
        follower: Follower,
        segments: Segments,
        course: Course,
        start: int,
        speed: float,
    ) -> None:
        """Trace the marks that an epoch holds, and those that go on from the one before."""
        pilot = key.pilot.chips
        tracks: list[Track] = []
        while _won(course) and len(tracks) < MARKS_AT_ONCE:
            track = trace(pilot, segments, course.best, course.lag)
            tracks.append(track)
            bets = [replace(track.bet, strength=a, slip=SLIP, jump=0.0) for a in _OTHERS]
            barred = [track.barred for track in tracks]
            course = follower.follow(key.pilot, segments, bets=bets, barred=barred)
        for bet, lag in key.marks.going_on(start, speed):
            if any(track.holds(lag) for track in tracks):
                continue
            track = trace(pilot, segments, bet, lag)
            if track.evidence > _GO_ON_AT and not any(map(track.overlaps, tracks)):
                tracks.append(track)
        key.marks.add(segments, tracks, start, speed)


class _Key:
    """What one search knows of one key."""

    def __init__(self, key: MarkOrDetectionKey, pilot: Pilot | None) -> None:
        self.id = key.id
        self.pilot = pilot or Pilot(key.detection if isinstance(key, MarkKey) else key)
        self.marks = Marks(key.id, key if isinstance(key, MarkKey) else None)
        self.speed: float | None = None
        """The speed at which its marks were found last, if not the right one."""


def _narrowed(bet: Bet) -> list[Bet]:
    """The bets of the same polarity and offset as ``bet``, and as loose."""
    return [
        each
        for each in BETS
        if each.polarity == bet.polarity
        and each.late == bet.late
        and bool(each.jump) == bool(bet.jump)
    ] or [bet]


def _won(course: Course) -> bool:
    return float(course.evidence.max(initial=0.0)) > _TRACE_AT


def _sum(one: RealArray, other: RealArray) -> RealArray:
    """Logarithm of the sum; the shorter one keeps its last value."""
    size = max(len(one), len(other))
    padded = [np.pad(each, (0, size - len(each)), "edge") for each in (one, other)]
    return np.asarray(np.logaddexp(*padded))
