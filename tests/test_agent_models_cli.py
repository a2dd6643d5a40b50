"""``ringtrue models`` and what stands behind it: fetched whole or not at all, listed, verified."""

from __future__ import annotations

import fcntl
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fakes.hub_server import HubServer, hub_server
from ringtrue.agent.hub import FetchError, Hub
from ringtrue.agent.models import (
    DEFAULT_VARIANT,
    Variant,
    chosen,
    fetch,
    installed,
    read_pins,
    variants,
)
from ringtrue.agent.models_cli import models as app
from ringtrue.streaming.errors import RingtrueError
from ringtrue.voices.pocket.files import MANIFEST, WEIGHTS, open_directory, sha256_of, verify

pytest.importorskip("pocket_tts", reason="pocket-tts is in the extra: pocket")

NAME = "english_2m_2026-10"
CONTENTS = {"weights": random.Random(2).randbytes(300_000), "tokenizer": b"tokens" * 100}


class Silent:
    """Somebody who isn't interested."""

    def file(self, name: str) -> None:
        pass

    def bytes(self, done: int, total: int) -> None:
        pass


@pytest.fixture
def variant() -> Variant:
    return chosen(f"pocket:{NAME}")


@pytest.fixture
def server(variant: Variant) -> Iterator[HubServer]:
    with hub_server() as hub:
        for file, content in (
            (variant.weights, CONTENTS["weights"]),
            (variant.tokenizer, CONTENTS["tokenizer"]),
        ):
            hub.files[file.url("").lstrip("/")] = content
        yield hub


@pytest.fixture
def hub(server: HubServer) -> Iterator[Hub]:
    client = Hub(server.url, sleep=lambda _: None)
    yield client
    client.close()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_the_library_s_models_can_be_chosen_and_are_pinned_to_a_revision() -> None:
    assert chosen("pocket").name == DEFAULT_VARIANT
    assert len(variants()) > 10
    for variant in variants().values():
        assert len(variant.weights.revision) == len(variant.tokenizer.revision) == 40
        assert variant.tokenizer_name in ("tokenizer.json", "tokenizer.model")


@pytest.mark.parametrize("name", ["pocket:klingon", "whisper", "", ":english"])
def test_an_unknown_model_is_refused_with_the_choices(name: str) -> None:
    with pytest.raises(FetchError, match="allowed: pocket .*pocket:english_2m_2026-10"):
        chosen(name)


def test_a_model_is_fetched_whole(
    variant: Variant, hub: Hub, server: HubServer, tmp_path: Path
) -> None:
    model = fetch(variant, tmp_path, hub, Silent())
    assert model.directory == tmp_path / NAME
    assert verify(model) == []
    assert sorted(path.name for path in model.directory.iterdir()) == [
        MANIFEST, WEIGHTS, "model.yaml", "tokenizer.model"
    ]  # fmt: skip
    assert model.source == f"hf://kyutai/pocket-tts@{variant.weights.revision}"
    assert installed(tmp_path) == [model.directory]
    before = server.sent()
    assert fetch(variant, tmp_path, hub, Silent()) == model
    assert server.sent() == before
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_failed_fetch_leaves_no_model_and_goes_on_where_it_stopped(
    variant: Variant, hub: Hub, server: HubServer, tmp_path: Path
) -> None:
    server.cut_after.extend([len(CONTENTS["tokenizer"])] + [50_000] * 5)
    with pytest.raises(FetchError, match="goes on from there"):
        fetch(variant, tmp_path, hub, Silent())
    assert installed(tmp_path) == []
    server.cut_after.clear()
    server.log.clear()
    model = fetch(variant, tmp_path, hub, Silent())
    assert verify(model) == []
    gets = [(path, headers.get("range")) for method, path, headers in server.log if method == "GET"]
    assert [wanted for _, wanted in gets] == ["bytes=250000-"]


def test_a_damaged_model_is_fetched_again(variant: Variant, hub: Hub, tmp_path: Path) -> None:
    model = fetch(variant, tmp_path, hub, Silent())
    model.path(WEIGHTS).write_bytes(bytes(300_000))
    assert verify(open_directory(model.directory)) != []
    assert verify(fetch(variant, tmp_path, hub, Silent())) == []


def test_a_manifest_that_came_another_way_must_agree(
    variant: Variant, hub: Hub, tmp_path: Path
) -> None:
    model = fetch(variant, tmp_path / "first", hub, Silent())
    pins = read_pins(model.path(MANIFEST))
    assert pins[WEIGHTS] == sha256_of(model.path(WEIGHTS))
    assert fetch(variant, tmp_path / "second", hub, Silent(), pins).digest == model.digest
    for name in pins:
        wrong = {**pins, name: "0" * 64}
        with pytest.raises(FetchError, match="0{64}"):
            fetch(variant, tmp_path / "third", hub, Silent(), wrong)
    assert installed(tmp_path / "third") == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": {"x": 3}}'])
def test_a_malformed_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(FetchError, match="no manifest of a model"):
        read_pins(tmp_path / "m.json")


def test_only_one_process_fetches_a_model(variant: Variant, hub: Hub, tmp_path: Path) -> None:
    staging = tmp_path / f".{NAME}.partial"
    staging.mkdir()
    with (staging / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FetchError, match="by another process"):
            fetch(variant, tmp_path, hub, Silent())
    assert verify(fetch(variant, tmp_path, hub, Silent())) == []


def fetched(server: HubServer, models: Path) -> dict[str, Any]:
    result = run(
        "fetch", f"pocket:{NAME}", "--hub", server.url, "--dir", models, "--token", "", "--json"
    )
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def test_commands_fetch_list_and_verify(server: HubServer, tmp_path: Path) -> None:
    report = fetched(server, tmp_path)
    assert report["directory"] == str(tmp_path / NAME)
    assert report["digest"] == open_directory(tmp_path / NAME).digest
    listed = json.loads(run("list", "--dir", tmp_path, "--json").stdout)
    assert listed["here"] == [report]
    assert f"pocket:{NAME}" in listed["available"]
    assert NAME in run("list", "--dir", tmp_path).stdout
    for names in ([], [NAME], [tmp_path / NAME]):
        result = run("verify", *names, "--dir", tmp_path, "--json")
        assert result.exit_code == 0
        assert json.loads(result.stdout) == {"ok": True, "models": {str(tmp_path / NAME): []}}
    (tmp_path / NAME / WEIGHTS).write_bytes(bytes(300_000))
    result = run("verify", "--dir", tmp_path)
    assert result.exit_code == 1
    assert f"{WEIGHTS} has SHA-256" in result.stdout
    assert run("verify", "nowhere", "--dir", tmp_path).exit_code == 1


def test_the_fetched_model_s_settings_are_shown(server: HubServer, tmp_path: Path) -> None:
    result = run("fetch", f"pocket:{NAME}", "--hub", server.url, "--dir", tmp_path)
    assert result.exit_code == 0, result.output
    assert f"voices:\n  pocket:\n    model: {tmp_path / NAME}" in result.stdout


def test_models_are_kept_beside_the_voices(server: HubServer, tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("voices: {dir: ours}")
    result = run("fetch", f"pocket:{NAME}", "--hub", server.url, "-c", config)
    assert result.exit_code == 0, result.output
    assert installed(tmp_path / "ours" / "models") == [tmp_path / "ours" / "models" / NAME]


def test_a_failure_is_an_error_of_ours(server: HubServer, tmp_path: Path) -> None:
    result = run("fetch", "pocket:none", "--hub", server.url, "--dir", tmp_path)
    assert isinstance(result.exception, RingtrueError)
