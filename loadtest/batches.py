"""Many datagrams in one system call, both ways (Linux: sendmmsg(2), recvmmsg(2)).

A caller that only fills lines must cost less than the server it measures: a call of the system
for each packet alone is several times that.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import socket
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.telephony.rtp.system_calls import (
    CONTROL_BYTES,
    SO_TIMESTAMPNS,
    Header,
    Vector,
    socket_name,
)

ONE_CALL: Final = 1024
"""Datagrams the kernel takes at once (UIO_MAXIOV)."""

RECEIVED: Final = 512
"""Datagrams read at once."""

_STAMP: Final = 16
"""Where a timestamp's seconds lie in its control message (cmsghdr, then timespec)."""

Bytes = npt.NDArray[np.uint8]


class _Message(ctypes.Structure):
    _fields_ = (("header", Header), ("length", ctypes.c_uint32))


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)


class Batch:
    """Datagrams of one length, one to each of several destinations, sent together."""

    def __init__(self, to: Sequence[tuple[str, int]], size: int) -> None:
        """``size`` bytes to each of ``to``, IPv4 literals and ports."""
        self.data: Bytes = np.zeros((len(to), size), np.uint8)
        """What the next :meth:`send` sends, a row to each."""

        names = b"".join(socket_name(socket.AF_INET, where) for where in to)
        self._names = np.frombuffer(names, np.uint8).copy()
        self._vectors = (Vector * max(1, len(to)))()
        self._messages = (_Message * max(1, len(to)))()
        self._count = len(to)
        for row in range(len(to)):
            self._vectors[row].base = self.data.ctypes.data + row * size
            self._vectors[row].length = size
            header = self._messages[row].header
            header.name, header.name_length = self._names.ctypes.data + 16 * row, 16
            header.vectors = ctypes.pointer(self._vectors[row])
            header.vector_count = 1
        self._send = _library().sendmmsg

    def send(self, sock: socket.socket) -> int:
        """Send all of it; returns how many the system took."""
        sent = 0
        while sent < self._count:
            first = ctypes.byref(self._messages, sent * ctypes.sizeof(_Message))
            count = min(ONE_CALL, self._count - sent)
            taken = self._send(sock.fileno(), first, count, 0)
            if taken <= 0:
                return sent
            sent += taken
        return sent


class Receiver:
    """Datagrams of a socket, with when the kernel got them."""

    def __init__(self, sock: socket.socket, size: int = 256) -> None:
        """Read ``sock``, made non-blocking; what is longer than ``size`` bytes is cut."""
        self._sock = sock
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._data: Bytes = np.zeros((RECEIVED, size), np.uint8)
        self._names: Bytes = np.zeros((RECEIVED, 16), np.uint8)
        self._control: Bytes = np.zeros((RECEIVED, CONTROL_BYTES), np.uint8)
        self._vectors = (Vector * RECEIVED)()
        self._messages = (_Message * RECEIVED)()
        for row in range(RECEIVED):
            self._vectors[row].base = self._data.ctypes.data + row * size
            self._vectors[row].length = size
            header = self._messages[row].header
            header.name = self._names.ctypes.data + 16 * row
            header.vectors = ctypes.pointer(self._vectors[row])
            header.vector_count = 1
            header.control = self._control.ctypes.data + CONTROL_BYTES * row
        self._receive = _library().recvmmsg

    def read(self) -> tuple[Bytes, npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The next datagrams, at most :data:`RECEIVED`: bytes, source ports and wall clock times.

        No rows where nothing waits. The bytes are valid until the next call. Raises ``OSError``.
        """
        for row in range(RECEIVED):
            header = self._messages[row].header
            header.name_length, header.control_length = 16, CONTROL_BYTES
        got = self._receive(self._sock.fileno(), self._messages, RECEIVED, 0, None)
        if got < 0:
            code = ctypes.get_errno()
            if code not in (errno.EAGAIN, errno.EINTR):
                raise OSError(code, os.strerror(code))
            got = 0
        ports = self._names[:got, 2].astype(np.int64) << 8 | self._names[:got, 3]
        stamps = np.ascontiguousarray(self._control[:got, _STAMP : _STAMP + 16]).view(np.int64)
        return self._data[:got], ports, stamps[:, 0] + stamps[:, 1] * 1e-9
