"""``ringtrue watermark`` on files as people have them."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import Ran, restored_logs, run_command
from watermarking import TOKEN, marked, speech

from ringtrue.voices.watermark.keyring import MarkKeys, create_mark_keys, load_mark_keys, published
from ringtrue.voices.watermark.keys import MarkKey


@pytest.fixture(autouse=True)
def _blank(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("RINGTRUE_VOICES__DIR", str(tmp_path / "voices"))
    with restored_logs():
        yield


@pytest.fixture
def held(tmp_path: Path) -> MarkKeys:
    (tmp_path / "voices" / "keys").mkdir(parents=True)
    return create_mark_keys(tmp_path / "voices" / "keys" / "watermark.keys")


def ringtrue(*arguments: object) -> Ran:
    return run_command(*arguments)


def written(path: Path, pcm: np.ndarray, rate: int = 8000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(pcm.tobytes())
    return path


def test_our_speech_is_told_from_a_persons(tmp_path: Path, held: MarkKeys) -> None:
    host = speech(8000, 5.0)
    ours = written(tmp_path / "ours.wav", marked(host, 8000, held.current))
    person = written(tmp_path / "person.wav", host)
    told = ringtrue("watermark", "detect", ours, person)
    assert told.code == 0
    assert "ours.wav: synthetic: made here" in told.out
    assert f"session {TOKEN.session:08x} began 2026-03-04T05:06" in told.out
    assert "person.wav: no finding" in told.out
    assert ringtrue("watermark", "detect", person).code == 1


def test_the_published_key_finds_and_reads_nothing(tmp_path: Path, held: MarkKeys) -> None:
    ours = written(tmp_path / "ours.wav", marked(speech(8000, 5.0), 8000, held.current))
    key = ringtrue("watermark", "keys", "export").out.strip()
    assert key == published(held.current.detection)
    told = ringtrue("watermark", "detect", ours, "--detection-key", key, "--json")
    (report,) = told.json()["files"]
    assert report["found"]
    assert report["false_alarm"] < 1e-6
    (stretch,) = report["channels"][0]["stretches"]
    assert stretch["token"] is None
    assert report["sessions"] == []


def test_another_installations_key_file(tmp_path: Path) -> None:
    keys = create_mark_keys(tmp_path / "theirs.keys")
    theirs = written(tmp_path / "theirs.wav", marked(speech(8000, 5.0), 8000, keys.current))
    told = ringtrue("watermark", "detect", theirs, "--key", tmp_path / "theirs.keys", "--json")
    (report,) = told.json()["files"]
    assert report["channels"][0]["stretches"][0]["token"]["session"] == f"{TOKEN.session:08x}"


def test_keys_are_listed_and_rotated_and_old_ones_still_find(
    tmp_path: Path, held: MarkKeys
) -> None:
    ours = written(tmp_path / "ours.wav", marked(speech(8000, 5.0), 8000, held.current))
    rotated = ringtrue("watermark", "keys", "rotate", "--json").json()
    assert rotated["marks"] != held.current.id
    listed = ringtrue("watermark", "keys", "--json").json()
    assert listed == rotated
    assert listed["keys"][1:] == [held.current.id]
    assert held.current.id in ringtrue("watermark", "keys").out
    again = load_mark_keys(tmp_path / "voices" / "keys" / "watermark.keys")
    assert again.current.id == rotated["marks"]
    assert ringtrue("watermark", "detect", ours).code == 0


def test_what_is_wrong_is_named(tmp_path: Path, held: MarkKeys) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no audio at all, " * 100)
    refused = ringtrue("watermark", "detect", text)
    assert refused.code == 2
    assert "notes.txt: no audio file that can be read" in refused.err
    secret = "rtdk1_" + "x" * 40
    refused = ringtrue("watermark", "detect", text, "--detection-key", secret)
    assert refused.code == 2
    assert secret not in refused.err
    refused = ringtrue("watermark", "keys", "export", "0123")
    assert refused.code == 2
    assert held.current.id in refused.err


def test_no_key_is_made_by_looking(tmp_path: Path) -> None:
    person = written(tmp_path / "person.wav", speech(8000, 2.0))
    refused = ringtrue("watermark", "detect", person)
    assert refused.code == 2
    assert "watermark.keys" in refused.err
    assert not (tmp_path / "voices").exists()


def test_marks_of_other_keys_are_no_finding(tmp_path: Path, held: MarkKeys) -> None:
    other = written(tmp_path / "other.wav", marked(speech(8000, 5.0), 8000, MarkKey(bytes(32))))
    assert ringtrue("watermark", "detect", other).code == 1
