"""The process of one long job: ``python -m ringtrue.voices.job SPEC``.

The request comes in on stdin and messages go out on stdout, each a length and that many bytes;
nothing is unpickled on either side. The end of stdin ends the process at once, so it never
outlives its parent. It runs with low priority and bounded memory and CPU, dumps no core, and
sees no more of the environment than :mod:`ringtrue.voices.pool` gives it.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ringtrue.voices.engine import OnProgress, Progress
from ringtrue.voices.errors import CloningError

LENGTH: Final = struct.Struct("<I")
"""Before the request: its size in bytes."""

HEADER: Final = struct.Struct("<BI")
"""Before each message: its kind, and the size of its payload in bytes."""

MAX_REQUEST: Final = 32 << 20
MAX_RESULT: Final = 16 << 20
MAX_TEXT: Final = 2000
"""Longest text of a message, in bytes."""

PROGRESS_SECONDS: Final = 0.1
"""Least time between two reports; those in between are dropped."""

Job = Callable[[bytes, OnProgress], bytes]
"""A long job: its request, whom to tell of progress; its result.

Raises :class:`~ringtrue.voices.errors.CloningError` where the request won't do.
"""


class Kind(IntEnum):
    """What a message says."""

    PROGRESS = 1
    """JSON of a :class:`~ringtrue.voices.engine.Progress`."""

    RESULT = 2
    """The job's result; the last message."""

    REFUSED = 3
    """Why the request won't do; the last message."""

    FAILED = 4
    """What went wrong in the job; the last message."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What a process is to do, and within which limits."""

    entry: str
    """``module:function`` of a :data:`Job`."""

    nice: int
    """Added to the process's niceness."""

    memory: int
    """Bytes of data the process may hold."""

    cpu_seconds: int
    """CPU time it may take."""


class _Reporter:
    """Messages to the parent."""

    def __init__(self, output: int) -> None:
        self._output = output
        self._last = 0.0

    def progress(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= PROGRESS_SECONDS or progress.done >= 1.0:
            self._last = now
            doing = progress.doing[:200]
            self.send(Kind.PROGRESS, json.dumps({"done": progress.done, "doing": doing}).encode())

    def text(self, kind: Kind, text: str) -> None:
        self.send(kind, text.encode(errors="replace")[:MAX_TEXT])

    def send(self, kind: Kind, payload: bytes) -> None:
        data = memoryview(HEADER.pack(kind, len(payload)) + payload)
        while data:
            data = data[os.write(self._output, data) :]


def _read(source: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = os.read(source, min(size, 1 << 20))
        if not part:
            os._exit(1)  # the parent is gone
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _end_with_parent(source: int) -> None:
    while os.read(source, 1):
        pass
    os._exit(1)


def _limit(spec: Spec) -> None:
    os.nice(spec.nice)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (spec.memory, spec.memory))
    resource.setrlimit(resource.RLIMIT_CPU, (spec.cpu_seconds, spec.cpu_seconds + 1))


def _where(error: BaseException) -> str:
    """The error with the place it came from, and none of the data around it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}: {error}"


def _run(spec: Spec, request: bytes, reporter: _Reporter) -> None:
    try:
        module, _, function = spec.entry.partition(":")
        job: Job = getattr(importlib.import_module(module), function)
        result = job(request, reporter.progress)
    except CloningError as error:
        reporter.text(Kind.REFUSED, str(error))
    except Exception as error:  # the parent says it to whoever asked
        reporter.text(Kind.FAILED, _where(error))
    else:
        if len(result) > MAX_RESULT:
            reporter.text(Kind.FAILED, f"result of {len(result)} bytes; at most {MAX_RESULT}")
        else:
            reporter.send(Kind.RESULT, result)


def main() -> None:
    """Entry point of the process."""
    # An interrupt or stop meant for the server reaches its whole group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    spec = Spec(**json.loads(sys.argv[1]))
    _limit(spec)
    output = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no message
    (size,) = LENGTH.unpack(_read(0, LENGTH.size))
    request = _read(0, size)
    threading.Thread(target=_end_with_parent, args=(0,), daemon=True).start()
    _run(spec, request, _Reporter(output))
    os._exit(0)  # without the wait for threads of libraries


if __name__ == "__main__":
    main()
