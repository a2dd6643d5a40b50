"""Recordings as browsers and people send them, made with PyAV, and challenges to read out."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import av
import numpy as np
import numpy.typing as npt
import soxr
from speech import pause, say

from ringtrue.voices.consent.challenge import Challenge

Audio = npt.NDArray[np.float32]

RATE = 16000
BODY = (
    "Good morning. The museum opens at nine and closes at five in the evening. "
    "Please leave your coats and bags at the desk, and keep to the left on the stairs."
)


def challenge(
    name: str = "Ada",
    purpose: str = "reception of Example Ltd",
    digits: tuple[int, ...] = (7, 4, 9),
    words: tuple[str, ...] = ("amber", "river"),
    tenant: str = "acme",
) -> Challenge:
    return Challenge(
        "0" * 32, tenant, name, purpose, digits, words, datetime(2030, 1, 1, tzinfo=UTC)
    )


def read_out(text: str, voice: str = "rms") -> Audio:
    """``text`` by flite at 16 kHz between two short pauses, in a quiet room."""
    quiet = pause(0.3, RATE)
    pcm = np.concatenate([quiet, say(text, RATE, voice), quiet]).astype(np.float32) / 32768
    noise = np.random.default_rng(1).normal(0, 1e-3, len(pcm))
    return (pcm + noise).astype(np.float32)


def coded(
    samples: Audio,
    *,
    rate: int = RATE,
    container: str = "wav",
    codec: str = "pcm_s16le",
    bit_rate: int | None = None,
    channels: int = 1,
) -> bytes:
    """Mono ``samples`` at 16 kHz as a file at ``rate``; further channels are copies."""
    if rate != RATE:
        samples = soxr.resample(samples, RATE, rate)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    out = io.BytesIO()
    with av.open(out, "w", format=container) as opened:
        stream = opened.add_stream(codec, rate=rate)
        stream.layout = layout
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        pcm = (np.clip(samples, -1, 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(
            np.repeat(pcm, channels)[None], format="s16", layout=layout
        )
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            opened.mux(packet)
    return out.getvalue()
