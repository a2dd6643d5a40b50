"""sendto(2) and recvmsg(2) on media sockets, without letting go of the interpreter (Linux).

Python's own sockets release the interpreter lock around every call. Beside a thread that computes,
getting it back takes the switch interval, half a millisecond and more, for a call of a few
microseconds that never waits: twice in each 20 ms of each call. These keep it.

The same functions are in C (``_system_calls.c``), which ``make compiled`` builds; here they are
libc's through :mod:`ctypes`.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from typing import Final, Protocol

MAX_DATAGRAM: Final = 2048
"""Longer datagrams are cut, and then refused by their own parser or played short."""

SO_TIMESTAMPNS: Final = getattr(socket, "SO_TIMESTAMPNS", 35)
"""Linux: arrival of each datagram by the wall clock, as ancillary data."""

NAME_BYTES: Final = 28
"""Of a ``sockaddr_in6``, the longest there is."""

CONTROL_BYTES: Final = 64
STAMP: Final = struct.Struct("@Niiqq")
"""``cmsghdr`` (length, level, type) and the ``timespec`` in it."""

_SOL_SOCKET: Final = socket.SOL_SOCKET
_DONTWAIT: Final = getattr(socket, "MSG_DONTWAIT", 0x40)


class Vector(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Header(ctypes.Structure):
    """``struct msghdr``."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class SystemCalls(Protocol):
    """Both calls, on a socket's file descriptor. Neither waits or raises."""

    def send(self, fd: int, data: bytes, name: bytes, /) -> bool:
        """Send ``data`` to the ``sockaddr`` that ``name`` is; False if the system won't."""
        ...

    def receive(self, fd: int, known: bytes, /) -> tuple[bytes, float, bytes] | None:
        """The next datagram, its arrival and its source; None where none waits.

        The arrival is in seconds of the wall clock, 0 where the socket doesn't tell. The source is
        a ``sockaddr``: ``known`` itself where it is that.
        """
        ...


def system_calls() -> SystemCalls | None:
    """The compiled ones where they were built, else libc's; None on another system."""
    try:
        # Only there where it was compiled; so mypy doesn't know it.
        from ringtrue.telephony.rtp import _system_calls  # type: ignore[attr-defined]

        compiled: SystemCalls = _system_calls
        return compiled
    except ImportError:
        pass
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    return LibraryCalls()


class LibraryCalls:
    """libc's, through buffers that all sockets share: they are read one after the other."""

    __slots__ = (
        "_control", "_data", "_header", "_name", "_receive", "_reference", "_send", "_vector",
    )  # fmt: skip

    def __init__(self) -> None:
        """Find the functions."""
        library = ctypes.PyDLL(None)
        self._send = library.sendto
        self._send.argtypes = (
            ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_char_p,
            ctypes.c_uint32,
        )  # fmt: skip
        self._send.restype = ctypes.c_ssize_t
        self._receive = library.recvmsg
        self._receive.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
        self._receive.restype = ctypes.c_ssize_t
        self._data, self._name = bytearray(MAX_DATAGRAM), bytearray(NAME_BYTES)
        self._control = bytearray(CONTROL_BYTES)
        self._vector = Vector(_place(self._data), MAX_DATAGRAM)
        self._header = Header(
            _place(self._name),
            NAME_BYTES,
            ctypes.pointer(self._vector),
            1,
            _place(self._control),
            CONTROL_BYTES,
            0,
        )
        self._reference = ctypes.addressof(self._header)

    def send(self, fd: int, data: bytes, name: bytes, /) -> bool:
        """As :meth:`SystemCalls.send`."""
        return bool(self._send(fd, data, len(data), _DONTWAIT, name, len(name)) >= 0)

    def receive(self, fd: int, known: bytes, /) -> tuple[bytes, float, bytes] | None:
        """As :meth:`SystemCalls.receive`."""
        header = self._header
        header.name_length, header.control_length = NAME_BYTES, CONTROL_BYTES
        size: int = self._receive(fd, self._reference, _DONTWAIT)
        if size < 0:
            return None
        stamp = 0.0
        if header.control_length >= STAMP.size:
            _, level, kind, seconds, nanoseconds = STAMP.unpack_from(self._control)
            if level == _SOL_SOCKET and kind == SO_TIMESTAMPNS:
                stamp = seconds + nanoseconds * 1e-9
        name = bytes(self._name[: header.name_length])
        return bytes(self._data[:size]), stamp, known if name == known else name


def _place(buffer: bytearray) -> int:
    """Where ``buffer`` lies; it must not change its length."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def socket_name(family: int, address: tuple[str, int]) -> bytes:
    """``address``, an IP literal and a port, as a ``sockaddr`` of ``family``.

    Raises ``OSError`` where the literal is none of that family.
    """
    host, port = address
    if family == socket.AF_INET6:
        literal = socket.inet_pton(socket.AF_INET6, host)
        return struct.pack("=H", family) + struct.pack("!HI", port, 0) + literal + bytes(4)
    literal = socket.inet_pton(socket.AF_INET, host)
    return struct.pack("=H", family) + struct.pack("!H", port) + literal + bytes(8)


def socket_address(name: bytes) -> tuple[str, int]:
    """IP literal and port of a ``sockaddr``."""
    (family,) = struct.unpack_from("=H", name)
    (port,) = struct.unpack_from("!H", name, 2)
    literal = name[8:24] if family == socket.AF_INET6 else name[4:8]
    return socket.inet_ntop(family, literal), port
