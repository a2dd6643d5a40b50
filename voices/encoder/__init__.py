"""Who is speaking: GE2E embeddings of recordings, and how alike two of them are.

Importing this costs no more than NumPy; the network's runtime is imported by
:meth:`SpeakerEncoder.load`.
"""

from ringtrue.voices.encoder.embeddings import DIMENSION, centroid, similarity
from ringtrue.voices.encoder.errors import (
    EncoderError,
    EncoderUnavailableError,
    NotEnoughSpeechError,
    UnusableAudioError,
)
from ringtrue.voices.encoder.speaker import SpeakerEncoder

__all__ = [
    "DIMENSION",
    "EncoderError",
    "EncoderUnavailableError",
    "NotEnoughSpeechError",
    "SpeakerEncoder",
    "UnusableAudioError",
    "centroid",
    "similarity",
]
