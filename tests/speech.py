"""Speech for tests, rendered once by Debian's ``flite`` command."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soxr


@functools.cache
def say(text: str, rate: int = 8000, voice: str = "rms") -> npt.NDArray[np.int16]:
    """``text`` spoken by flite, at ``rate`` Hz, without silence around it.

    Skips the test where the command is missing.
    """
    if shutil.which("flite") is None:
        pytest.skip("needs the flite command (Debian package flite)")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
        with wave.open(str(path)) as wav:
            source = wav.getframerate()
            samples = np.frombuffer(wav.readframes(wav.getnframes()), np.int16)
    loud = np.flatnonzero(np.abs(samples.astype(int)) > 300)
    samples = samples[loud[0] : loud[-1] + 1]
    if source == rate:
        return samples
    resampled: npt.NDArray[np.int16] = soxr.resample(samples, source, rate)
    return resampled


def pause(seconds: float, rate: int = 8000) -> npt.NDArray[np.int16]:
    """A quiet line: a little noise, as lines have."""
    noise = np.random.default_rng(7).normal(0, 6, int(seconds * rate))
    return noise.astype(np.int16)
