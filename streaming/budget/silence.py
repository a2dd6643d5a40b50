"""Silence of the agent while it owes an answer: measured at the wire, every 20 ms.

More than :data:`LIMIT` of it is a failure with a cause, whatever the ladder did about it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

LIMIT: Final = 1.5
"""Seconds of silence that need an explanation."""


@dataclass(slots=True)
class UnexplainedSilence:
    """One of them, to its end."""

    at: float
    """Loop time at which it began."""

    cause: str
    """What held the answer up: ``recognizer``, ``llm``, ``tts`` or ``gate``."""

    turn: int | None
    """Index of the turn that was to be answered."""

    seconds: float = 0.0

    def as_dict(self, answered_at: float) -> dict[str, Any]:
        """JSON-ready, in milliseconds since the call was answered."""
        return {
            "at_ms": round((self.at - answered_at) * 1000, 1),
            "ms": round(self.seconds * 1000, 1),
            "cause": self.cause,
            "turn": self.turn,
        }


class SilenceMeter:
    """One call's."""

    __slots__ = (
        "_cause",
        "_heard_at",
        "_limit",
        "_on_silence",
        "_open",
        "_owed_since",
        "_turn",
        "on_speech",
        "utterances",
    )

    def __init__(
        self, on_silence: Callable[[UnexplainedSilence], None], *, limit: float = LIMIT
    ) -> None:
        """``on_silence`` is told as soon as a silence is too long; it grows afterwards."""
        self._on_silence = on_silence
        self._limit = limit
        self._owed_since: float | None = None
        self._heard_at = float("-inf")
        self._cause: Callable[[], str] = _unknown
        self._turn: int | None = None
        self._open: UnexplainedSilence | None = None
        self.utterances = 0
        """Begun since an answer was owed."""

        self.on_speech: Callable[[float, int], None] | None = None
        """Told, while an answer is owed, when the agent is audible, and :attr:`utterances`."""

    @property
    def owed(self) -> bool:
        """Whether an answer is owed."""
        return self._owed_since is not None

    def owe(self, since: float, cause: Callable[[], str], turn: int | None = None) -> None:
        """An answer is owed since loop time ``since``; ``cause`` says what holds it up."""
        self._owed_since, self._cause, self._turn = since, cause, turn
        self._open = None
        self.utterances = 0

    def settle(self) -> None:
        """Nothing is owed any more."""
        self._owed_since = self._open = None

    def rest(self, now: float) -> None:
        """The call rests at ``now``: what is silent then is silent by design."""
        self._heard_at = now
        self._open = None
        if self._owed_since is not None and self.on_speech is not None:
            self.on_speech(now, 0)

    def tick(self, now: float, audible: bool, *, began: bool = False) -> None:
        """20 ms at ``now``: whether the agent was heard in them, and an utterance began."""
        if audible:
            self._heard_at = now
            self.utterances += began
            self._open = None
            if self._owed_since is not None and self.on_speech is not None:
                self.on_speech(now, self.utterances)
            return
        if self._owed_since is None:
            return
        since = max(self._owed_since, self._heard_at)
        if self._open is not None:
            self._open.seconds = now - since
        elif now - since > self._limit:
            self._open = UnexplainedSilence(since, self._cause(), self._turn, now - since)
            self._on_silence(self._open)


def _unknown() -> str:
    return "unknown"
