"""What every server of the comparison shares: a recognizer and a synthesizer that cost nothing.

Both wait as long as good hosted services do, and neither computes. The synthesizer "speaks" a
steady tone whose frequency numbers the utterance, so that a caller who hears it knows which one
it is, and writes a line with the number and the time at which it was handed the text: time to
first audio is measured from that time to the caller's ear. Times are CLOCK_MONOTONIC, which
all processes of a machine share.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

RECOGNIZER_SECONDS: Final = 0.05
"""From the end of the caller's speech, as the server sees it, to the final text."""

SYNTHESIZER_SECONDS: Final = 0.04
"""From the text to the first audio."""

CHUNK_SECONDS: Final = 0.1
"""Audio comes in chunks of this length, each as soon as the one before it was taken."""

SECONDS_PER_CHARACTER: Final = 0.045
TRANSCRIPT: Final = "What are your opening hours, please?"

LOWEST_HZ: Final = 400.0
STEP_HZ: Final = 12.5
TONES: Final = 128
"""Utterances are numbered modulo this; the highest tone is at 1,987.5 Hz."""

AMPLITUDE: Final = 6000

_numbers = itertools.count(os.getpid() % TONES)


def begin_utterance(text: str) -> tuple[int, int]:
    """Note that ``text`` is to be spoken now: the utterance's number and its samples at 8 kHz."""
    number = next(_numbers) % TONES
    seconds = max(0.6, len(text) * SECONDS_PER_CHARACTER)
    with Path(os.environ["STANDIN_LOG"]).open("a") as log:
        log.write(f"{number} {time.monotonic():.6f} {seconds:.3f}\n")
    return number, round(seconds * 8000)


def tone(number: int, start: int, samples: int, rate: int) -> npt.NDArray[np.int16]:
    """``samples`` of utterance ``number`` at ``rate`` Hz, from sample ``start`` on."""
    angle = 2 * np.pi * (LOWEST_HZ + STEP_HZ * number) / rate * np.arange(start, start + samples)
    return (AMPLITUDE * np.sin(angle)).astype(np.int16)


def number_of(pcm: npt.NDArray[np.int16], rate: int) -> int | None:
    """The number of the utterance whose beginning is ``pcm``; None if it is no tone."""
    if len(pcm) < rate // 20:
        return None
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)), 1 << 14))
    peak = float(np.argmax(spectrum)) * rate / (1 << 14)
    number = round((peak - LOWEST_HZ) / STEP_HZ)
    return number if 0 <= number < TONES else None
