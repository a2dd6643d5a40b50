"""The exception tree of ``ringtrue.voices``.

::

    SynthesisError                 (ringtrue.streaming.errors)
    └── EngineUnavailableError     a library or model the engine needs is missing or unfit
"""

from __future__ import annotations

from ringtrue.streaming.errors import SynthesisError


class EngineUnavailableError(SynthesisError):
    """Something the engine needs is missing, of another version, or unreadable."""
