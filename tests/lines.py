"""Telephone lines for tests: recorded speech, and what a leaky line makes of it."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from ringtrue.loadtest.prompts import load_prompts, prompt_names
from ringtrue.streaming.audio_ops import audioop


@functools.cache
def spoken(voice: str, rate: int = 8000) -> npt.NDArray[np.int16]:
    """All of a voice's prompts with a third of a second between them, 16-bit."""
    pause = np.zeros(rate // 3, np.int16)
    parts: list[npt.NDArray[np.int16]] = []
    for name in prompt_names():
        parts += [np.frombuffer(load_prompts(voice)[name].at(rate).pcm, np.int16), pause]
    return np.concatenate(parts)


def mu_law(pcm: npt.NDArray[np.floating]) -> npt.NDArray[np.int16]:
    """``pcm`` (16-bit scale) after G.711."""
    clipped = np.clip(np.rint(pcm), -32768, 32767).astype(np.int16).tobytes()
    return np.frombuffer(audioop.ulaw2lin(audioop.lin2ulaw(clipped, 2), 2), np.int16)


def echoed(
    sent: npt.NDArray[np.int16],
    delay_ms: int,
    gain_db: float,
    rate: int = 8000,
    *,
    near: npt.NDArray[np.floating] | None = None,
    noise: float = 5.0,
) -> npt.NDArray[np.int16]:
    """What comes back of ``sent``: late, over a decaying 30 ms response, with the ``near`` end's
    own sound and white noise (rms, in LSB), all of it after G.711."""
    chance = np.random.default_rng(1)
    length = 30 * rate // 1000
    response = chance.normal(size=length) * np.exp(-np.arange(length) / (length / 4))
    response[0] = 3.0
    response *= 10 ** (gain_db / 20) / np.linalg.norm(response)
    echo = np.zeros(len(sent))
    late = np.convolve(mu_law(sent.astype(float)), response)
    start = delay_ms * rate // 1000
    echo[start:] = late[: len(sent) - start]
    total = echo + chance.normal(scale=noise, size=len(sent))
    return mu_law(total if near is None else total + near)
