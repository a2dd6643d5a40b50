"""Where master keys come from: a key file, or a variable's value.

A key file is text, one ``id base64`` a line, the current key first; ``#`` begins a comment. The
variable holds the same pairs as ``id:base64``, separated by commas, the current key first. Both
read into a :class:`~ringtrue.voices.keys.management.KeyRing`.

Rotation: :func:`add_master_key`, then re-wrap every data key
(:meth:`ringtrue.voices.store.vault.KeyVault.rewrap`), then :func:`retire_master_key`.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from ringtrue.voices.keys.errors import KeyMaterialError, UnknownKeyError
from ringtrue.voices.keys.management import KEY_ID, KeyRing
from ringtrue.voices.keys.sealing import KEY_BYTES
from ringtrue.voices.keys.secret_files import read_secret, write_secret

VARIABLE: Final = "RINGTRUE_MASTER_KEYS"
"""The environment variable a server reads master keys from."""

_HEADER: Final = (
    "# Ringtrue master keys: the first is current. Losing this file loses every voice.\n"
)


def load_key_file(path: Path) -> KeyRing:
    """Read the ring from a key file; blocking, for start-up.

    Raises :class:`KeyMaterialError` naming the file, the line and what is wrong, never the key.
    """
    return _ring(_read(path), str(path))


def key_ring_from_environment(environ: Mapping[str, str], name: str = VARIABLE) -> KeyRing:
    """Read the ring from the variable ``name`` of ``environ`` (``os.environ``).

    Raises :class:`KeyMaterialError` where it is unset or malformed.
    """
    value = environ.get(name, "")
    if not value.strip():
        raise KeyMaterialError(f"{name} is not set; it takes id:base64[,id:base64…], current first")
    pairs = []
    for number, item in enumerate(value.split(","), 1):
        key_id, colon, encoded = item.strip().partition(":")
        if not colon:
            raise KeyMaterialError(f"{name}: entry {number} is not id:base64")
        pairs.append((key_id, _decoded(encoded, f"{name}: entry {number}")))
    return _ring(pairs, name)


def new_master_key() -> bytes:
    """32 bytes from the system's random source."""
    return secrets.token_bytes(KEY_BYTES)


def encode_key(key_id: str, secret: bytes) -> str:
    """``id:base64`` as the variable takes it."""
    return f"{key_id}:{base64.b64encode(secret).decode()}"


def create_key_file(path: Path, key_id: str | None = None) -> str:
    """Make a key file (0600) with one new master key; returns the key's id.

    Raises :class:`KeyMaterialError` if the file exists or can't be written.
    """
    key_id = _checked_id(key_id)
    _write(path, [(key_id, new_master_key())], replace=False)
    return key_id


def add_master_key(path: Path, key_id: str | None = None) -> str:
    """Put a new master key at the head of an existing file, which makes it current."""
    key_id = _checked_id(key_id)
    pairs = _read(path)
    if key_id in dict(pairs):
        raise KeyMaterialError(f"{path}: key {key_id!r} is there already; choose another id")
    _write(path, [(key_id, new_master_key()), *pairs], replace=True)
    return key_id


def retire_master_key(path: Path, key_id: str) -> None:
    """Delete an old master key; what it still wraps is lost for good.

    Raises :class:`UnknownKeyError` if it isn't there and :class:`KeyMaterialError` for the
    current key.
    """
    pairs = _read(path)
    if key_id not in dict(pairs):
        raise UnknownKeyError(key_id, dict(pairs))
    if pairs[0][0] == key_id:
        raise KeyMaterialError(f"{path}: key {key_id!r} is current; add its successor first")
    _write(path, [pair for pair in pairs if pair[0] != key_id], replace=True)


def _checked_id(key_id: str | None) -> str:
    if key_id is None:
        return f"mk-{secrets.token_hex(6)}"
    if not KEY_ID.fullmatch(key_id):
        raise KeyMaterialError(
            f"key id {key_id!r}: 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit"
        )
    return key_id


def _read(path: Path) -> list[tuple[str, bytes]]:
    try:
        text = read_secret(path).decode("ascii")
    except UnicodeDecodeError:
        raise KeyMaterialError(f"{path}: not ASCII text; each line is: id base64") from None
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise KeyMaterialError(f"{path}: line {number} is not: id base64")
        pairs.append((words[0], _decoded(words[1], f"{path}: line {number}")))
    if not pairs:
        raise KeyMaterialError(f"{path}: no keys in it; each line is: id base64")
    _ring(pairs, str(path))
    return pairs


def _write(path: Path, pairs: Iterable[tuple[str, bytes]], *, replace: bool) -> None:
    lines = [f"{key_id} {base64.b64encode(secret).decode()}\n" for key_id, secret in pairs]
    write_secret(path, (_HEADER + "".join(lines)).encode("ascii"), replace=replace)


def _decoded(encoded: str, where: str) -> bytes:
    try:
        secret = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise KeyMaterialError(f"{where}: the key is not base64") from None
    if len(secret) != KEY_BYTES:
        raise KeyMaterialError(f"{where}: the key has {len(secret)} bytes; it takes {KEY_BYTES}")
    return secret


def _ring(pairs: list[tuple[str, bytes]], where: str) -> KeyRing:
    if len(dict(pairs)) != len(pairs):
        raise KeyMaterialError(f"{where}: names a key id twice")
    try:
        return KeyRing(dict(pairs), pairs[0][0])
    except KeyMaterialError as error:
        raise KeyMaterialError(f"{where}: {error}") from None
