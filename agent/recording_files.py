"""Recordings on disk: stereo PCM in chunks, each sealed by itself (AES-256-GCM).

::

    8 bytes   magic
    4 bytes   length of the header, big-endian
    header    JSON: which call, whose, when, until when it is kept, and the wrapped data key
    chunks    1 byte kind ('A' audio, 'E' end), 4 bytes length, 12 bytes nonce, ciphertext and tag

Audio is 16-bit little-endian PCM, caller and agent interleaved. Every recording has a data key of
its own, wrapped by a master key. A chunk is bound to the recording, to the whole header (the call
id is in it) and to its number, so none can be altered, moved, left out or taken from elsewhere. A
file that was cut short opens up to its last whole chunk; only one with an end is complete.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.recording import StereoChunk
from ringtrue.voices.keys.errors import UnsealError
from ringtrue.voices.keys.management import WrappedKey
from ringtrue.voices.keys.sealing import NONCE_BYTES, TAG_BYTES, DataKey, SealContext, Sealed

MAGIC: Final = b"RTREC\x00\x01\n"
SUFFIX: Final = ".rec"
MAX_HEADER: Final = 16 * 1024
MAX_CHUNK: Final = 1 << 20
"""Longest ciphertext of one chunk in bytes."""

FRAME: Final = 4
"""Bytes of one sample of both channels."""

_AUDIO: Final = b"A"
_END: Final = b"E"
_PREFIX: Final = 1 + 4 + NONCE_BYTES


class RecordingError(RingtrueError):
    """A recording can't be read: it is none, was altered, or its key is gone."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a recording says of itself without its key."""

    id: str
    call: str
    tenant: str
    agent: str
    rate: int
    """Hz."""

    started: datetime
    """UTC."""

    keep_until: datetime
    """When retention erases it, UTC."""

    key: WrappedKey

    def encode(self) -> bytes:
        """As it stands in the file."""
        value = {
            "v": 1,
            "id": self.id,
            "call": self.call,
            "tenant": self.tenant,
            "agent": self.agent,
            "rate": self.rate,
            "channels": ["caller", "agent"],
            "started": self.started.isoformat(),
            "keep_until": self.keep_until.isoformat(),
            "key": {
                "id": self.key.key_id,
                "nonce": base64.b64encode(self.key.nonce).decode(),
                "wrapped": base64.b64encode(self.key.ciphertext).decode(),
            },
        }
        raw = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
        return MAGIC + len(raw).to_bytes(4, "big") + raw


@dataclass(frozen=True, slots=True)
class Found:
    """A recording as it lies on disk."""

    path: Path
    header: Header
    seconds: float
    complete: bool
    """False while the call goes on, and for ever where the end was not written."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What is written at a recording's end."""

    frames: int
    """20 ms of both sides each."""

    masked: int
    """Frames in which the caller was silenced."""

    dropped: int
    """Frames that are silence because the disk did not keep up."""


def key_place(recording: str) -> str:
    """What a recording's data key is bound to, in place of a voice's id."""
    return f"recording:{recording}"


class RecordingWriter:
    """Writes one recording. Blocking: every method belongs off the loop, one at a time."""

    def __init__(self, path: Path, header: Header, key: DataKey) -> None:
        """Make the file (mode 0600). Raises OSError, also where it exists."""
        self.path = path
        self._header = header
        self._key = key
        raw = header.encode()
        self._digest = hashlib.sha256(raw).hexdigest()
        self._chunks = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0)
        try:
            self._put(raw)
        except BaseException:
            self._file.close()
            path.unlink(missing_ok=True)
            raise

    def append(self, chunk: StereoChunk, *, silence_before: int = 0) -> None:
        """Add ``silence_before`` samples of silence, then ``chunk``. Raises OSError."""
        while silence_before:
            samples = min(silence_before, self._header.rate)
            self._seal(_AUDIO, bytes(FRAME * samples))
            silence_before -= samples
        if chunk.samples:
            sides = [np.frombuffer(side, "<i2") for side in (chunk.caller, chunk.agent)]
            self._seal(_AUDIO, np.stack(sides, axis=1).tobytes())

    def finish(self, summary: Summary) -> None:
        """Write the end and make all of it durable. Raises OSError."""
        values = {name: getattr(summary, name) for name in Summary.__slots__}
        try:
            self._seal(_END, json.dumps(values, sort_keys=True).encode())
            os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def abandon(self) -> None:
        """Leave the file as it is. Idempotent, raises nothing."""
        try:
            self._file.close()
        except OSError:
            return

    def _seal(self, kind: bytes, plain: bytes) -> None:
        context = _context(self._header, self._digest, kind, self._chunks)
        sealed = self._key.seal(plain, context)
        self._chunks += 1
        length = len(sealed.ciphertext).to_bytes(4, "big")
        self._put(kind + length + sealed.nonce + sealed.ciphertext)

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:  # a disk that fills up may take a part
            written = self._file.write(view)
            view = view[written or 0 :]


class RecordingReader:
    """Reads one recording's audio. Blocking."""

    def __init__(self, path: Path, header: Header, key: DataKey) -> None:
        """``key`` is the recording's own."""
        self._path = path
        self._header = header
        self._key = key
        self.summary: Summary | None = None
        """Known once :meth:`chunks` has come to the end; None where the file was cut short."""

    def chunks(self) -> Iterator[bytes]:
        """Interleaved PCM, chunk by chunk, up to the last whole one.

        Raises :class:`RecordingError` where a chunk is not what was written there.
        """
        number = 0
        with _opened(self._path) as file:
            raw = _raw_header(file, self._path)
            digest = hashlib.sha256(raw).hexdigest()
            for kind, nonce, ciphertext in _sealed(file, self._path):
                context = _context(self._header, digest, kind, number)
                try:
                    plain = self._key.unseal(Sealed(nonce, ciphertext), context)
                except UnsealError:
                    raise RecordingError(
                        f"{self._path}: chunk {number} is not what was written there"
                    ) from None
                if kind == _END:
                    self.summary = Summary(**json.loads(plain))
                    return
                yield plain
                number += 1


def read_header(path: Path) -> Header:
    """What a recording says of itself. Raises :class:`RecordingError`."""
    with _opened(path) as file:
        return _header(_raw_header(file, path), path)


def look(path: Path) -> Found:
    """A recording's header and length, without its key. Raises :class:`RecordingError`."""
    with _opened(path) as file:
        header = _header(_raw_header(file, path), path)
        size = os.fstat(file.fileno()).st_size
        audio, complete = 0, False
        while len(prefix := file.read(_PREFIX)) == _PREFIX:
            kind, length = prefix[:1], int.from_bytes(prefix[1:5], "big")
            if kind not in (_AUDIO, _END) or not TAG_BYTES <= length <= MAX_CHUNK:
                raise RecordingError(f"{path}: holds something that is no chunk")
            if file.seek(length, os.SEEK_CUR) > size:
                break
            if kind == _END:
                complete = True
                break
            audio += length - TAG_BYTES
    return Found(path, header, audio / FRAME / header.rate, complete)


def erase(path: Path) -> None:
    """Destroy a recording: its wrapped key is overwritten, then the file deleted. Raises OSError.

    Without the key nothing of the audio can be had from a copy of the file's blocks; a disk or
    backup that keeps the old header keeps the key, as far as the master key is kept, too.
    """
    with open(path, "r+b", buffering=0) as file:
        prefix = file.read(len(MAGIC) + 4)
        length = int.from_bytes(prefix[len(MAGIC) :], "big")
        file.write(bytes(min(length, MAX_HEADER)))
        os.fsync(file.fileno())
    path.unlink()


def _context(header: Header, digest: str, kind: bytes, number: int) -> SealContext:
    return SealContext(header.tenant, key_place(header.id), f"{kind.decode()}:{digest}", number)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below, and an error names the file
    except OSError as error:
        raise RecordingError(f"{path}: can't be opened: {error.strerror}") from None
    with file:
        yield file


def _raw_header(file: BinaryIO, path: Path) -> bytes:
    """Everything before the first chunk."""
    prefix = file.read(len(MAGIC) + 4)
    length = int.from_bytes(prefix[len(MAGIC) :], "big")
    raw = file.read(length) if length <= MAX_HEADER else b""
    if not prefix.startswith(MAGIC) or len(prefix) < len(MAGIC) + 4 or len(raw) != length:
        raise RecordingError(f"{path}: no recording, or cut short before its first chunk")
    return prefix + raw


def _header(raw: bytes, path: Path) -> Header:
    try:
        value = json.loads(raw[len(MAGIC) + 4 :])
        if value["v"] != 1:
            raise RecordingError(f"{path}: a recording of format {value['v']!r}; known: 1")
        key = value["key"]
        wrapped = WrappedKey(
            str(key["id"]),
            base64.b64decode(key["nonce"], validate=True),
            base64.b64decode(key["wrapped"], validate=True),
        )
        return Header(
            id=str(value["id"]),
            call=str(value["call"]),
            tenant=str(value["tenant"]),
            agent=str(value["agent"]),
            rate=_rate(value["rate"]),
            started=datetime.fromisoformat(value["started"]),
            keep_until=datetime.fromisoformat(value["keep_until"]),
            key=wrapped,
        )
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise RecordingError(f"{path}: its header was altered") from None


def _rate(value: object) -> int:
    if type(value) is not int or value not in (8000, 16000):
        raise ValueError("no rate")
    return value


def _sealed(file: BinaryIO, path: Path) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Kind, nonce and ciphertext of every whole chunk."""
    while len(prefix := file.read(_PREFIX)) == _PREFIX:
        kind, length = prefix[:1], int.from_bytes(prefix[1:5], "big")
        if kind not in (_AUDIO, _END) or not TAG_BYTES <= length <= MAX_CHUNK:
            raise RecordingError(f"{path}: holds something that is no chunk")
        ciphertext = file.read(length)
        if len(ciphertext) < length:
            return
        yield kind, prefix[5:], ciphertext
