"""What a recognizer is to the graph: a stream per call, one utterance after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Transcript:
    """The outcome of one utterance."""

    text: str
    """Words as recognized; empty where nothing was, or where it was not credible."""

    confidence: float
    """0 to 1: the engine's own estimate that the text is right. Engines are not comparable."""

    rejected: bool = False
    """True where words were found and dropped because of their confidence."""


@runtime_checkable
class Pulsed(Protocol):
    """A stream, of a recognizer or a synthesizer, that knows whether its engine still works."""

    @property
    def alive(self) -> bool:
        """The engine has answered lately: what it owes is late, not lost."""
        ...


class RecognizerStream(Protocol):
    """One call's recognizer. Utterances follow each other; only one is open at a time."""

    async def start(self) -> None:
        """Open an utterance; one still open is cancelled.

        Raises :class:`~ringtrue.streaming.errors.RecognizerError` when overloaded or down.
        """
        ...

    async def accept(self, pcm: bytes) -> str | None:
        """Take 16-bit mono PCM at the stream's rate; never waits for the recognition.

        Returns the partial text if it changed since the last call, else None. Raises
        :class:`~ringtrue.streaming.errors.RecognizerError` when the utterance has failed; the
        next :meth:`start` begins afresh.
        """
        ...

    async def finish(self) -> Transcript:
        """No more audio: wait for the final text. Raises as :meth:`accept` does."""
        ...

    async def cancel(self) -> None:
        """Drop the open utterance, if any. Never raises."""
        ...

    async def close(self) -> None:
        """The call is over: cancel and release everything. Idempotent, never raises."""
        ...


class Recognizer(Protocol):
    """An engine, loaded once, serving many calls at once off the event loop."""

    @property
    def name(self) -> str:
        """Engine and model, safe to log."""
        ...

    @property
    def finish_p99(self) -> float:
        """Seconds :meth:`RecognizerStream.finish` takes at the 99th percentile when not queued."""
        ...

    async def load(self) -> None:
        """Load everything, so that the first call pays nothing. Idempotent.

        Raises :class:`~ringtrue.streaming.errors.RecognizerError` naming what is missing.
        """
        ...

    def open(self, rate: int) -> RecognizerStream:
        """A stream for one call whose PCM comes at ``rate`` Hz (8000 or 16000).

        Raises ``ValueError`` for another rate.
        """
        ...

    async def close(self) -> None:
        """Release the engine. Idempotent."""
        ...
