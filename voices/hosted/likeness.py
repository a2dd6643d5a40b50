"""Whether a vendor's voice is the enrolled speaker's: it is made to speak, and listened to.

Consent is given for one's own voice. Engines that make a voice of the enrolment speech can't make
another's; a vendor's id could name anybody's.
"""

from __future__ import annotations

import asyncio
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.encoder import SpeakerEncoder, similarity
from ringtrue.voices.encoder.errors import EncoderError
from ringtrue.voices.engine import SPEECH_RATE, PreparedVoice, Speech
from ringtrue.voices.errors import CloningError

LIKENESS: Final = 0.8
"""GE2E cosine that the vendor's voice must have with the enrolment speech.

Clones that are used are at 0.80 to 0.90 to their speakers, other speakers mostly under 0.75: it
keeps strangers out, not every one who sounds alike.
"""

SENTENCES: Final = (
    "Good morning, and thank you for calling.",
    "The office is open from nine to five, and on Saturdays until noon.",
    "Please tell me what I can do for you today.",
)
SECONDS: Final = 60.0
"""How long the service may take to say them."""


async def check_likeness(voice: PreparedVoice, speech: Speech) -> float:
    """The likeness of ``voice`` and the speaker of ``speech``.

    Raises :class:`~ringtrue.voices.errors.CloningError` where it is under :data:`LIKENESS` or
    can't be told, :class:`~ringtrue.streaming.errors.SynthesisError` where the voice can't speak.
    """
    stream = voice.open(SPEECH_RATE)
    for sentence in SENTENCES:
        stream.feed(sentence)
    stream.finish()
    pieces = []
    try:
        async with asyncio.timeout(SECONDS):
            async for chunk in stream.frames():
                pieces.append(chunk.pcm)
    except TimeoutError:
        raise CloningError(f"the vendor's voice took more than {SECONDS:g} s to speak") from None
    finally:
        stream.cut()
    heard = np.frombuffer(b"".join(pieces), "<i2")
    found = await asyncio.to_thread(_likeness, heard, speech.samples)
    if found < LIKENESS:
        raise CloningError(
            f"the vendor's voice isn't the speaker's: its likeness to the enrolment speech is "
            f"{found:.2f}, and must be {LIKENESS:.2f} or more"
        )
    return found


def _likeness(heard: npt.NDArray[np.int16], speech: npt.NDArray[np.float32]) -> float:
    encoder = SpeakerEncoder.load()
    try:
        return similarity(encoder.embed(heard, SPEECH_RATE), encoder.embed(speech, SPEECH_RATE))
    except EncoderError as error:
        raise CloningError(f"the vendor's voice can't be compared: {error}") from None
