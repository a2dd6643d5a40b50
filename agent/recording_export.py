"""A recording as others can play it: WAV, or Opus in Ogg (RFC 7845). Caller left, agent right."""

from __future__ import annotations

import os
import wave
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import av
import numpy as np

from ringtrue.agent.recording_files import FRAME, Header, RecordingError, RecordingReader, key_place
from ringtrue.voices.keys.errors import KeyManagementError
from ringtrue.voices.keys.management import KeyManagement

OPUS_BITS: Final = 48_000
"""Bits a second of both channels: speech at 8 or 16 kHz is transparent well below."""

SUFFIXES: Final = (".wav", ".ogg", ".opus")


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    seconds: float
    complete: bool
    """False where the recording has no end: the call goes on, or its server stopped short."""


async def reader_of(path: Path, header: Header, keys: KeyManagement) -> RecordingReader:
    """Opens a recording. Raises :class:`RecordingError` where its key can't be had."""
    place = key_place(header.id)
    try:
        key = await keys.unwrap(header.key, tenant=header.tenant, voice=place)
    except KeyManagementError as error:
        raise RecordingError(f"{path}: its key can't be had: {error}") from None
    return RecordingReader(path, header, key)


def export(reader: RecordingReader, header: Header, out: Path) -> Exported:
    """Write the recording to ``out``, by its suffix one of :data:`SUFFIXES`. Blocking.

    The file is made with mode 0600, and deleted if anything fails. Raises ValueError for another
    suffix, :class:`FileExistsError`, OSError, and :class:`RecordingError` for a recording that
    was altered.
    """
    write = _writer(out)
    samples = 0

    def counted() -> Iterator[bytes]:
        nonlocal samples
        for chunk in reader.chunks():
            samples += len(chunk) // FRAME
            yield chunk

    with _made(out) as file:
        write(file, header.rate, counted())
    return Exported(samples / header.rate, reader.summary is not None)


def _writer(out: Path) -> Callable[[BinaryIO, int, Iterable[bytes]], None]:
    if out.suffix == ".wav":
        return _wav
    if out.suffix in SUFFIXES:
        return _opus
    raise ValueError(f"{out}: allowed are {', '.join(SUFFIXES)}")


@contextmanager
def _made(out: Path) -> Iterator[BinaryIO]:
    descriptor = os.open(out, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "r+b") as file:
            yield file
    except BaseException:
        out.unlink(missing_ok=True)
        raise


def _wav(file: BinaryIO, rate: int, chunks: Iterable[bytes]) -> None:
    with wave.open(file, "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        for chunk in chunks:
            sound.writeframesraw(chunk)


def _opus(file: BinaryIO, rate: int, chunks: Iterable[bytes]) -> None:
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=rate, layout="stereo")
        stream.bit_rate = OPUS_BITS
        at = 0
        for chunk in chunks:
            frame = av.AudioFrame.from_ndarray(
                np.frombuffer(chunk, "<i2").reshape(1, -1), format="s16", layout="stereo"
            )
            frame.sample_rate = rate
            frame.pts = at
            at += frame.samples
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
