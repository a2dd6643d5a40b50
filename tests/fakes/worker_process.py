"""A worker's process that serves nothing and behaves as ``WORKER_IS`` says.

``steady``: until told to stop; ``young``: dies at once when it is ready; ``unfit``: dies before;
``mute``: says nothing once it is ready; ``deaf``: doesn't stop when told to drain.

It starts many times in a test, so it imports none of the product: the wire is written out.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time

HEADER = struct.Struct("!IBH")
SCRAPE, DRAIN, END, READY, STATUS, METRICS = 4, 5, 6, 130, 131, 132
TEXT = b"# TYPE fake_calls counter\nfake_calls_total 2.0\n"


def message(kind: int, data: bytes = b"") -> bytes:
    return HEADER.pack(len(data), kind, 0) + data


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    sys.stdin.buffer.read()
    how = os.environ["WORKER_IS"]
    if how == "unfit":
        sys.exit(2)
    channel.sendall(message(READY))
    if how == "young":
        sys.exit(1)
    if how == "mute":
        time.sleep(30)
    status = json.dumps({"calls": 1, "open": True, "own_hosts": [], "heard": 0}).encode()
    channel.settimeout(0.1)
    buffer = b""
    while True:
        channel.sendall(message(STATUS, status))
        try:
            data = channel.recv(65536)
        except TimeoutError:
            continue
        if not data:
            return
        buffer += data
        while len(buffer) >= HEADER.size:
            length, kind, _ = HEADER.unpack_from(buffer)
            buffer = buffer[HEADER.size + length :]
            if kind == SCRAPE:
                channel.sendall(message(METRICS, TEXT))
            elif kind == END or (kind == DRAIN and how != "deaf"):
                return


if __name__ == "__main__":
    main()
