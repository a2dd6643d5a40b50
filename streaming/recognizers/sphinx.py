"""PocketSphinx as a recognizer: small vocabularies, offline, a few percent of a core per call."""

from __future__ import annotations

import contextlib
from typing import Final

import structlog

from ringtrue.streaming.errors import RecognizerError
from ringtrue.streaming.recognizers.grammar import Grammar, GrammarReport
from ringtrue.streaming.recognizers.pool import OpenUtterance, WorkerPool
from ringtrue.streaming.recognizers.port import Transcript

_log = structlog.get_logger(__name__)

MIRROR_GAIN: Final = 0.5
"""Gain of the band's mirror image for 8 kHz calls; see :mod:`.band`."""

MIN_CONFIDENCE: Final = 0.4
"""Below this a text under a vocabulary is dropped as speech from outside it."""

_BLOCK_SECONDS: Final = 0.12
"""Audio is sent in blocks of at least this: partials are looked at no more often, and each message
costs the loop a system call and the worker a wake-up."""


class SphinxRecognizer:
    """One grammar's recognizer on a pool that agents share."""

    def __init__(
        self,
        grammar: Grammar,
        pool: WorkerPool,
        *,
        min_confidence: float | None = None,
        mirror_gain: float = MIRROR_GAIN,
    ) -> None:
        """``min_confidence`` defaults to :data:`MIN_CONFIDENCE` with a vocabulary, else to 0.

        ``mirror_gain`` is used for 8 kHz streams. Closing the recognizer leaves the pool open.
        Raises ``ValueError`` for either outside 0-1.
        """
        if min_confidence is None:
            min_confidence = MIN_CONFIDENCE if grammar.kind == "vocabulary" else 0.0
        for name, value in (("min_confidence", min_confidence), ("mirror_gain", mirror_gain)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must lie in 0..1, got {value}")
        self.grammar = grammar
        self.pool = pool
        self.min_confidence = min_confidence
        self.mirror_gain = mirror_gain
        self.report: GrammarReport | None = None
        """What loading found; None before."""

    @property
    def name(self) -> str:
        """``pocketsphinx`` and the kind of grammar."""
        return f"pocketsphinx/{self.grammar.kind}"

    @property
    def finish_p99(self) -> float:
        """Upper bounds: measured on one core 0.04-0.05 s with a vocabulary, 0.37 s without."""
        return 0.1 if self.grammar.kind in ("vocabulary", "jsgf") else 0.5

    async def load(self) -> None:
        """Start the pool if need be and load the grammar.

        Raises :class:`~ringtrue.streaming.errors.RecognizerError` for a grammar that can't load.
        """
        if self.report is not None:
            return
        self.report = await self.pool.load(self.grammar)
        if self.report.guessed:
            _log.warning(
                "pronunciations_guessed",
                grammar=self.grammar.key,
                words=dict(sorted(self.report.guessed.items())),
            )

    def open(self, rate: int) -> SphinxStream:
        """A call's stream at ``rate`` Hz; raises ``ValueError`` unless 8000 or 16000."""
        if rate not in (8000, 16000):
            raise ValueError(f"rate must be 8000 or 16000 Hz, got {rate}")
        return SphinxStream(self, rate)

    async def close(self) -> None:
        """Nothing of its own to release; the pool belongs to all agents."""


class SphinxStream:
    """One call's stream; the cepstral mean is carried from utterance to utterance."""

    def __init__(self, recognizer: SphinxRecognizer, rate: int) -> None:
        """Made by :meth:`SphinxRecognizer.open`."""
        self._recognizer = recognizer
        self._rate = rate
        self._block = int(2 * rate * _BLOCK_SECONDS)
        self._buffer = b""
        self._utterance: OpenUtterance | None = None
        self._shown = ""
        self._cmn: str | None = None

    @property
    def alive(self) -> bool:
        """Whether the process that decodes has answered lately."""
        return self._utterance is not None and self._utterance.alive

    async def start(self) -> None:
        """Open an utterance. Raises :class:`RecognizerError` when full or down."""
        await self.cancel()
        self._shown = ""
        self._utterance = await self._recognizer.pool.start(
            self._recognizer.grammar.key,
            self._rate,
            mirror=self._recognizer.mirror_gain,
            cmn=self._cmn,
        )

    async def accept(self, pcm: bytes) -> str | None:
        """Take audio; returns the partial text if it changed. Raises :class:`RecognizerError`."""
        utterance = self._opened()
        self._buffer += pcm
        if len(self._buffer) >= self._block:
            block, self._buffer = self._buffer, b""
            try:
                utterance.accept(block)
            except RecognizerError:
                await self.cancel()
                raise
        if utterance.partial == self._shown:
            return None
        self._shown = utterance.partial
        return self._shown

    async def finish(self) -> Transcript:
        """Wait for the final text. Raises :class:`RecognizerError`."""
        utterance = self._opened()
        try:
            if self._buffer:
                utterance.accept(self._buffer)
            final = await utterance.finish()
        finally:
            self._utterance, self._buffer = None, b""
        self._cmn = final.cmn
        if final.text and final.confidence < self._recognizer.min_confidence:
            return Transcript("", final.confidence, rejected=True)
        return Transcript(final.text, final.confidence)

    def _opened(self) -> OpenUtterance:
        if self._utterance is None:
            raise RecognizerError("no utterance is open: start one first")
        return self._utterance

    async def cancel(self) -> None:
        """Drop the open utterance, if any."""
        utterance, self._utterance, self._buffer = self._utterance, None, b""
        if utterance is not None:
            with contextlib.suppress(RecognizerError):
                utterance.cancel()

    async def close(self) -> None:
        """Cancel; nothing else is held."""
        await self.cancel()
