"""Evidence for the tests of the checks: speech by flite, and what is done to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import soxr
from speech import say

from ringtrue.voices.consent.challenge import Challenge
from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.recording import Recording

RATE = 16000
Audio = npt.NDArray[np.float32]

TEXTS = (
    "The harbour was quiet that morning, and the boats lay still on the grey water.",
    "Seven lemons, a loaf of bread and two candles, she said, would have to be enough.",
    "Nobody at the station could tell us when the next train to the mountains would leave.",
)


def spoken(text: str = TEXTS[0], voice: str = "rms") -> Audio:
    """``text`` at 16 kHz with a quiet room around and under it."""
    samples = say(text, RATE, voice).astype(np.float32) / 32768
    quiet = np.zeros(RATE // 2, np.float32)
    return with_noise(np.concatenate([quiet, samples, quiet]), -62.0)


def with_noise(samples: Audio, dbfs: float, seed: int = 3) -> Audio:
    """White noise of an effective value added."""
    added = np.random.default_rng(seed).normal(0, 10 ** (dbfs / 20), len(samples))
    return (samples + added).astype(np.float32)


def sped(samples: Audio, factor: float) -> Audio:
    """Played ``factor`` times as fast."""
    faster: Audio = soxr.resample(samples, RATE * factor, RATE).astype(np.float32)
    return faster


def in_room(samples: Audio, seconds: float = 0.35, direct: float = 6.0, seed: int = 5) -> Audio:
    """With a decaying noise as the room's response, ``direct`` dB under the direct sound."""
    n = int(seconds * RATE)
    tail = np.random.default_rng(seed).normal(size=n) * 10 ** (-3 * np.arange(n) / n)
    tail *= 10 ** (-direct / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    size = len(samples) + n
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)
    return (0.7 * wet[: len(samples)]).astype(np.float32)


def recording(samples: Audio) -> Recording:
    """``samples`` as if read from a WAV file."""
    return Recording(samples, RATE, 1, "pcm_s16le", 0.0, 8000.0, "00" * 32)


def evidence(statement: Audio, speech: Audio, earlier: Sequence[bytes] = ()) -> Evidence:
    """Evidence of two recordings; the speaker's embeddings say nothing."""
    challenge = Challenge(
        "0" * 32,
        "default",
        "Ada",
        "tests",
        (1, 2, 3),
        ("amber", "river"),
        datetime(2030, 1, 1, tzinfo=UTC),
    )
    windows = np.full((1, 256), 1 / 16, np.float32)
    return Evidence(
        challenge, recording(statement), recording(speech), windows, windows, tuple(earlier)
    )
