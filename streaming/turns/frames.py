"""What the listener tells of speech besides Pipecat's two VAD frames."""

from __future__ import annotations

from dataclasses import dataclass

from pipecat.frames.frames import SystemFrame


@dataclass
class SpeechHintFrame(SystemFrame):
    """Speech may have begun: less of it than confirms it."""


@dataclass
class SpeechDismissedFrame(SystemFrame):
    """What was hinted at did not become speech."""


@dataclass
class SpeechPausedFrame(SystemFrame):
    """A pause inside speech, shorter than what ends it."""


@dataclass
class SpeechResumedFrame(SystemFrame):
    """It was a pause: the caller goes on."""
