"""Cutting a byte stream into SIP messages (RFC 3261 §18.3) and pings (RFC 5626 §3.5.1)."""

from __future__ import annotations

from typing import Final

from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.headers import parse_number
from ringtrue.telephony.sip.message import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    parse_message,
    read_lines,
)

PING: Final = b"\r\n\r\n"
PONG: Final = b"\r\n"


class StreamFramer:
    """Bounded: at most one message's headers and body are held."""

    def __init__(self) -> None:
        """Start with an empty buffer."""
        self._buffer = bytearray()
        self._scanned = 0
        self._need: int | None = None

    @property
    def partial(self) -> bool:
        """Whether the start of a message is waiting for its rest."""
        return self._need is not None or not PING.startswith(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what the stream brought."""
        self._buffer += data

    def take_pong(self) -> bool:
        """Drop the single CRLF that answers a ping of ours; False where that isn't what came."""
        if self._need is None and self._buffer.startswith(PONG) and self._buffer != PING:
            del self._buffer[: len(PONG)]
            return True
        return False

    def next(self) -> bytes | None:
        """The next whole message, :data:`PING`, or None until more bytes come.

        Raises :class:`SipParseError` where the stream can't be framed any more: answer it if
        it has a fragment, then close the connection.
        """
        if self._need is None:
            if self._buffer.startswith(PING):
                del self._buffer[:4]
                return PING
            if PING.startswith(self._buffer):
                return None
            if self._buffer.startswith(PONG):
                del self._buffer[:2]
            if not self._head():
                return None
        need = self._need
        if need is None or len(self._buffer) < need:
            return None
        message = bytes(self._buffer[:need])
        del self._buffer[:need]
        self._need, self._scanned = None, 0
        return message

    def _head(self) -> bool:
        """Find the end of the headers and with it the message's length."""
        end = self._buffer.find(PING, max(0, self._scanned - 3))
        self._scanned = len(self._buffer)
        if max(end, len(self._buffer) if end < 0 else 0) > MAX_HEADER_BYTES:
            raise SipParseError(f"headers over {MAX_HEADER_BYTES} bytes on a stream")
        if end < 0:
            return False
        self._need = end + 4 + self._length(bytes(self._buffer[:end]))
        return True

    @staticmethod
    def _length(head: bytes) -> int:
        """Content-Length; raises through the full parser, which also recovers the fragment."""
        values: list[str] = []
        try:
            values = [value for name, value in read_lines(head)[1] if name == "content-length"]
            length = parse_number("Content-Length", values[0] if values else "", MAX_BODY_BYTES)
        except SipParseError:
            parse_message(head + PING, stream=True)
            raise
        if len(values) > 1:
            parse_message(head + PING, stream=True)
        return length
