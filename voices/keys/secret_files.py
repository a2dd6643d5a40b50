"""Files that hold secrets: created 0600, replaced whole, refused when others could read them."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from ringtrue.voices.keys.errors import KeyMaterialError

MAX_BYTES: Final = 64 * 1024


def read_secret(path: Path) -> bytes:
    """The contents of a secret file; links are followed, and the file they lead to is checked.

    Raises :class:`KeyMaterialError` unless it is a regular file, owned by this process's user or
    root, closed to group and others, and at most 64 KiB long.
    """
    try:
        # Not to wait for the writer of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyMaterialError(f"{path}: can't be opened: {error.strerror}") from None
    try:
        # Of the open file, not of the path: the path may lead elsewhere a moment later.
        _check(path, os.fstat(descriptor))
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise KeyMaterialError(f"{path}: longer than {MAX_BYTES} bytes")
    return data


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyMaterialError(f"{path}: not a regular file")
    if status.st_uid not in (os.geteuid(), 0):
        allowed = "root" if os.geteuid() == 0 else f"{os.geteuid()} or root"
        raise KeyMaterialError(f"{path}: owned by user {status.st_uid}; allowed: {allowed}")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise KeyMaterialError(
            f"{path}: mode {mode:04o} lets others at it; allowed: 0600 or 0400 (chmod 600 {path})"
        )


def write_secret(path: Path, data: bytes, *, replace: bool) -> None:
    """Write ``data`` to ``path`` with mode 0600, whole or not at all.

    With ``replace`` false an existing file is left alone. Raises :class:`KeyMaterialError` if it
    exists then, or can't be written.
    """
    path = path.resolve()  # of a link, the file it leads to
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            beside.replace(path)
        else:
            os.link(beside, path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileExistsError:
        raise KeyMaterialError(f"{path}: exists already; it is not overwritten") from None
    except OSError as error:
        raise KeyMaterialError(f"{path}: can't be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
