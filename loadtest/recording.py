"""The recording of a call: both directions on the caller's media clock, to the sample."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Final

import numpy as np

MAX_SECONDS: Final = 600.0
"""Audio kept of one call; later audio is dropped and :attr:`Recording.truncated` says so."""


class Recording:
    """Two channels that grow in step: what the caller sent and what the caller heard.

    Position 0 is when the caller's phone began to capture the first frame that it sent. A phone
    has a frame only after its 20 ms have passed, so the first frame heard belongs one frame
    later: the heard channel begins with one frame of silence, and positions in both channels
    are the same moments at the caller's mouth and ear.
    """

    def __init__(self, rate: int, frame_samples: int, *, max_seconds: float = MAX_SECONDS) -> None:
        """PCM at ``rate`` Hz in frames of ``frame_samples``."""
        self.rate = rate
        self._limit = int(max_seconds * rate) * 2
        self._caller = bytearray()
        self._agent = bytearray(2 * frame_samples)
        self.truncated = False

    @property
    def caller(self) -> bytes:
        """What the caller sent, 16-bit mono PCM."""
        return bytes(self._caller)

    @property
    def agent(self) -> bytes:
        """What the caller heard, 16-bit mono PCM."""
        return bytes(self._agent)

    @property
    def caller_position(self) -> int:
        """Samples sent so far: where the next frame sent begins."""
        return len(self._caller) // 2

    @property
    def agent_position(self) -> int:
        """Where the next frame heard begins."""
        return len(self._agent) // 2

    def sent(self, pcm: bytes) -> None:
        """Append a frame to the caller's channel."""
        self._append(self._caller, pcm)

    def heard(self, pcm: bytes) -> None:
        """Append a frame to the agent's channel."""
        self._append(self._agent, pcm)

    def wav(self, first: int = 0, last: int | None = None) -> bytes:
        """A stereo 16-bit WAV of positions ``first`` to ``last``, caller left, agent right.

        Without ``last`` it goes to the end of the longer channel; silence fills what is missing.
        """
        longest = max(len(self._caller), len(self._agent)) // 2
        length = max(0, (longest if last is None else last) - first)
        stereo = np.zeros((length, 2), "<i2")
        for channel, pcm in enumerate((self._caller, self._agent)):
            samples = np.frombuffer(bytes(pcm[2 * first : 2 * (first + length)]), "<i2")
            stereo[: len(samples), channel] = samples
        content = io.BytesIO()
        with wave.open(content, "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(self.rate)
            file.writeframes(stereo.tobytes())
        return content.getvalue()

    def write(self, path: Path) -> None:
        """Write all of it as :meth:`wav`; folders are made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.wav())

    def _append(self, channel: bytearray, pcm: bytes) -> None:
        if len(channel) + len(pcm) > self._limit:
            self.truncated = True
            return
        channel.extend(pcm)
