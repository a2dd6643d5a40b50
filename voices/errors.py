"""The exception tree of ``ringtrue.voices``.

::

    RingtrueError                  (ringtrue.streaming.errors)
    ├── SynthesisError             (ringtrue.streaming.errors)
    │   └── EngineUnavailableError a library or model the engine needs is missing or unfit
    └── CloningError               a voice can't be made of this speech, or spoken
        ├── EngineStateError       bytes that are no state of this engine
        ├── EngineBusyError        too many voices are being made already; try again later
        └── CloningAbortedError    making it crashed, took too long or was stopped
"""

from __future__ import annotations

from ringtrue.streaming.errors import RingtrueError, SynthesisError


class EngineUnavailableError(SynthesisError):
    """Something the engine needs is missing, of another version, or unreadable."""


class CloningError(RingtrueError):
    """A voice can't be made of this speech."""


class EngineStateError(CloningError):
    """The bytes are no state of this engine, or of another version of it."""


class EngineBusyError(CloningError):
    """As many voices as may are being made, or wait to be."""


class CloningAbortedError(CloningError):
    """Making the voice failed for no fault of the speech: a crash, a limit, a server's end."""
