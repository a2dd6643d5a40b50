"""The exception tree of ``ringtrue.streaming``.

::

    RingtrueError
    ├── GateError                 a frame or a mint that did not come from the gate
    ├── GraphError                a graph that can't be built or run
    ├── RecognizerError           a recognizer that can't load or has failed
    ├── LanguageError             an LLM hook that can't load or has failed
    └── SynthesisError            an engine that can't speak
        └── UnknownVoiceError     the voice is not one of the engine's
"""

from __future__ import annotations

from collections.abc import Iterable


class RingtrueError(Exception):
    """Base of every error this project raises on purpose."""


class GateError(RingtrueError):
    """A frame did not come from the gate."""


class GraphError(RingtrueError):
    """The graph can't be built or run."""


class RecognizerError(RingtrueError):
    """A recognizer can't load or has failed."""


class LanguageError(RingtrueError):
    """An LLM hook can't load or has failed."""


class SynthesisError(RingtrueError):
    """An engine can't speak."""


class UnknownVoiceError(SynthesisError):
    """The voice is not one of the engine's."""

    def __init__(self, voice: str, known: Iterable[str]) -> None:
        """Name the voice asked for and the ones there are."""
        super().__init__(f"unknown voice {voice!r}; this engine has: {', '.join(sorted(known))}")
        self.voice = voice
