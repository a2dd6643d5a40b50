"""Real people for tests: Asterisk's prompts, where Debian's packages of them are installed."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soxr

SOUNDS = Path("/usr/share/asterisk/sounds")
UNPACKED = Path(__file__).parent.parent / ".deb" / "usr/share/asterisk/sounds"


def prompt(speaker: str, name: str) -> npt.NDArray[np.float32]:
    """One prompt at 16 kHz (recorded at 8); skips the test where it is missing."""
    for root in (SOUNDS, UNPACKED):
        path = root / speaker / f"{name}.wav"
        if path.is_file():
            with wave.open(str(path)) as file:
                samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
                rate = file.getframerate()
            real: npt.NDArray[np.float32] = soxr.resample(samples / 32768, rate, 16000)
            return real.astype(np.float32)
    pytest.skip(f"needs {speaker}/{name}.wav (Debian packages asterisk-core-sounds-*-wav)")


SPEAKERS = ("en_US_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU")
