"""Settings of the echo canceller."""

from __future__ import annotations

from ringtrue.config.section import Section


class EchoSettings(Section):
    """What is done about the agent's voice coming back over the line."""

    cancel: bool = True
    """Look for it, and take it out of what the agent hears, where libspeexdsp is there."""
