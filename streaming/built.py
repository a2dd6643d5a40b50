"""How what a tick goes through was built: figures are worth little without it."""

from __future__ import annotations

from ringtrue.streaming import session


def media_built() -> str:
    """``media compiled`` or ``media not compiled``, as figures are told with."""
    return "media not compiled" if session.__file__.endswith(".py") else "media compiled"
