"""What a caller hears, measured from the audio alone, to the sample.

Nothing here knows what the server thinks it did: speech is found by its energy over an adaptive
floor, and latencies, barge-in stops and dropouts follow from where it begins and ends. Positions
are samples from the beginning of the call's recording. No I/O and no clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.streaming.audio_ops import audioop
from ringtrue.streaming.ports import frame_samples

WINDOW_MS: Final = 5
"""Energy is judged over windows of this length."""

CONFIRM_WINDOWS: Final = 4
"""Active windows that make speech of a sound: 20 ms; less is a click."""

FORGET_WINDOWS: Final = 4
"""Inactive windows after which an unconfirmed sound is forgotten."""

HANG_MS: Final = 200
"""Silence that closes a stretch of speech."""

UTTERANCE_GAP_MS: Final = 700
"""Shorter silences lie within one utterance: the pauses between phrases."""

QUIETEST_DB: Final = -50.0
"""Level in dBFS (RMS of a window) below which nothing counts as speech."""

FLOOR_RANGE_DB: Final = (-75.0, -40.0)
FLOOR_MARGIN_DB: Final = 15.0
FLOOR_RISE_DB: Final = 0.02
"""Rise of the floor per louder window: 4 dB a second, undone by the next pause or closure."""

EMPTY_LEVEL: Final = 40
"""Largest sample of a dropped block: comfort noise of 8 LSB (RMS) as codecs decode it."""

EDGE_MS: Final = 2
EDGE_RATIO: Final = 0.2
"""A block's edge is abrupt if speech peaks above this part of its RMS right beside it."""

GAP_MS: Final = 40
"""Shorter silences within an utterance are stop consonants and are not listed."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stretch of samples; ``end`` is exclusive."""

    start: int
    end: int

    def __len__(self) -> int:
        """Samples."""
        return self.end - self.start

    def overlaps(self, other: Span) -> bool:
        """Whether they share a sample."""
        return self.start < other.end and other.start < self.end


class SpeechDetector:
    """Finds stretches of speech in PCM that arrives in pieces of any length.

    A stretch begins at the first sample above the threshold of its first loud window and ends
    after the last one of its last loud window. The threshold is :data:`FLOOR_MARGIN_DB` above a
    floor that falls to the quietest windows at once and rises slowly.
    """

    def __init__(self, rate: int) -> None:
        """``rate`` in Hz, a multiple of 200."""
        self.rate = rate
        self.spans: list[Span] = []
        """Stretches that are over, in order."""
        self._window = rate * WINDOW_MS // 1000
        self._hang = HANG_MS // WINDOW_MS
        self._size = 2 * self._window
        self._rest = b""
        self._position = 0
        self._floor_db = FLOOR_RANGE_DB[0]
        self._start: int | None = None
        self._last_loud: tuple[int, bytes, float] | None = None
        """Position, samples and threshold of the window in which the stretch ends so far."""

        self._loud = 0
        self._quiet = 0
        self._confirmed = False

    @property
    def position(self) -> int:
        """Samples judged so far."""
        return self._position

    @property
    def speaking(self) -> bool:
        """True within a stretch of speech, its closing silence included."""
        return self._confirmed

    @property
    def speech_start(self) -> int | None:
        """First sample of the stretch in progress."""
        return self._start if self._confirmed else None

    @property
    def last_speech(self) -> int | None:
        """End (exclusive) of the latest speech; None before the first."""
        if self._confirmed:
            return self._stretch_end()
        return self.spans[-1].end if self.spans else None

    def feed(self, pcm: bytes) -> None:
        """Judge 16-bit PCM; less than a window's worth waits for more."""
        if self._rest:
            pcm = self._rest + pcm
        size = self._size
        whole = len(pcm) // size * size
        self._rest = pcm[whole:]
        # Sixteen bits more, for what follows the point; of few samples this is faster than NumPy.
        wide = audioop.lin2lin(pcm[:whole], 2, 4)
        for at in range(0, whole, size):
            rms = audioop.rms(wide[2 * at : 2 * (at + size)], 4) / 65536
            level = 20 * math.log10(max(rms, _LEAST_RMS)) - _FULL_SCALE_DB
            self._judge(pcm[at : at + size], level)
            self._position += self._window

    def close(self) -> None:
        """The recording is over: so is the stretch in progress."""
        self._rest = b""
        self._finish()

    def _judge(self, window: bytes, level: float) -> None:
        threshold = max(QUIETEST_DB, self._floor_db + FLOOR_MARGIN_DB)
        lowest, highest = FLOOR_RANGE_DB
        self._floor_db = min(max(level, lowest), self._floor_db + FLOOR_RISE_DB, highest)
        if level < threshold:
            self._pause()
            return
        if self._start is None:
            self._start = self._position + int(_above(window, threshold)[0])
        self._last_loud = self._position, window, threshold
        self._quiet = 0
        self._loud += 1
        if self._loud >= CONFIRM_WINDOWS:
            self._confirmed = True

    def _pause(self) -> None:
        self._quiet += 1
        if self._quiet >= (self._hang if self._confirmed else FORGET_WINDOWS):
            self._finish()

    def _finish(self) -> None:
        if self._confirmed and self._start is not None:
            self.spans.append(Span(self._start, self._stretch_end()))
        self._start, self._confirmed, self._loud = None, False, 0

    def _stretch_end(self) -> int:
        assert self._last_loud is not None
        position, window, threshold = self._last_loud
        return position + int(_above(window, threshold)[-1]) + 1


_FULL_SCALE_DB: Final = 20 * float(np.log10(32768))
_LEAST_RMS: Final = 1e-3**0.5
"""What silence counts as, in LSB."""


def _above(window: bytes, threshold: float) -> npt.NDArray[np.intp]:
    """Which samples of a loud window reach ``threshold`` (dBFS)."""
    amplitude = 10 ** ((threshold + _FULL_SCALE_DB) / 20)
    return np.flatnonzero(np.abs(np.frombuffer(window, "<i2").astype(np.int32)) >= amplitude)


def find_speech(pcm: bytes, rate: int) -> list[Span]:
    """The stretches of speech in a whole recording."""
    detector = SpeechDetector(rate)
    detector.feed(pcm)
    detector.close()
    return detector.spans


def utterances(spans: Iterable[Span], rate: int, gap_ms: int = UTTERANCE_GAP_MS) -> list[Span]:
    """``spans`` joined where less than ``gap_ms`` of silence lies between them."""
    joined: list[Span] = []
    for span in spans:
        if joined and (span.start - joined[-1].end) * 1000 < gap_ms * rate:
            joined[-1] = Span(joined[-1].start, span.end)
        else:
            joined.append(span)
    return joined


def answer_after(spans: Iterable[Span], position: int) -> Span | None:
    """The first stretch that begins at or after ``position``: the answer to what ended there."""
    return next((span for span in spans if span.start >= position), None)


def stop_after(spans: Iterable[Span], position: int, rate: int, gap_ms: int = 600) -> int:
    """Samples from ``position``, where the caller broke in, to the agent's last sample.

    The agent has stopped where at least ``gap_ms`` of silence follows: shorter than that is a
    pause in its answer. 0 if it wasn't heard again after ``position``.
    """
    heard = [span for span in spans if span.end > position]
    stop = position
    for span in heard:
        if (max(span.start, position) - stop) * 1000 >= gap_ms * rate:
            break
        stop = span.end
    return stop - position


class GapKind(StrEnum):
    """What a silence within an utterance is."""

    DROPOUT = "dropout"
    """Blocks that should have held speech."""

    PAUSE = "pause"
    """The speaker's own."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A silence within an utterance."""

    span: Span
    kind: GapKind


def find_gaps(
    pcm: bytes, rate: int, spoken: Sequence[Span], ignore: Sequence[Span] = ()
) -> list[Gap]:
    """Silences within the utterances ``spoken``; those touching ``ignore`` are left out.

    A dropout is at least one frame without sound that cuts into loud speech, or begins and ends on
    the 20 ms grid and ends abruptly: a speaker's own pause fades and knows no grid. Its kind is
    :attr:`GapKind.DROPOUT` whatever its length; a pause is listed from :data:`GAP_MS` on.
    """
    frame = frame_samples(rate)
    audio = np.frombuffer(pcm, "<i2")
    gaps: list[Gap] = []
    for utterance in spoken:
        speech = audio[utterance.start : utterance.end].astype(np.float64)
        silent = np.abs(speech) <= EMPTY_LEVEL
        if not len(speech) or silent.all():
            continue
        loud = EDGE_RATIO * float(np.sqrt(np.mean(speech[~silent] ** 2)))
        for run in _runs(silent):
            if len(run) < frame:
                continue
            span = Span(utterance.start + run.start, utterance.start + run.end)
            if any(span.overlaps(other) for other in ignore):
                continue
            if _is_dropout(speech, run, span, loud, rate):
                gaps.append(Gap(span, GapKind.DROPOUT))
            elif len(run) * 1000 > GAP_MS * rate:
                gaps.append(Gap(span, GapKind.PAUSE))
    return gaps


def _is_dropout(
    speech: npt.NDArray[np.float64], run: Span, span: Span, loud: float, rate: int
) -> bool:
    edge = rate * EDGE_MS // 1000
    frame = frame_samples(rate)
    before = speech[max(0, run.start - edge) : run.start]
    after = speech[run.end : run.end + edge]
    cuts_in = bool(len(before)) and float(np.max(np.abs(before))) >= loud
    starts = bool(len(after)) and float(np.max(np.abs(after))) >= loud
    # A frame's own first or last samples may be zero too, hence one sample either side.
    on_grid = all((edge_at + 1) % frame <= 2 for edge_at in (span.start, span.end))
    return cuts_in or (starts and on_grid)


def _runs(mask: npt.NDArray[np.bool_]) -> list[Span]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.view(np.int8), [0]))))
    return [Span(int(a), int(b)) for a, b in pairwise(edges)][::2]
