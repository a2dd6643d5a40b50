"""A recognizer that is none: it knows the callers' prompts by their sound, and nothing else.

It costs next to nothing, so that what a run measures is the rest of the server; and it hears the
audio that truly came, so that a caller who wasn't heard isn't understood. An utterance is told
by the shape of its spectrum over time, in a few bands, against every prompt in every voice.

Named in a server's settings as a service of Pipecat's kind::

    stt: {engine: pipecat, service: "ringtrue.loadtest.stand_ins.recognizer:StandInRecognizer"}
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ringtrue.loadtest.prompts import load_prompts, voices
from ringtrue.streaming.recognizers.port import RecognizerStream, Transcript
from ringtrue.streaming.recognizers.service import StreamingRecognizer

Features = npt.NDArray[np.float64]

BANDS_HZ: Final = (200, 450, 700, 1000, 1400, 1900, 2500, 3300)
FRAME_SECONDS: Final = 0.04
FLOOR_DB: Final = 45.0
"""Below the loudest band: what is fainter counts as this faint."""

MAX_LAG: Final = 20
"""Frames by which an utterance may begin earlier than the prompt in it: pre-roll, noise."""

MIN_FRAMES: Final = 5

MIN_SCORE: Final = 0.6
"""Likeness, -1 to 1, from which a prompt is taken for recognized."""

PARTIAL_SCORE: Final = 0.75
FIRST_SECONDS: Final = 0.6
"""Audio from which there are partial texts."""

PARTIAL_SECONDS: Final = 0.12
"""Audio between two looks at them."""


def shape_of(pcm: bytes, rate: int) -> Features:
    """Level in dB of each band in each 40 ms, as far as it is above the floor. (frames, bands)"""
    return above_floor(levels_of(pcm, rate))


def levels_of(pcm: bytes, rate: int) -> Features:
    """Level in dB of each band in each whole 40 ms. (frames, bands)"""
    window, bands = _analysis(rate)
    size = len(window)
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    spectra = np.fft.rfft(frames * window)
    levels: Features = 10 * np.log10((spectra.real**2 + spectra.imag**2) @ bands + 1e-9)
    return levels


def above_floor(levels: Features) -> Features:
    """How far each level is above the floor, which the loudest of them sets. Same shape."""
    above: Features = np.maximum(levels - (levels.max(initial=-np.inf) - FLOOR_DB), 0.0)
    return above


@cache
def _analysis(rate: int) -> tuple[Features, Features]:
    """A frame's window, and which of its frequencies are in which band, (bins, bands)."""
    size = round(rate * FRAME_SECONDS)
    hertz = np.fft.rfftfreq(size, 1 / rate)[:, None]
    within = (hertz >= np.array(BANDS_HZ[:-1])) & (hertz < np.array(BANDS_HZ[1:]))
    return np.hanning(size), within.astype(np.float64)


class Library:
    """Known prompts, laid out so that all of them are compared at once."""

    def __init__(self, prompts: Sequence[tuple[str, Features]]) -> None:
        """Texts and their shapes."""
        self.texts = [text for text, _ in prompts]
        self.lengths = np.array([len(shape) for _, shape in prompts])
        self._frames = int(self.lengths.max())
        self._bands = prompts[0][1].shape[1]
        shapes = np.zeros((len(prompts), self._frames, self._bands))
        for index, (_, shape) in enumerate(prompts):
            shapes[index, : len(shape)] = shape
        self._flat = shapes.reshape(len(prompts), -1).T
        self._sums, self._squares = _running(shapes), _running(shapes**2)

    def scores(self, heard: Features, *, begun: bool = False) -> Features:
        """For each prompt the best correlation, over delays, with ``heard``. (prompts,)

        -1 to 1; what is left over on either side speaks against it, unless ``begun``: what would
        come after ``heard`` doesn't. -1 for what is too short to tell.
        """
        heard = heard[: self._frames + MAX_LAG]
        lags = np.arange(min(MAX_LAG, max(1, len(heard) - MIN_FRAMES)))
        wanted = np.minimum(self.lengths, len(heard)) if begun else self.lengths
        length = np.minimum(len(heard) - lags[:, None], wanted)
        told = length >= MIN_FRAMES
        if not told.any():
            return np.full(len(self.texts), -1.0)
        room = np.zeros((self._frames + MAX_LAG, self._bands))
        room[: len(heard)] = heard
        # Behind what was heard there is nothing to multiply.
        some = min(len(heard), self._frames)
        delayed = np.stack([room[lag : lag + some].ravel() for lag in lags])
        ours, ours_squared = _running(room[None])[0], _running(room[None] ** 2)[0]
        end = lags[:, None] + np.maximum(length, 0)
        here, which = np.maximum(length, 0), np.arange(len(self.texts))
        count = np.maximum(here, 1) * self._bands
        a, b = ours[end] - ours[lags][:, None], self._sums[which, here]
        aa = ours_squared[end] - ours_squared[lags][:, None] - a * a / count
        bb = self._squares[which, here] - b * b / count
        scale = np.sqrt(np.maximum(aa, 0) * np.maximum(bb, 0))
        together = delayed @ self._flat[: some * self._bands] - a * b / count
        score = together / np.where(scale > 1e-9, scale, np.inf) * length / np.maximum(wanted, 1)
        best: Features = np.where(told & (scale > 1e-9), score, -1.0).max(axis=0)
        return best


def _running(shapes: Features) -> Features:
    """Sums of the first 0, 1, 2 … frames, all bands together. (n, frames + 1)"""
    sums: Features = np.zeros((shapes.shape[0], shapes.shape[1] + 1))
    np.cumsum(shapes.sum(axis=2), axis=1, out=sums[:, 1:])
    return sums


@cache
def _library() -> Library:
    return Library(
        [
            (prompt.text, shape_of(prompt.pcm, prompt.rate))
            for voice in voices()
            for prompt in load_prompts(voice).values()
        ]
    )


class PromptStream:
    """One call's utterances; a :class:`~ringtrue.streaming.recognizers.port.RecognizerStream`."""

    def __init__(self, rate: int, seconds: float) -> None:
        """``seconds`` is how long a final text takes."""
        self._rate = rate
        self._seconds = seconds
        self._frame = 2 * round(rate * FRAME_SECONDS)
        self._rest = bytearray()
        self._levels: list[Features] = []
        self._bytes = self._looked = 0
        self._partial = ""

    async def start(self) -> None:
        """Open an utterance."""
        self._forget()
        self._looked, self._partial = 0, ""

    async def accept(self, pcm: bytes) -> str | None:
        """Take audio; a partial text where there is a new one."""
        self._rest += pcm
        self._bytes += len(pcm)
        due = self._looked / 2 / self._rate + PARTIAL_SECONDS
        if self._bytes / 2 / self._rate < max(FIRST_SECONDS, due):
            return None
        self._looked = self._bytes
        heard = self._shape()
        library = _library()
        scores = library.scores(heard, begun=True)
        best = int(scores.argmax())
        if scores[best] < PARTIAL_SCORE:
            return None
        words = library.texts[best].split()
        said = words[: max(1, round(len(words) * min(1.0, len(heard) / library.lengths[best])))]
        partial = " ".join(said)
        changed = partial != self._partial
        self._partial = partial
        return partial if changed else None

    async def finish(self) -> Transcript:
        """The prompt it is; no text where it is none."""
        await asyncio.sleep(self._seconds)
        heard = self._shape()
        self._forget()
        return recognize(heard)

    async def cancel(self) -> None:
        """Drop the utterance."""
        self._forget()

    async def close(self) -> None:
        """Nothing is held."""
        self._forget()

    def _forget(self) -> None:
        self._rest.clear()
        self._levels.clear()
        self._bytes = 0

    def _shape(self) -> Features:
        """Of the utterance so far; only what is new of it is analysed."""
        whole = len(self._rest) // self._frame * self._frame
        self._levels.append(levels_of(bytes(self._rest[:whole]), self._rate))
        del self._rest[:whole]
        return above_floor(np.concatenate(self._levels))


def recognize(heard: Features) -> Transcript:
    """The prompt that ``heard`` is most like, if it is like any."""
    library = _library()
    scores = library.scores(heard)
    found = int(scores.argmax())
    text, best = library.texts[found], float(scores[found])
    if best < MIN_SCORE:
        return Transcript("", max(0.0, best), rejected=best > 0.3)
    return Transcript(text, best)


class PromptRecognizer:
    """The engine; a :class:`~ringtrue.streaming.recognizers.port.Recognizer`."""

    name: Final = "stand-in prompts"
    finish_p99: Final = 0.2

    def __init__(self, seconds: float) -> None:
        """``seconds`` is how long a final text takes."""
        self._seconds = seconds

    async def load(self) -> None:
        """Read the prompts."""
        await asyncio.to_thread(_library)

    def open(self, rate: int) -> RecognizerStream:
        """A stream for one call."""
        return PromptStream(rate, self._seconds)

    async def close(self) -> None:
        """Nothing is held."""


class StandInRecognizer(StreamingRecognizer):
    """The stand-in as a service of the graph."""

    def __init__(self, *, final_ms: float = 60.0, **kwargs: Any) -> None:
        """``final_ms`` is how long a final text takes from the end of the speech."""
        _library()
        super().__init__(PromptRecognizer(float(final_ms) / 1000), **kwargs)
