"""Everything the checks of one enrolment look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ringtrue.voices.consent.challenge import Challenge
from ringtrue.voices.encoder.embeddings import DIMENSION, Embedding, centroid
from ringtrue.voices.encoder.errors import NotEnoughSpeechError
from ringtrue.voices.encoder.speaker import SpeakerEncoder
from ringtrue.voices.engine import SPEECH_RATE
from ringtrue.voices.enrolment.recording import Recording
from ringtrue.voices.watermark.keys import DetectionKey


@dataclass(frozen=True, slots=True)
class Evidence:
    """A challenge, what was recorded for it, and what was recorded before."""

    challenge: Challenge
    statement: Recording
    """The challenge as read out."""

    speech: Recording
    """The body: 5 to 30 s of the speaker's own speech."""

    statement_windows: Embedding = field(repr=False)
    """GE2E of each 1.6 s of the statement's speech, shape ``(windows, 256)``, unit norm; no
    window where it holds under 1.2 s of speech."""

    speech_windows: Embedding = field(repr=False)
    """The same of the body."""

    earlier: Sequence[bytes] = field(default=(), repr=False)
    """Fingerprints of the tenant's earlier statements and bodies."""

    marks: Sequence[DetectionKey] = field(default=(), repr=False)
    """What finds this installation's own watermark."""

    @property
    def statement_embedding(self) -> Embedding:
        """The statement's speaker, shape ``(256,)``, unit norm; ``ValueError`` for no window."""
        return centroid(self.statement_windows)

    @property
    def speech_embedding(self) -> Embedding:
        """The body's speaker, shape ``(256,)``, unit norm; ``ValueError`` for no window."""
        return centroid(self.speech_windows)


def gather(
    challenge: Challenge,
    statement: Recording,
    speech: Recording,
    encoder: SpeakerEncoder,
    earlier: Sequence[bytes] = (),
    marks: Sequence[DetectionKey] = (),
) -> Evidence:
    """Evidence with the recordings' embeddings. Blocking, some 60 ms of CPU."""
    return Evidence(
        challenge,
        statement,
        speech,
        _windows(encoder, statement),
        _windows(encoder, speech),
        tuple(earlier),
        tuple(marks),
    )


def _windows(encoder: SpeakerEncoder, recording: Recording) -> Embedding:
    try:
        return encoder.embed_windows(recording.samples, SPEECH_RATE)
    except NotEnoughSpeechError:
        return np.zeros((0, DIMENSION), np.float32)
