"""Times the speaker encoder on one core: ``.venv/bin/python scripts/bench_encoder.py``.

Each row is the median and the worst of several recordings of that length, resampling and trimming
included. Speech is a WAV file named on the command line, or Debian's Asterisk prompts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

PROMPTS = Path("/usr/share/asterisk/sounds/en")
LENGTHS = (2.0, 5.0, 10.0, 30.0)
RUNS = 15


def read(path: Path) -> tuple[npt.NDArray[np.int16], int]:
    """Samples and rate of a 16-bit mono WAV file."""
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time the speaker encoder on one core.")
    parser.add_argument("wav", type=Path, nargs="?", help="16-bit mono speech, 30 s or more")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    if arguments.wav:
        samples, rate = read(arguments.wav)
    else:
        parts = [read(path) for path in sorted(PROMPTS.glob("conf-*.wav"))]
        if not parts:
            raise SystemExit(f"no prompts in {PROMPTS}: name a WAV file of speech")
        samples, rate = np.concatenate([part for part, _ in parts]), parts[0][1]

    started = time.perf_counter()
    from ringtrue.voices.encoder import SpeakerEncoder

    imported = time.perf_counter()
    encoder = SpeakerEncoder.load()
    loaded = time.perf_counter()
    encoder.embed(samples[: 3 * rate], rate)
    first = time.perf_counter()
    print(f"import {1e3 * (imported - started):.0f} ms, load {1e3 * (loaded - imported):.0f} ms")
    print(f"first recording {1e3 * (first - loaded):.0f} ms")
    print(f"{'audio s':>8} {'median ms':>10} {'worst ms':>9}   {rate} Hz")
    for seconds in LENGTHS:
        size = int(seconds * rate)
        if len(samples) < size:
            raise SystemExit(f"{len(samples) / rate:.1f} s of speech; {seconds:.0f} s are needed")
        times = []
        for start in np.linspace(0, len(samples) - size, RUNS).astype(int):
            begun = time.perf_counter()
            encoder.embed(samples[start : start + size], rate)
            times.append(1e3 * (time.perf_counter() - begun))
        print(f"{seconds:8.1f} {statistics.median(times):10.1f} {max(times):9.1f}")


if __name__ == "__main__":
    main()
