"""Models on this machine: which can be had, fetching one, and whether those here are whole."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import yaml

from ringtrue.agent.hub import FetchError, Hub, HubFile
from ringtrue.voices.errors import EngineUnavailableError
from ringtrue.voices.pocket.backend import EXTRA
from ringtrue.voices.pocket.files import (
    CONFIG,
    MANIFEST,
    WEIGHTS,
    FileEntry,
    ModelFiles,
    open_directory,
    read_manifest,
    sha256_of,
    verify,
    write_manifest,
)

KIND: Final = "pocket"
DEFAULT_VARIANT: Final = "english_7m_2026-10"
"""The largest English model that leaves room for several calls on one core."""

_LOCK: Final = ".lock"


class Watcher(Protocol):
    """Who is told how a fetch comes along."""

    def file(self, name: str) -> None:
        """The next file is ``name``."""
        ...

    def bytes(self, done: int, total: int) -> None:
        """So many of its bytes are here."""
        ...


@dataclass(frozen=True, slots=True)
class Variant:
    """One of pocket-tts's models."""

    name: str
    config: Path
    """As the library ships it."""

    weights: HubFile
    tokenizer: HubFile

    @property
    def tokenizer_name(self) -> str:
        """What its file is called here."""
        return f"tokenizer{Path(self.tokenizer.path).suffix}"


def variants() -> dict[str, Variant]:
    """The models that the installed pocket-tts knows, by name. Its code is not run.

    Raises :class:`~ringtrue.voices.errors.EngineUnavailableError` where it isn't installed.
    """
    spec = importlib.util.find_spec("pocket_tts")
    if spec is None or spec.origin is None:
        raise EngineUnavailableError(
            f"which models there are is said by pocket-tts, which is not installed: {EXTRA}"
        )
    found = {}
    for path in sorted((Path(spec.origin).parent / "config").glob("*.yaml")):
        with contextlib.suppress(FetchError, KeyError, TypeError, yaml.YAMLError):
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
            weights = HubFile.parse(config["weights_path"])
            tokenizer = HubFile.parse(config["flow_lm"]["lookup_table"]["tokenizer_path"])
            found[path.stem] = Variant(path.stem, path, weights, tokenizer)
    return found


def chosen(name: str) -> Variant:
    """The variant ``pocket`` or ``pocket:VARIANT`` means; raises :class:`FetchError`."""
    kind, _, variant = name.partition(":")
    known = variants()
    variant = variant or DEFAULT_VARIANT
    if kind != KIND or variant not in known:
        names = ", ".join(f"{KIND}:{each}" for each in known)
        raise FetchError(
            f"no model {name!r}; allowed: {KIND} (= {KIND}:{DEFAULT_VARIANT}), {names}"
        )
    return known[variant]


def read_pins(path: Path) -> dict[str, str]:
    """SHA-256 by file name from a manifest that came by another way than the model.

    Raises :class:`FetchError`.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        pins = {str(name): str(entry["sha256"]) for name, entry in data["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FetchError(f"{path} is no manifest of a model: {error}") from None
    return pins


def fetch(
    variant: Variant, models: Path, hub: Hub, watcher: Watcher, pins: dict[str, str] | None = None
) -> ModelFiles:
    """Get ``variant`` into a directory of its name under ``models``. Blocks.

    ``pins`` gives the SHA-256 that files must have, by name. A model that is there and whole is
    left alone; what an interrupted fetch left is taken up. Raises :class:`FetchError`.
    """
    target = models / variant.name
    staging = models / f".{variant.name}.partial"
    staging.mkdir(parents=True, exist_ok=True)
    with _alone(staging, variant.name):
        present = _whole(target, pins)
        if present is None:
            _gather(variant, staging, hub, watcher, pins or {})
            if target.exists():
                shutil.rmtree(target)
            (staging / _LOCK).unlink()
            staging.rename(target)
            return open_directory(target)
    shutil.rmtree(staging)
    return present


def _gather(
    variant: Variant, staging: Path, hub: Hub, watcher: Watcher, pins: dict[str, str]
) -> None:
    hashes = {}
    watcher.file(CONFIG)
    shutil.copyfile(variant.config, staging / CONFIG)
    hashes[CONFIG] = sha256_of(staging / CONFIG)
    if pins.get(CONFIG, hashes[CONFIG]) != hashes[CONFIG]:
        raise FetchError(
            f"{CONFIG} of the installed pocket-tts has SHA-256 {hashes[CONFIG]} instead of "
            f"{pins[CONFIG]}"
        )
    for name, file in ((variant.tokenizer_name, variant.tokenizer), (WEIGHTS, variant.weights)):
        watcher.file(name)
        hashes[name] = _kept(staging / name, pins.get(name)) or hub.fetch(
            file, staging / name, sha256=pins.get(name), on_bytes=watcher.bytes
        )
        (staging / f"{name}.sha256").write_text(hashes[name])
    files = {
        name: FileEntry((staging / name).stat().st_size, digest) for name, digest in hashes.items()
    }
    source = f"hf://{variant.weights.repository}@{variant.weights.revision}"
    write_manifest(ModelFiles(staging, variant.name, source, files))
    for name in hashes:
        (staging / f"{name}.sha256").unlink(missing_ok=True)


def _kept(path: Path, pin: str | None) -> str | None:
    """The SHA-256 of a file that an interrupted fetch finished, where it still has it."""
    note = path.with_name(f"{path.name}.sha256")
    if not (path.is_file() and note.is_file()):
        return None
    found = sha256_of(path)
    return found if found == note.read_text() and pin in (None, found) else None


def _whole(directory: Path, pins: dict[str, str] | None) -> ModelFiles | None:
    if not (directory / MANIFEST).is_file():
        return None
    try:
        model = open_directory(directory)
    except EngineUnavailableError:
        return None
    if verify(model):
        return None
    pinned = all(
        name in model.files and model.files[name].sha256 == digest
        for name, digest in (pins or {}).items()
    )
    return model if pinned else None


@contextlib.contextmanager
def _alone(staging: Path, name: str) -> Iterator[None]:
    with (staging / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FetchError(f"{name} is being fetched by another process") from None
        yield


def installed(models: Path) -> list[Path]:
    """Directories under ``models`` that hold a model's manifest."""
    if not models.is_dir():
        return []
    return sorted(
        path
        for path in models.iterdir()
        if path.is_dir() and not path.name.startswith(".") and (path / MANIFEST).is_file()
    )


def described(directory: Path) -> dict[str, Any]:
    """A model for people and for ``--json``; its fault, where it has one."""
    try:
        model = read_manifest(directory)
        if model is None:
            model = open_directory(directory)
    except EngineUnavailableError as error:
        return {"name": directory.name, "directory": str(directory), "fault": str(error)}
    return {
        "name": model.name,
        "directory": str(directory),
        "source": model.source,
        "bytes": sum(entry.size for entry in model.files.values()),
        "digest": model.digest,
        "files": {name: entry.sha256 for name, entry in sorted(model.files.items())},
    }
