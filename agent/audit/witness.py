"""Somebody else who remembers what was signed: a file elsewhere, or a URL.

A log whose owner rolls it back to an earlier state and signs on from there looks whole; only
against checkpoints kept out of the owner's hands does it not. A witness that fails loses nothing:
notes wait for it, the log goes on, and the alarm is raised.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import httpx
import structlog

from ringtrue.agent.audit.disk import write_at
from ringtrue.agent.audit.errors import WitnessError

log = structlog.get_logger(__name__)

WAITING: Final = 1000
"""Notes kept for a witness that fails; the oldest are dropped first (the log has them all)."""

RETRY_SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 15.0)
TIMEOUT_SECONDS: Final = 10.0


class Witness(Protocol):
    """Takes signed checkpoints. Blocking."""

    def take(self, note: str) -> None:
        """Keep ``note``. Raises :class:`WitnessError`."""
        ...


class FileWitness:
    """Appends to a file, which many processes may share; best on another machine's disk."""

    def __init__(self, path: Path) -> None:
        """``path`` is made on first use."""
        self._path = path

    def take(self, note: str) -> None:
        """Append ``note`` and an empty line, durably."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                end = os.fstat(descriptor).st_size
                write_at(descriptor, f"{note}\n".encode(), end)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise WitnessError(f"{self._path}: {error.strerror}") from None


class HttpWitness:
    """Posts each note (``text/plain``) to a URL, which answers 2xx once it has kept it."""

    def __init__(self, url: str, *, timeout: float = TIMEOUT_SECONDS) -> None:
        """``timeout`` is in seconds."""
        self._url = url
        self._timeout = timeout

    def take(self, note: str) -> None:
        """Post ``note``."""
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        try:
            answer = httpx.post(
                self._url, content=note.encode(), headers=headers, timeout=self._timeout
            )
        except httpx.HTTPError as error:
            raise WitnessError(f"{urlsplit(self._url).hostname}: {type(error).__name__}") from None
        if not answer.is_success:
            raise WitnessError(f"{urlsplit(self._url).hostname}: HTTP {answer.status_code}")


def witness_at(place: str) -> Witness:
    """The witness at a URL (``http:``, ``https:``) or a path."""
    if place.startswith(("http://", "https://")):
        return HttpWitness(place)
    return FileWitness(Path(place))


class Herald:
    """Carries notes to a witness on a thread of its own, in order, again until it takes them."""

    def __init__(
        self,
        witness: Witness,
        *,
        on_change: Callable[[str | None], None] = lambda reason: None,
        retry: tuple[float, ...] = RETRY_SECONDS,
    ) -> None:
        """``on_change`` is told why the witness fails, and None when it takes notes again."""
        self._witness = witness
        self._on_change = on_change
        self._retry = retry
        self._notes: deque[str] = deque(maxlen=WAITING)
        self._wake = threading.Condition()
        self._stopping: float | None = None
        self.failing: str | None = None
        """Why the witness doesn't take notes; None while it does."""

        self.taken = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="audit-witness", daemon=True)
        self._thread.start()

    def carry(self, note: str) -> None:
        """Queue a note; never blocks."""
        with self._wake:
            self.dropped += len(self._notes) == WAITING
            self._notes.append(note)
            self._wake.notify()

    def close(self, seconds: float) -> None:
        """Give what waits another ``seconds``, then stop. Blocking."""
        with self._wake:
            self._stopping = time.monotonic() + seconds
            self._wake.notify()
        self._thread.join(seconds + TIMEOUT_SECONDS + 1)

    def _run(self) -> None:
        tries = 0
        while True:
            with self._wake:
                while not self._notes and self._stopping is None:
                    self._wake.wait()
                if not self._notes or self._late():
                    return
                note = self._notes[0]
            try:
                self._witness.take(note)
            except WitnessError as error:
                self._change(str(error))
                pause = self._retry[min(tries, len(self._retry) - 1)]
                tries += 1
                with self._wake:
                    if self._stopping is None:
                        self._wake.wait(pause)
                    else:
                        self._wake.wait(min(pause, 0.2))
            else:
                tries = 0
                self.taken += 1
                self._change(None)
                with self._wake:
                    if self._notes and self._notes[0] is note:
                        self._notes.popleft()

    def _late(self) -> bool:
        return self._stopping is not None and time.monotonic() > self._stopping

    def _change(self, reason: str | None) -> None:
        if (reason is None) is not (self.failing is None):
            if reason is None:
                log.info("audit.witness_back")
            else:
                log.error("audit.witness_failing", reason=reason)
            self._on_change(reason)
        self.failing = reason


def read_witness(path: Path) -> list[str]:
    """The notes in a witness's file; what is none of them is given too, to be told.

    Raises OSError.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    found, rest = [], text
    while rest:
        # A note is its body, an empty line, its signature and the empty line behind it.
        body, blank, behind = rest.partition("\n\n")
        signature, newline, rest = behind.partition("\n")
        found.append(f"{body}{blank}{signature}{newline}")
        rest = rest.removeprefix("\n")
    return found
