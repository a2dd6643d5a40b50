"""What is said to fill the time, told apart from an answer."""

from __future__ import annotations

from dataclasses import dataclass

from pipecat.frames.frames import TTSSpeakFrame


@dataclass
class FillerFrame(TTSSpeakFrame):
    """Said to fill the time until the answer, whoever says it."""
