"""Messages between the event loop and a recognizer worker, framed for a pipe.

A message is ``kind`` (1 byte), ``utterance`` (4 bytes) and the payload's length (4 bytes), little
endian, then the payload. Sans-IO: bytes in, messages out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

_HEADER: Final = struct.Struct("<BII")
MAX_PAYLOAD: Final = 16 * 1024 * 1024
"""Longest payload; a grammar with all its phrases is far below."""


class WireError(Exception):
    """The bytes are not messages: the peer is broken and must be restarted."""


class Kind(IntEnum):
    """What a message says; the ``utterance`` field is 0 where none is meant."""

    LOAD = 1
    """To the worker. Payload: JSON of a grammar; ``utterance`` is a request number."""

    START = 2
    """To the worker. Payload: JSON with ``grammar``, ``rate``, ``mirror`` and ``cmn``."""

    AUDIO = 3
    """To the worker. Payload: PCM."""

    FINISH = 4
    """To the worker."""

    CANCEL = 5
    """To the worker."""

    PING = 6
    """To the worker, which says PONG; it does so between two blocks of audio."""

    LOADED = 16
    """From the worker. Payload: JSON of the report, or with ``error``."""

    PROGRESS = 17
    """From the worker. Payload: samples consumed in all (4 bytes), then the partial in UTF-8."""

    FINAL = 18
    """From the worker. Payload: JSON with ``text``, ``confidence`` and ``cmn``."""

    FAILED = 19
    """From the worker: the utterance is over. Payload: why, in UTF-8."""

    PONG = 20
    """From the worker."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    kind: Kind
    """What it says."""

    utterance: int
    """Which utterance it is about."""

    payload: bytes = b""
    """Its content, by kind."""

    def encode(self) -> bytes:
        """As bytes on the pipe."""
        return _HEADER.pack(self.kind, self.utterance, len(self.payload)) + self.payload


class MessageReader:
    """Cuts a byte stream into messages."""

    def __init__(self) -> None:
        """Start with nothing buffered."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Add bytes and return the messages they complete.

        Raises :class:`WireError` for an unknown kind or a payload beyond :data:`MAX_PAYLOAD`.
        """
        self._buffer += data
        messages: list[Message] = []
        while len(self._buffer) >= _HEADER.size:
            kind, utterance, length = _HEADER.unpack_from(self._buffer)
            if length > MAX_PAYLOAD:
                raise WireError(f"payload of {length} bytes, at most {MAX_PAYLOAD} allowed")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            try:
                known = Kind(kind)
            except ValueError:
                raise WireError(f"unknown message kind {kind}") from None
            messages.append(Message(known, utterance, bytes(self._buffer[_HEADER.size : end])))
            del self._buffer[:end]
        return messages
