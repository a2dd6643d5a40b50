"""Making a voice: the prompt through the model, once, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.engine import SPEECH_RATE, OnProgress, Progress, Speech
from ringtrue.voices.errors import CloningError
from ringtrue.voices.pocket.backend import Backend, ModelState, load
from ringtrue.voices.pocket.files import ModelFiles, open_directory
from ringtrue.voices.pocket.generation import Generator
from ringtrue.voices.pocket.state import GAINS, dump
from ringtrue.voices.renderer import TARGET_DBFS, active_level
from ringtrue.voices.rerate import Rerate

ENTRY: Final = "ringtrue.voices.pocket.cloning:job"
"""For :class:`~ringtrue.voices.pool.JobPool`."""

PROMPT_SECONDS: Final = 12.0
"""Speech the model is shown: every later step looks back over all of it."""

MIN_SECONDS: Final = 3.0

PAUSE_SECONDS: Final = 0.08
"""Silence the prompt ends with, as in training (``pocket_tts.data.audio_utils.end_on_pause``)."""

CALIBRATION: Final = "The quick brown fox jumps over a lazy dog, and nobody is sorry."

FloatArray = npt.NDArray[np.float32]


def request_of(files: ModelFiles, speech: Speech) -> bytes:
    """What :func:`job` takes: a line of JSON, then the samples as little-endian float32."""
    head = json.dumps({"directory": str(files.directory.resolve())})
    return head.encode() + b"\n" + prompt_of(speech).astype("<f4").tobytes()


def prompt_of(speech: Speech) -> FloatArray:
    """The part of ``speech`` that is shown to the model, at :data:`SPEECH_RATE`.

    The :data:`PROMPT_SECONDS` with the most speech in them, cut at the quietest place near
    their end. Raises :class:`~ringtrue.voices.errors.CloningError`.
    """
    samples = np.asarray(speech.samples, np.float32)
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise CloningError("the speech is no row of finite samples")
    seconds = len(samples) / SPEECH_RATE
    if seconds < MIN_SECONDS:
        raise CloningError(
            f"the speech has {seconds:.1f} s; the pocket engine needs {MIN_SECONDS:g} s or more"
        )
    if not np.abs(samples).max() > 1e-4:
        raise CloningError("the speech is silent")
    block = SPEECH_RATE // 50
    power = (samples[: len(samples) // block * block].reshape(-1, block) ** 2).mean(axis=1)
    length = int(PROMPT_SECONDS * 50)
    if len(power) <= length:
        return samples
    loud = (power > power.max() * 10**-3.5).astype(np.float64)
    start = int(np.argmax(np.convolve(loud, np.ones(length), "valid")))
    tail = power[start + length - 50 : start + length]
    end = start + length - 50 + int(np.argmin(tail)) + 1
    return samples[start * block : end * block]


def job(request: bytes, on_progress: OnProgress) -> bytes:
    """Make a voice's state; a :data:`~ringtrue.voices.job.Job`."""
    head, _, body = request.partition(b"\n")
    directory = Path(json.loads(head)["directory"])
    on_progress(Progress(0.02, "loading the model"))
    backend = load(open_directory(directory))
    return make_state(backend, np.frombuffer(body, "<f4").astype(np.float32), on_progress)


def make_state(backend: Backend, prompt: FloatArray, on_progress: OnProgress) -> bytes:
    """The state of the voice in ``prompt``, mono at :data:`SPEECH_RATE`."""
    on_progress(Progress(0.2, "listening to the voice"))
    level = active_level(prompt.astype(np.float64), SPEECH_RATE)
    loud = prompt * 10 ** ((TARGET_DBFS - level) / 20)
    rerate = Rerate(SPEECH_RATE, backend.rate)
    samples = np.concatenate([rerate.feed(loud), rerate.finish()])
    state = _listened(backend, _ending_in_pause(samples, backend.rate))
    on_progress(Progress(0.7, "measuring its level"))
    gain = _gain(backend, state)
    on_progress(Progress(0.98, "packing the voice"))
    return dump(backend, state, gain)


def _listened(backend: Backend, samples: FloatArray) -> ModelState:
    torch, model = backend.torch, backend.model
    with torch.no_grad():
        audio = torch.from_numpy(np.clip(samples, -1.0, 1.0))[None]
        state = model.get_state_for_audio_prompt(audio)
    assert isinstance(state, dict)
    return state


def _ending_in_pause(samples: npt.NDArray[np.floating], rate: int) -> FloatArray:
    """Faded out, so that the model doesn't take the cut for the middle of a word."""
    out = np.asarray(samples, np.float32).copy()
    fade = int(0.02 * rate)
    out[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return np.concatenate([out, np.zeros(int(PAUSE_SECONDS * rate), np.float32)])


def _gain(backend: Backend, state: ModelState) -> float:
    """What brings one spoken sentence to the level of the stock voices."""
    generator = Generator(backend)
    lane = generator.begin(state, generator.texts(CALIBRATION)[0])
    frames: list[Any] = []
    while not lane.over:
        frames += generator.step([lane])
    level = active_level(np.concatenate(frames).astype(np.float64), backend.rate)
    if not np.isfinite(level):
        raise CloningError("the model says nothing in this voice; record the speech again")
    return float(np.clip(10 ** ((TARGET_DBFS - level) / 20), *GAINS))
