"""Recorded caller utterances and what is said in them."""

from __future__ import annotations

import wave
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import numpy as np
import yaml

from ringtrue.loadtest.ear import Span, find_speech
from ringtrue.streaming.dsp import resample_segment

MAX_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Prompt:
    """Something a caller says."""

    name: str
    text: str
    pcm: bytes
    """16-bit mono."""

    rate: int

    @cached_property
    def speech(self) -> Span:
        """From its first to past its last speech sample: silence at both ends doesn't count.

        Raises ``ValueError`` for a recording without speech.
        """
        found = find_speech(self.pcm, self.rate)
        if not found:
            raise ValueError(f"prompt {self.name!r} holds no speech")
        return Span(found[0].start, found[-1].end)

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.pcm) / (2 * self.rate)

    @cached_property
    def _resampled(self) -> dict[int, Prompt]:
        return {self.rate: self}

    def at(self, rate: int) -> Prompt:
        """The same at ``rate`` Hz; made once."""
        if rate not in self._resampled:
            self._resampled[rate] = self._resample(rate)
        return self._resampled[rate]

    def _resample(self, rate: int) -> Prompt:
        samples = resample_segment(np.frombuffer(self.pcm, "<i2"), self.rate, rate)
        pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()
        return Prompt(self.name, self.text, pcm, rate)


def read_prompt(path: Path | Traversable, name: str, text: str = "") -> Prompt:
    """Read a 16-bit mono WAV.

    Raises ``ValueError`` naming the file and what is wrong with it.
    """
    try:
        with path.open("rb") as file, wave.open(file) as wav:
            form = (wav.getnchannels(), wav.getsampwidth(), wav.getframerate())
            frames = wav.getnframes()
            if form[:2] != (1, 2) or form[2] not in (8000, 16000):
                raise ValueError(
                    f"{path}: {form[0]} channels, {8 * form[1]} bits, {form[2]} Hz; "
                    "allowed: 1 channel, 16 bits, 8000 or 16000 Hz"
                )
            if frames > MAX_SECONDS * form[2]:
                raise ValueError(f"{path}: {frames / form[2]:.1f} s; allowed: {MAX_SECONDS:.0f} s")
            return Prompt(name, text, wav.readframes(frames), form[2])
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path}: not a WAV file: {error}") from error


def _listing() -> tuple[list[str], dict[str, str]]:
    listed = yaml.safe_load((files(__name__) / "prompts.yaml").read_text(encoding="utf-8"))
    return list(listed["voices"]), dict(listed["prompts"])


def voices() -> list[str]:
    """The voices that speak the prompts."""
    return _listing()[0]


def prompt_names() -> list[str]:
    """The names of the prompts."""
    return list(_listing()[1])


def load_prompts(voice: str = "rms") -> Mapping[str, Prompt]:
    """The prompts shipped with the project, by name, as spoken by ``voice``.

    Raises ``ValueError`` naming the voices there are.
    """
    known, texts = _listing()
    if voice not in known:
        raise ValueError(f"no caller voice {voice!r}; allowed: {', '.join(known)}")
    folder = files(__name__)
    return {
        name: read_prompt(folder / f"{name}.{voice}.wav", name, text)
        for name, text in texts.items()
    }
