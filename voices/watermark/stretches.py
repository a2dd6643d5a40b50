"""Joins the tracks of epochs to the stretches of a recording that each mark runs through."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ringtrue.voices.watermark.keys import CHIP_RATE, PERIOD, MarkKey
from ringtrue.voices.watermark.reader import Reader
from ringtrue.voices.watermark.token import Token
from ringtrue.voices.watermark.tracing import ECHO, Track
from ringtrue.voices.watermark.tracking import EPOCH, SEGMENT, Bet, Segments


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the recording that one mark runs through."""

    start: float
    """Seconds into the recording."""

    end: float
    key: str
    """Id of the key."""

    significance: float
    """log10 of how much likelier this part is with the mark than without."""

    speed: float
    """How much faster the recording runs than it was marked."""

    inverted: bool
    """Whether the recording is turned upside down."""

    token: Token | None
    """What the mark says, authenticated; None without the secret key, or where it is too faint."""


GAP: Final = 3 * EPOCH
"""Chips after which a mark that was lost is over; found again sooner, it is the same stretch."""


class _Mark:
    """One mark, as far as it has been followed."""

    def __init__(self, key: MarkKey | None) -> None:
        self._reader = Reader(key) if key is not None else None
        self.token: Token | None = None
        self.bet = Bet(0.1)
        self.at = 0
        """Chip of the recording at which the last epoch begins that it was found in."""

        self.speed = 1.0
        """At which it was searched for."""

        self._start = self._end = 0.0
        self._evidence = 0.0
        self._drift = self._span = 0
        self._lag: int | None = None
        """The chip under that epoch's first sample."""

    def add(self, segments: Segments, track: Track, start: int, speed: float) -> None:
        """Go on with one epoch's track; the epoch begins at chip ``start`` of the recording."""
        at = np.flatnonzero(track.present)
        if not len(at):
            at = np.array([int(track.sure.argmax())])
        first, last = int(at[0]), int(at[-1])
        begin = start / CHIP_RATE + first * SEGMENT / CHIP_RATE / speed
        if self._lag is None:
            self._start = begin
        else:
            self._drift += _apart(int(track.lags[first]), self.expected(start))
        self._end = start / CHIP_RATE + (last + 1) * SEGMENT / CHIP_RATE / speed
        self._drift += int(track.lags[last] - track.lags[first])
        self._span = round((self._end - self._start) * CHIP_RATE * speed)
        self._evidence += track.evidence
        self.bet, self.speed = track.bet, speed
        self.at, self._lag = start, int(track.lags[last])
        if self._reader is not None and self.token is None:
            self._reader.add(segments, track)
            self.token = self._reader.read()

    def read(self, known: Sequence[Token]) -> None:
        """It is over: look for its token once more, and whether it is one of those ``known``."""
        if self._reader is not None and self.token is None:
            self.token = self._reader.read_at_last(tuple(known))

    def expected(self, start: int) -> int:
        """Where it should lie in an epoch: the chip under that one's first sample."""
        return (self._lag or 0) + round((start - self.at) * self.speed)

    @property
    def end(self) -> float:
        """Seconds into the recording up to which it has been followed."""
        return self._end

    def stretch(self, key: str) -> Stretch:
        """What there is to say of it."""
        return Stretch(
            start=self._start,
            end=self._end,
            key=key,
            significance=self._evidence / math.log(10.0),
            speed=self.speed * (1.0 + self._drift / max(self._span, 1)),
            inverted=self.bet.polarity < 0,
            token=self.token,
        )


class Marks:
    """The marks of one key, those that may go on and those that are over."""

    def __init__(self, key: str, secret: MarkKey | None) -> None:
        """``secret`` reads tokens; None: they stay unread."""
        self._key = key
        self._secret = secret
        self._going: list[_Mark] = []
        self._over: list[_Mark] = []
        self._at = 0

    @property
    def bet(self) -> Bet | None:
        """The one that won on a mark of the last epoch; None where there was none."""
        return next((mark.bet for mark in self._going if mark.at == self._at), None)

    def none_since(self, start: int) -> bool:
        """Whether no mark runs on beyond chip ``start`` of the recording."""
        marks = (*self._going, *self._over)
        return all(mark.end <= start / CHIP_RATE for mark in marks)

    def going_on(self, start: int, speed: float) -> Iterator[tuple[Bet, int]]:
        """Where marks may go on in the epoch from ``start`` on, if searched at ``speed``."""
        for mark in self._going:
            if mark.speed == speed:
                yield mark.bet, mark.expected(start)

    def add(self, segments: Segments, tracks: Sequence[Track], start: int, speed: float) -> None:
        """Take the tracks of an epoch, which begins at chip ``start`` of the recording."""
        waiting = [mark for mark in self._going if start - mark.at <= GAP]
        self._over += [mark for mark in self._going if start - mark.at > GAP]
        going = []
        for track in tracks:
            mark = _continued(waiting, track, start, speed) or _Mark(self._secret)
            mark.add(segments, track, start, speed)
            going.append(mark)
        self._going = going + waiting
        self._at = start

    def finish(self) -> list[Stretch]:
        """Every stretch."""
        marks = self._over + self._going
        known = tuple(dict.fromkeys(mark.token for mark in marks if mark.token is not None))
        for mark in marks:
            mark.read(known)
        return [mark.stretch(self._key) for mark in marks]


def _continued(waiting: list[_Mark], track: Track, start: int, speed: float) -> _Mark | None:
    """The mark that ``track`` goes on with; it is taken out of those that wait."""
    lag = int(track.lags[int(track.present.argmax())])
    for mark in waiting:
        same = mark.speed == speed and mark.bet.polarity == track.bet.polarity
        if same and abs(_apart(lag, mark.expected(start))) <= ECHO:
            waiting.remove(mark)
            return mark
    return None


def _apart(one: int, other: int) -> int:
    """How far chips lie apart around the period."""
    return (one - other + PERIOD // 2) % PERIOD - PERIOD // 2
