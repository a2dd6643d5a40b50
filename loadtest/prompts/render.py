"""Renders the caller utterances listed in ``prompts.yaml`` with the ``flite`` program.

A tool for whoever changes the list; needs Debian's ``flite`` and write access to this folder.
"""

from __future__ import annotations

import subprocess
import tempfile
import wave
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import yaml

from ringtrue.loadtest.ear import find_speech
from ringtrue.streaming.dsp import resample_segment

RATE: Final = 8000
LEVEL_DB: Final = -20.0
MARGIN_MS: Final = 30
"""Silence kept on both sides."""


def level_speech(samples: npt.NDArray[np.float32], rate: int) -> bytes:
    """Trim float samples in -1...1 to their speech and bring it to :data:`LEVEL_DB`."""
    pcm = np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2")
    spans = find_speech(pcm.tobytes(), rate)
    active = np.concatenate([samples[span.start : span.end] for span in spans])
    gain = 10 ** (LEVEL_DB / 20) / float(np.sqrt(np.mean(active**2)))
    margin = rate * MARGIN_MS // 1000
    kept = samples[max(0, spans[0].start - margin) : spans[-1].end + margin] * gain
    return bytes(np.rint(np.clip(kept, -1, 1) * 32767).astype("<i2").tobytes())


def render(text: str, voice: str, path: Path) -> None:
    """Speak ``text`` into the WAV file ``path``. Raises ``CalledProcessError`` if flite fails."""
    with tempfile.TemporaryDirectory() as scratch:
        spoken = Path(scratch) / "spoken.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(spoken)], check=True)
        with wave.open(str(spoken), "rb") as wav:
            rate = wav.getframerate()
            samples = np.frombuffer(wav.readframes(wav.getnframes()), "<i2")
    pcm = level_speech(resample_segment(samples, rate, RATE), RATE)
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(RATE)
        wav.writeframes(pcm)


def main() -> None:
    """Render every prompt in every voice beside this file."""
    folder = Path(__file__).parent
    listed = yaml.safe_load((folder / "prompts.yaml").read_text(encoding="utf-8"))
    for name, text in listed["prompts"].items():
        for voice in listed["voices"]:
            render(text, voice, folder / f"{name}.{voice}.wav")


if __name__ == "__main__":
    main()
