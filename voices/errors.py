"""The exception tree of ``ringtrue.voices``.

::

    RingtrueError                  (ringtrue.streaming.errors)
    ├── SynthesisError             (ringtrue.streaming.errors)
    │   └── EngineUnavailableError a library or model the engine needs is missing or unfit
    └── CloningError               a voice can't be made of this speech, or spoken
        └── EngineStateError       bytes that are no state of this engine
"""

from __future__ import annotations

from ringtrue.streaming.errors import RingtrueError, SynthesisError


class EngineUnavailableError(SynthesisError):
    """Something the engine needs is missing, of another version, or unreadable."""


class CloningError(RingtrueError):
    """A voice can't be made of this speech."""


class EngineStateError(CloningError):
    """The bytes are no state of this engine, or of another version of it."""
