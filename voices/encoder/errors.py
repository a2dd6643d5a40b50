"""The exception tree of ``ringtrue.voices.encoder``.

::

    RingtrueError                      (ringtrue.streaming.errors)
    └── EncoderError
        ├── EncoderUnavailableError    the network is missing, damaged or can't run here
        └── UnusableAudioError         audio of the wrong kind
            └── NotEnoughSpeechError   silent, or too little speech to tell a speaker
"""

from __future__ import annotations

from ringtrue.streaming.errors import RingtrueError


class EncoderError(RingtrueError):
    """Base of what the speaker encoder raises."""


class EncoderUnavailableError(EncoderError):
    """The network's file is missing or damaged, or this machine can't run it."""


class UnusableAudioError(EncoderError):
    """The samples are not what :meth:`SpeakerEncoder.embed` takes; the message says why."""


class NotEnoughSpeechError(UnusableAudioError):
    """The audio is silent or holds too little speech."""

    def __init__(self, reason: str, *, found: float, needed: float) -> None:
        """``found`` and ``needed`` are seconds of speech."""
        super().__init__(reason)
        self.found = found
        self.needed = needed
