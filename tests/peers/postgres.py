"""A PostgreSQL server of the test run's own, on a Unix socket only."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SETTINGS = "-c listen_addresses='' -c fsync=off -c synchronous_commit=off -c shared_buffers=16MB"


def postgres_binaries() -> Path | None:
    """Where Debian keeps the newest server's programs; None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: p.parts[4])
    return found[-1].parent if found else None


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    binaries: Path
    folder: Path

    def run(self, *command: str) -> str:
        """Run one of its programs as the server's user."""
        first, *rest = command
        done = subprocess.run(
            [*_as_server_user(), str(self.binaries / first), *rest],
            capture_output=True,
            text=True,
            timeout=60,
            cwd="/",
            env={**os.environ, "LC_ALL": "C.UTF-8", "PGHOST": str(self.folder)},
        )
        if done.returncode:
            pytest.fail(f"{first} failed: {done.stderr[-2000:]}")
        return done.stdout

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{uuid.uuid4().hex}"
        self.run("createdb", "-U", "ringtrue", name)
        return f"postgresql://ringtrue@/{name}?host={self.folder}"

    def dump(self, url: str) -> str:
        """The database behind ``url`` as SQL text."""
        return self.run("pg_dump", "-U", "ringtrue", url.partition("@/")[2].partition("?")[0])


def _as_server_user() -> list[str]:
    # The server refuses to run as root.
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a server; skips the test, saying why, where there is none to start."""
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("needs a PostgreSQL server (Debian package postgresql)")
    # Not pytest's folder: others may not enter it, and a socket's path is at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="rt-pg-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        server = Postgres(binaries, folder)
        data, log = str(folder / "data"), str(folder / "log")
        server.run("initdb", "-D", data, "-U", "ringtrue", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"{SETTINGS} -k {folder}"
        server.run("pg_ctl", "start", "-w", "-s", "-D", data, "-l", log, "-o", options)
        try:
            yield server
        finally:
            server.run("pg_ctl", "stop", "-w", "-s", "-m", "immediate", "-D", data)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
