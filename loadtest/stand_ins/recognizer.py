"""A recognizer that is none: it knows the callers' prompts by their sound, and nothing else.

It costs next to nothing, so that what a run measures is the rest of the server; and it hears the
audio that truly came, so that a caller who wasn't heard isn't understood. An utterance is told
by the shape of its spectrum over time, in a few bands, against every prompt in every voice.

Named in a server's settings as a service of Pipecat's kind::

    stt: {engine: pipecat, service: "ringtrue.loadtest.stand_ins.recognizer:StandInRecognizer"}
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
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
PARTIAL_SECONDS: Final = 0.6
"""Audio from which there are partial texts, and between two of them."""


@dataclass(frozen=True)
class _Known:
    text: str
    shape: Features


def shape_of(pcm: bytes, rate: int) -> Features:
    """Level in dB of each band in each 40 ms, as far as it is above the floor. (frames, bands)"""
    size = round(rate * FRAME_SECONDS)
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    if not len(frames):
        return np.zeros((0, len(BANDS_HZ) - 1))
    power = np.abs(np.fft.rfft(frames * np.hanning(size))) ** 2
    hertz = np.fft.rfftfreq(size, 1 / rate)
    bands = [
        power[:, (hertz >= low) & (hertz < high)].sum(axis=1)
        for low, high in zip(BANDS_HZ, BANDS_HZ[1:], strict=False)
    ]
    levels = 10 * np.log10(np.stack(bands, axis=1) + 1e-9)
    above: Features = np.maximum(levels - (levels.max() - FLOOR_DB), 0.0)
    return above


def likeness(heard: Features, known: Features) -> float:
    """The best correlation, over delays, of ``known`` with as much of ``heard`` as there is."""
    best = -1.0
    for lag in range(min(MAX_LAG, max(1, len(heard) - MIN_FRAMES))):
        length = min(len(heard) - lag, len(known))
        if length < MIN_FRAMES:
            break
        a = heard[lag : lag + length] - heard[lag : lag + length].mean()
        b = known[:length] - known[:length].mean()
        scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
        # What is left over on either side speaks against it.
        share = length / max(len(known), 1)
        best = max(best, float((a * b).sum()) / scale * share if scale else -1.0)
    return best


@cache
def _library() -> tuple[_Known, ...]:
    return tuple(
        _Known(prompt.text, shape_of(prompt.pcm, prompt.rate))
        for voice in voices()
        for prompt in load_prompts(voice).values()
    )


class PromptStream:
    """One call's utterances; a :class:`~ringtrue.streaming.recognizers.port.RecognizerStream`."""

    def __init__(self, rate: int, seconds: float) -> None:
        """``seconds`` is how long a final text takes."""
        self._rate = rate
        self._seconds = seconds
        self._pcm = bytearray()
        self._looked = 0
        self._partial = ""

    async def start(self) -> None:
        """Open an utterance."""
        self._pcm.clear()
        self._looked, self._partial = 0, ""

    async def accept(self, pcm: bytes) -> str | None:
        """Take audio; a partial text where there is a new one."""
        self._pcm += pcm
        if len(self._pcm) - self._looked < 2 * self._rate * PARTIAL_SECONDS:
            return None
        self._looked = len(self._pcm)
        heard = shape_of(bytes(self._pcm), self._rate)
        best, score = max(
            ((known, likeness(heard, known.shape[: len(heard)])) for known in _library()),
            key=lambda found: found[1],
        )
        if score < PARTIAL_SCORE:
            return None
        words = best.text.split()
        said = words[: max(1, round(len(words) * min(1.0, len(heard) / len(best.shape))))]
        partial = " ".join(said)
        changed = partial != self._partial
        self._partial = partial
        return partial if changed else None

    async def finish(self) -> Transcript:
        """The prompt it is; no text where it is none."""
        await asyncio.sleep(self._seconds)
        heard = shape_of(bytes(self._pcm), self._rate)
        self._pcm.clear()
        return await asyncio.to_thread(recognize, heard)

    async def cancel(self) -> None:
        """Drop the utterance."""
        self._pcm.clear()

    async def close(self) -> None:
        """Nothing is held."""
        self._pcm.clear()


def recognize(heard: Features) -> Transcript:
    """The prompt that ``heard`` is most like, if it is like any."""
    scores: Mapping[str, float] = {}
    for known in _library():
        score = likeness(heard, known.shape)
        scores = {**scores, known.text: max(score, scores.get(known.text, -1.0))}
    text, best = max(scores.items(), key=lambda item: item[1])
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
        super().__init__(PromptRecognizer(final_ms / 1000), **kwargs)
