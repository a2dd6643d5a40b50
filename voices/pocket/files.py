"""A model's directory: what is in it, which model that is, and whether it is whole.

::

    model.yaml          pocket-tts's configuration; its paths are not followed
    model.safetensors   weights, Mimi's included
    tokenizer.json      or tokenizer.model (SentencePiece)
    manifest.json       name, origin, size and SHA-256 of each; written by whoever fetched it

A directory without a manifest works too: its files are hashed when it is opened.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ringtrue.voices.errors import EngineUnavailableError

CONFIG: Final = "model.yaml"
WEIGHTS: Final = "model.safetensors"
TOKENIZERS: Final = ("tokenizer.json", "tokenizer.model")
MANIFEST: Final = "manifest.json"
MANIFEST_FORMAT: Final = 1
MAX_MANIFEST: Final = 64 * 1024

_BLOCK: Final = 1 << 20
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file as the manifest has it."""

    size: int
    """Bytes."""

    sha256: str
    """Hex."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's directory, opened."""

    directory: Path
    name: str
    """The manifest's, or the directory's."""

    source: str
    """Where it came from, or ``""``."""

    files: dict[str, FileEntry]

    @property
    def digest(self) -> str:
        """What identifies the model: SHA-256 over its files' hashes, hex."""
        lines = (f"{name} {entry.sha256}\n" for name, entry in sorted(self.files.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def tokenizer(self) -> str:
        """Name of the tokenizer's file."""
        return next(name for name in TOKENIZERS if name in self.files)

    def path(self, name: str) -> Path:
        """Where the file ``name`` is."""
        return self.directory / name


def sha256_of(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file, hex; ``on_bytes`` is told how many more bytes were read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if on_bytes is not None:
                on_bytes(len(block))
    return digest.hexdigest()


def open_directory(directory: Path) -> ModelFiles:
    """The model in ``directory``; hashes its files where no manifest says their hashes. Blocks.

    Raises :class:`~ringtrue.voices.errors.EngineUnavailableError` saying what is missing.
    """
    if not directory.is_dir():
        raise EngineUnavailableError(f"{directory} is no directory; a pocket-tts model is expected")
    present = [name for name in TOKENIZERS if (directory / name).is_file()]
    missing = [name for name in (CONFIG, WEIGHTS) if not (directory / name).is_file()]
    if not present:
        missing.append(" or ".join(TOKENIZERS))
    if missing:
        raise EngineUnavailableError(
            f"{directory} has no {', no '.join(missing)}; a pocket-tts model needs {CONFIG}, "
            f"{WEIGHTS} and one of {', '.join(TOKENIZERS)}"
        )
    manifest = read_manifest(directory)
    names = (CONFIG, WEIGHTS, present[0])
    if manifest is None:
        files = {
            name: FileEntry((directory / name).stat().st_size, sha256_of(directory / name))
            for name in names
        }
        return ModelFiles(directory, directory.name, "", files)
    for name in names:
        entry = manifest.files.get(name)
        if entry is None:
            raise EngineUnavailableError(f"{directory / MANIFEST} doesn't list {name}")
        size = (directory / name).stat().st_size
        if size != entry.size:
            raise EngineUnavailableError(
                f"{directory / name} has {size} bytes; its manifest says {entry.size}: "
                "fetch the model again"
            )
    return manifest


def read_manifest(directory: Path) -> ModelFiles | None:
    """What the manifest in ``directory`` says, or None where there is none.

    Raises :class:`~ringtrue.voices.errors.EngineUnavailableError` for one that can't be read.
    """
    path = directory / MANIFEST
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > MAX_MANIFEST:
            raise ValueError(f"more than {MAX_MANIFEST} bytes")
        data = json.loads(path.read_bytes())
        if data["format"] != MANIFEST_FORMAT:
            raise ValueError(f"format {data['format']!r}; this version reads {MANIFEST_FORMAT}")
        files = {str(name): _entry(name, entry) for name, entry in data["files"].items()}
        return ModelFiles(directory, str(data["name"]), str(data.get("source", "")), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise EngineUnavailableError(f"{path} is no manifest of a model: {what}") from None


def _entry(name: str, entry: Any) -> FileEntry:
    if "/" in name or "\\" in name or name in ("", ".", "..", MANIFEST):
        raise ValueError(f"{name!r} is no file of a model's directory")
    size, sha256 = entry["size"], entry["sha256"]
    if type(size) is not int or size < 0:
        raise ValueError(f"size {size!r} of {name}")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ValueError(f"sha256 {sha256!r} of {name}")
    return FileEntry(size, sha256)


def write_manifest(model: ModelFiles) -> None:
    """Write ``model``'s manifest into its directory, whole or not at all."""
    data = {
        "format": MANIFEST_FORMAT,
        "name": model.name,
        "source": model.source,
        "files": {
            name: {"size": entry.size, "sha256": entry.sha256}
            for name, entry in sorted(model.files.items())
        },
    }
    path = model.directory / MANIFEST
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def verify(model: ModelFiles, on_bytes: Callable[[int], None] | None = None) -> list[str]:
    """What is wrong with the files of ``model``, each by name; empty where all is well. Blocks."""
    wrong = []
    for name, entry in sorted(model.files.items()):
        path = model.path(name)
        if not path.is_file():
            wrong.append(f"{name} is missing")
            continue
        size = path.stat().st_size
        if size != entry.size:
            wrong.append(f"{name} has {size} bytes instead of {entry.size}")
        elif (found := sha256_of(path, on_bytes)) != entry.sha256:
            wrong.append(f"{name} has SHA-256 {found} instead of {entry.sha256}")
    return wrong
