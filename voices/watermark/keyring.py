"""The watermark keys of an installation: one that marks, and those that marked before.

A key file is text, one ``id base64`` a line, the marking key first; ``#`` begins a comment. Old
keys stay in it: what they marked is found and read by them alone.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ringtrue.voices.keys.errors import KeyMaterialError
from ringtrue.voices.keys.secret_files import read_secret, write_secret
from ringtrue.voices.watermark.errors import WatermarkError
from ringtrue.voices.watermark.keys import DetectionKey, MarkKey

_HEADER: Final = (
    "# Ringtrue watermark keys: the first marks. Losing this file loses the proof of every call.\n"
)
_PUBLISHED: Final = "rtdk1_"
_PUBLISHED_DIGITS: Final = 43


@dataclass(frozen=True, slots=True)
class MarkKeys:
    """Keys by id, the marking one first."""

    keys: Mapping[str, MarkKey] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.keys:
            raise WatermarkError("no watermark key; at least one is needed")

    @property
    def current(self) -> MarkKey:
        """The key that marks."""
        return next(iter(self.keys.values()))

    @property
    def detection(self) -> tuple[DetectionKey, ...]:
        """What finds the marks of all of them."""
        return tuple(key.detection for key in self.keys.values())

    @classmethod
    def of(cls, *keys: MarkKey) -> MarkKeys:
        """From keys in hand, the marking one first."""
        return cls({key.id: key for key in keys})


def published(key: DetectionKey) -> str:
    """A detection key as text, to be given to whoever may check for marks."""
    return _PUBLISHED + base64.urlsafe_b64encode(key.key).decode().rstrip("=")


def read_published(text: str) -> DetectionKey:
    """What :func:`published` made. Raises :class:`WatermarkError`, never naming the text."""
    allowed = f"a detection key is {_PUBLISHED} and {_PUBLISHED_DIGITS} letters, digits, - or _"
    text = text.strip()
    digits = text.removeprefix(_PUBLISHED)
    if not text.startswith(_PUBLISHED) or len(digits) != _PUBLISHED_DIGITS:
        raise WatermarkError(allowed)
    try:
        return DetectionKey(base64.b64decode(digits + "=", altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        raise WatermarkError(allowed) from None


def create_mark_keys(path: Path) -> MarkKeys:
    """Make a key file (0600) with one new key.

    Raises :class:`~ringtrue.voices.keys.errors.KeyMaterialError` if the file exists or can't be
    written.
    """
    keys = MarkKeys.of(MarkKey.generate())
    _write(path, keys, replace=False)
    return keys


def load_mark_keys(path: Path) -> MarkKeys:
    """Read a key file; blocking, for start-up.

    Raises :class:`~ringtrue.voices.keys.errors.KeyMaterialError` naming the file, the line and
    what is wrong, never the key.
    """
    try:
        lines = read_secret(path).decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise KeyMaterialError(f"{path}: not ASCII text; each line is: id base64") from None
    keys: dict[str, MarkKey] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{path}: line {number}"
        if len(words) != 2:
            raise KeyMaterialError(f"{where} is not: id base64")
        try:
            key = MarkKey(base64.b64decode(words[1], validate=True))
        except (binascii.Error, ValueError):
            raise KeyMaterialError(f"{where}: the key is not base64") from None
        except WatermarkError as error:
            raise KeyMaterialError(f"{where}: {error}") from None
        if key.id != words[0]:
            raise KeyMaterialError(f"{where}: the key's id is {key.id}, not {words[0]!r}")
        if key.id in keys:
            raise KeyMaterialError(f"{where}: key {key.id} is there twice")
        keys[key.id] = key
    if not keys:
        raise KeyMaterialError(f"{path}: no keys in it; each line is: id base64")
    return MarkKeys(keys)


def rotate_mark_keys(path: Path) -> MarkKeys:
    """Put a new key at the head of an existing file: it marks from the next start on."""
    old = load_mark_keys(path)
    keys = MarkKeys.of(MarkKey.generate(), *old.keys.values())
    _write(path, keys, replace=True)
    return keys


def _write(path: Path, keys: MarkKeys, *, replace: bool) -> None:
    lines = [f"{key.id} {base64.b64encode(key.secret).decode()}\n" for key in keys.keys.values()]
    write_secret(path, (_HEADER + "".join(lines)).encode("ascii"), replace=replace)
