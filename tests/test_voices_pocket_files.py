"""A model's directory: opened, described, verified, and refused when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ringtrue.voices.errors import EngineUnavailableError
from ringtrue.voices.pocket.files import (
    CONFIG,
    MANIFEST,
    WEIGHTS,
    open_directory,
    read_manifest,
    verify,
    write_manifest,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    home = tmp_path / "small"
    home.mkdir()
    (home / CONFIG).write_text("{}")
    (home / WEIGHTS).write_bytes(b"w" * 1000)
    (home / "tokenizer.json").write_text("{}")
    return home


def test_a_directory_without_a_manifest_is_hashed(directory: Path) -> None:
    model = open_directory(directory)
    assert (model.name, model.source, model.tokenizer) == ("small", "", "tokenizer.json")
    assert model.files[WEIGHTS].size == 1000
    assert verify(model) == []
    digest = model.digest
    (directory / WEIGHTS).write_bytes(b"v" * 1000)
    assert open_directory(directory).digest != digest


def test_the_manifest_is_read_back_and_spares_the_hashing(directory: Path) -> None:
    model = open_directory(directory)
    write_manifest(model)
    assert open_directory(directory) == model
    (directory / WEIGHTS).write_bytes(b"v" * 1000)
    assert open_directory(directory).digest == model.digest
    (wrong,) = verify(open_directory(directory))
    assert wrong.startswith(f"{WEIGHTS} has SHA-256")


def test_verify_names_each_fault_and_tells_how_far_it_is(directory: Path) -> None:
    model = open_directory(directory)
    read: list[int] = []
    assert verify(model, read.append) == []
    assert sum(read) == sum(entry.size for entry in model.files.values())
    (directory / WEIGHTS).write_bytes(b"w" * 999)
    (directory / CONFIG).unlink()
    assert verify(model) == [
        f"{WEIGHTS} has 999 bytes instead of 1000",
        f"{CONFIG} is missing",
    ] or verify(model) == [
        f"{CONFIG} is missing",
        f"{WEIGHTS} has 999 bytes instead of 1000",
    ]


def test_a_truncated_file_is_noticed_on_opening(directory: Path) -> None:
    write_manifest(open_directory(directory))
    (directory / WEIGHTS).write_bytes(b"w" * 10)
    with pytest.raises(EngineUnavailableError, match="10 bytes; its manifest says 1000"):
        open_directory(directory)


def test_what_is_missing_is_named(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match="no directory"):
        open_directory(tmp_path / "nowhere")
    (directory / WEIGHTS).unlink()
    (directory / "tokenizer.json").unlink()
    with pytest.raises(
        EngineUnavailableError, match=r"has no model.safetensors, no tokenizer.json or tokenizer"
    ):
        open_directory(directory)


GOOD = {"size": 2, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{", b"\xff\xfe", b"null", b'{"format": 2, "name": "x", "files": {}}',
        json.dumps({"format": 1, "files": {}}).encode(),
        json.dumps({"format": 1, "name": "x", "files": {"../x": GOOD}}).encode(),
        json.dumps({"format": 1, "name": "x", "files": {"x": {**GOOD, "size": -1}}}).encode(),
        json.dumps({"format": 1, "name": "x", "files": {"x": {**GOOD, "sha256": "Z"}}}).encode(),
        json.dumps({"format": 1, "name": "x", "files": {"x": 3}}).encode(),
        b'{"format": 1, "name": "' + b"x" * 70_000 + b'", "files": {}}',
    ],
)  # fmt: skip
def test_a_malformed_manifest_is_an_error_of_ours(directory: Path, content: bytes) -> None:
    (directory / MANIFEST).write_bytes(content)
    with pytest.raises(EngineUnavailableError, match="no manifest of a model"):
        read_manifest(directory)


def test_a_manifest_that_leaves_a_file_out_is_refused(directory: Path) -> None:
    (directory / MANIFEST).write_text(json.dumps({"format": 1, "name": "x", "files": {}}))
    with pytest.raises(EngineUnavailableError, match="doesn't list model.yaml"):
        open_directory(directory)
