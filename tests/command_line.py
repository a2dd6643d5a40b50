"""The command line in this process, with what it printed."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import structlog
from loguru import logger as loguru_logger

from ringtrue.agent import cli


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    def json(self) -> Any:
        return json.loads(self.raw)


def run_command(*arguments: object, stdin: str = "") -> Ran:
    """``ringtrue`` with ``arguments``; what it writes to its descriptors is captured too."""
    err = io.StringIO()
    if not structlog.is_configured():  # a server in this process logs too, and not into ``out``
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
    with tempfile.TemporaryFile() as out:
        text = io.TextIOWrapper(os.fdopen(os.dup(out.fileno()), "wb"), "utf-8", newline="")
        code = 0
        with (
            patch.object(sys, "argv", ["ringtrue", *map(str, arguments)]),
            patch.object(sys, "stdin", io.StringIO(stdin)),
            contextlib.redirect_stdout(text),
            contextlib.redirect_stderr(err),
            text,
        ):
            try:
                cli.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
        out.seek(0)
        return Ran(code, out.read(), err.getvalue())


@contextlib.contextmanager
def restored_logs() -> Iterator[None]:
    """Undo what a command does to the process's logging."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        yield
    finally:
        structlog.reset_defaults()
        loguru_logger.remove()
        loguru_logger.add(sys.stderr, level="WARNING")
        root.handlers[:] = handlers
        root.setLevel(level)
