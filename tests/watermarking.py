"""Speech to mark in tests: real where Debian's prompts are installed, else of the stock voice."""

from __future__ import annotations

import wave
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soxr

from ringtrue.voices.watermark.embedder import Embedder, excitation
from ringtrue.voices.watermark.keys import MarkKey
from ringtrue.voices.watermark.token import Token, symbols

PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
KEY = MarkKey(b"tests only: not a secret at all.")
TOKEN = Token(0xC0FFEE42, datetime(2026, 3, 4, 5, 6, tzinfo=UTC))

Pcm = npt.NDArray[np.int16]


@cache
def speech(rate: int, seconds: float = 8.0) -> Pcm:
    files = sorted(PROMPTS.glob("vm-*.wav"))
    if not files:
        pytest.skip("needs asterisk-core-sounds-en-wav")
    parts = []
    for path in files:
        with wave.open(str(path)) as file:
            native = file.getframerate()
            parts.append(np.frombuffer(file.readframes(file.getnframes()), "<i2"))
        if sum(map(len, parts)) > seconds * native:
            break
    samples = soxr.resample(np.concatenate(parts), native, rate)
    return np.asarray(samples[: int(seconds * rate)], np.int16)


def marked(pcm: Pcm, rate: int, key: MarkKey = KEY, token: Token = TOKEN) -> Pcm:
    embedder = Embedder(excitation(key, symbols(key, token)), rate)
    size = rate // 50
    frames = [embedder.mark(pcm[at : at + size].tobytes()) for at in range(0, len(pcm), size)]
    return np.frombuffer(b"".join(frames), "<i2")
