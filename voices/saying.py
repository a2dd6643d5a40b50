"""A text said to its end, outside of a call: phrases in as they are needed, WAV or PCM out."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import AsyncIterator
from typing import BinaryIO, Final

from ringtrue.streaming.markers import Markers, unmarked
from ringtrue.streaming.phrases import PhraseSplitter
from ringtrue.streaming.ports import SpeechChunk, SynthesisStream
from ringtrue.streaming.ssml import plain_text

PHRASES_AHEAD: Final = 3
"""Phrases a stream holds at once: what is being spoken, and what it can go on with."""

_WAV: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")
_OPEN_END: Final = 0xFFFFFFFF
"""Size in a header that was written before it was known; players read to the end."""


def phrases(text: str, *, markup: bool = True) -> list[str]:
    """``text`` in phrases as a call would speak it, each whole markup by itself.

    Without ``markup`` (for an engine that does not speak it) tags are taken out. Nothing
    speakable gives no phrases.
    """
    splitter, markers = PhraseSplitter(), Markers()
    cut = splitter.feed(markers.encode(text) + markers.finish()) + splitter.flush()
    found = []
    for phrase in cut:
        speakable = any(character.isalnum() for character in unmarked(phrase))
        written = markers.decode(phrase, speakable=speakable)
        if speakable:
            found.append(written if markup else plain_text(written))
    return found


async def said(
    stream: SynthesisStream, text: str, *, markup: bool = True
) -> AsyncIterator[SpeechChunk]:
    """Chunks of ``text`` spoken on ``stream``, whatever its length, as they are made.

    Leaving off early cuts the stream. ``markup`` is the voice's ``speaks_markup``. Raises
    :class:`~ringtrue.streaming.errors.SynthesisError` where the engine fails.
    """
    waiting = deque(phrases(text, markup=markup))

    def feed() -> None:
        if waiting:
            stream.feed(waiting.popleft())
        if not waiting:
            stream.finish()

    for _ in range(PHRASES_AHEAD):
        feed()
    try:
        async for chunk in stream.frames():
            if chunk.phrase_end:
                feed()
            yield chunk
    finally:
        stream.cut()


class WavWriter:
    """A 16-bit mono WAV file that grows: to a pipe, or to a file whose header is put right.

    Header fields are those of a canonical PCM file (RIFF, ``fmt`` of 16 bytes, ``data``).
    """

    def __init__(self, file: BinaryIO, rate: int) -> None:
        """Write to ``file`` at ``rate`` Hz; the header goes out at once."""
        self._file = file
        self._rate = rate
        self.samples = 0
        """Written so far."""

        file.write(self._header(_OPEN_END))

    def _header(self, size: int) -> bytes:
        return _WAV.pack(
            b"RIFF", min(_OPEN_END, size + _WAV.size - 8), b"WAVE", b"fmt ", 16, 1, 1,
            self._rate, 2 * self._rate, 2, 16, b"data", size,
        )  # fmt: skip

    def write(self, pcm: bytes) -> None:
        """Append samples."""
        self._file.write(pcm)
        self.samples += len(pcm) // 2

    def close(self) -> None:
        """Put the sizes into the header where the file can be gone back in; not closed."""
        if self._file.seekable():
            self._file.seek(0)
            self._file.write(self._header(2 * self.samples))
            self._file.seek(0, 2)
        self._file.flush()
