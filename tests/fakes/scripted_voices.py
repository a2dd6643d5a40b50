"""Voices whose every sample says who spoke which word, and a licence to take away."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

import numpy as np

from fakes.scripted_stream import ScriptedStream
from ringtrue.streaming.errors import SynthesisError, UnknownVoiceError
from ringtrue.streaming.gate import SealedFrame
from ringtrue.streaming.ports import Licence, SpeechChunk, SynthesisStream, WordMark

WORD = 1600
"""Samples of every word: 200 ms at 8 kHz."""

CHUNK = 700
STOCK, CLONED = 1000, 10000
"""What is added to a word's number in its samples."""


class ScriptedLicence:
    """Holds until told otherwise."""

    voice = "v_" + "0" * 32
    consent = "c" * 32

    def __init__(self) -> None:
        self.good = True

    def holds(self, now: float) -> bool:
        return self.good


class NumberedStream(ScriptedStream):
    """Says ``w7`` as 1600 samples of 7 more than the voice's own number."""

    def __init__(self, base: int, licence: Licence | None, work: float) -> None:
        super().__init__(work)
        self._base, self._licence = base, licence

    def say(self, phrase: str, said: int) -> Iterator[SpeechChunk]:
        if "broken" in phrase and self._base == CLONED:
            raise SynthesisError("the engine broke")
        words = re.sub(r"<[^>]*>", "", phrase).split()
        marks = [WordMark(word, said + WORD * n) for n, word in enumerate(words, 1)]
        pcm = b"".join(np.full(WORD, self._base + number(w), "<i2").tobytes() for w in words)
        for start in range(0, len(pcm), 2 * CHUNK):
            piece = pcm[start : start + 2 * CHUNK]
            end = said + (start + len(piece)) // 2
            inside = tuple(mark for mark in marks if end - len(piece) // 2 < mark.end <= end)
            last = start + len(piece) == len(pcm)
            yield SpeechChunk(piece, inside, phrase_end=last, licence=self._licence)


def number(word: str) -> int:
    """7 of ``w7,``."""
    digits = re.sub(r"\D", "", word)
    return int(digits) if digits else 0


class NumberedEngine:
    """The stock voice."""

    name = "numbered"
    voices = ("stock",)
    speaks_markup = True

    def __init__(self, work: float = 0.002) -> None:
        self.work = work
        self.streams: list[NumberedStream] = []

    async def warm(self) -> None:
        """Nothing to load."""

    def open(self, voice: str, rate: int) -> SynthesisStream:
        if voice not in self.voices:
            raise UnknownVoiceError(voice, self.voices)
        self.streams.append(NumberedStream(STOCK, None, self.work))
        return self.streams[-1]

    async def close(self) -> None:
        """Nothing to release."""


class ScriptedVoice:
    """The cloned voice of one call; implements ``LicensedVoice``."""

    speaks_markup = True

    def __init__(self, work: float = 0.002, *, licensed: bool = True) -> None:
        """Without ``licensed`` its chunks lack what they must carry."""
        self.licence = ScriptedLicence()
        self._carried = self.licence if licensed else None
        self.work = work
        self.lost = False
        self._callbacks: list[Callable[[str], None]] = []

    def open(self, rate: int) -> SynthesisStream:
        if self.lost:
            raise SynthesisError("the voice may not speak")
        return NumberedStream(CLONED, self._carried, self.work)

    def on_lost(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)

    def lose(self, reason: str = "withdrawn") -> None:
        """The consent is gone."""
        self.licence.good, self.lost = False, True
        for callback in self._callbacks:
            callback(reason)


def said(frames: Iterable[SealedFrame]) -> list[tuple[int, int, int]]:
    """Runs of equal samples as ``(voice, word, samples)``; silence left out."""
    pcm = np.frombuffer(b"".join(frame.pcm for frame in frames), "<i2")
    runs = ((int(value), sum(1 for _ in run)) for value, run in groupby(pcm.tolist()))
    return [
        (CLONED if value >= CLONED else STOCK, value % 1000, count)
        for value, count in runs
        if value
    ]
