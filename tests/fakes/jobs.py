"""Jobs for a pool's processes: some do as they should."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import time
from pathlib import Path

from ringtrue.voices.engine import OnProgress, Progress
from ringtrue.voices.errors import CloningError


def echo(request: bytes, on_progress: OnProgress) -> bytes:
    on_progress(Progress(0.25, "echoing"))
    on_progress(Progress(1.0, "done"))
    sys.stdout.write("what a library prints is no message\n")
    sys.stdout.flush()
    return request


def surroundings(request: bytes, on_progress: OnProgress) -> bytes:
    return json.dumps(
        {
            "nice": os.nice(0),
            "core": resource.getrlimit(resource.RLIMIT_CORE)[1],
            "environment": dict(os.environ),
            "modules": sorted(sys.modules),
        }
    ).encode()


def backwards(request: bytes, on_progress: OnProgress) -> bytes:
    for done in (0.5, 0.2, 7.0):
        on_progress(Progress(done, "x" * 5000))
        time.sleep(0.11)
    return b""


def refuse(request: bytes, on_progress: OnProgress) -> bytes:
    raise CloningError("4 s of speech; at least 5 are needed")


def stumble(request: bytes, on_progress: OnProgress) -> bytes:
    raise KeyError("nowhere")


def segfault(request: bytes, on_progress: OnProgress) -> bytes:
    ctypes.string_at(0)
    return b""


def leave(request: bytes, on_progress: OnProgress) -> bytes:
    os._exit(255)


def gorge(request: bytes, on_progress: OnProgress) -> bytes:
    return bytes(1 << 30)


def burn(request: bytes, on_progress: OnProgress) -> bytes:
    while True:
        pass


def boast(request: bytes, on_progress: OnProgress) -> bytes:
    return bytes((16 << 20) + 1)


def hang(request: bytes, on_progress: OnProgress) -> bytes:
    on_progress(Progress(0.1, "hanging"))
    while True:
        time.sleep(1.0)


def until_told(request: bytes, on_progress: OnProgress) -> bytes:
    """Runs until the file named in the request exists."""
    on_progress(Progress(0.1, "begun"))
    while not Path(request.decode()).exists():
        time.sleep(0.01)
    return b"told"


def babble(request: bytes, on_progress: OnProgress) -> bytes:
    """Writes into the pipe what is no message."""
    for fd in range(3, 10):
        try:
            os.write(fd, b"\xff" * 64)
        except OSError:
            continue
    time.sleep(60)
    return b""


def flood(request: bytes, on_progress: OnProgress) -> bytes:
    """Sends on, whether anybody listens or not."""
    frame = b"\x09" + (1 << 20).to_bytes(4, "little") + bytes(1 << 20)
    for fd in range(3, 10):
        try:
            os.write(fd, frame)
        except OSError:
            continue
    return b""
