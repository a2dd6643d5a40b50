import os
from pathlib import Path

import pytest

from ringtrue.voices.keys.errors import KeyMaterialError
from ringtrue.voices.watermark.errors import WatermarkError
from ringtrue.voices.watermark.keyring import (
    MarkKeys,
    create_mark_keys,
    load_mark_keys,
    published,
    read_published,
    rotate_mark_keys,
)
from ringtrue.voices.watermark.keys import MarkKey


def test_a_new_file_is_private_and_reads_back(tmp_path: Path):
    path = tmp_path / "watermark.key"
    made = create_mark_keys(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_mark_keys(path).current == made.current


def test_rotation_keeps_what_marked_before(tmp_path: Path):
    path = tmp_path / "watermark.key"
    old = create_mark_keys(path).current
    rotated = rotate_mark_keys(path)
    assert rotated.current != old
    assert load_mark_keys(path).detection == (rotated.current.detection, old.detection)


def test_an_existing_file_is_not_overwritten(tmp_path: Path):
    path = tmp_path / "watermark.key"
    create_mark_keys(path)
    with pytest.raises(KeyMaterialError):
        create_mark_keys(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no keys in it"),
        ("one\n", "line 1 is not: id base64"),
        ("# note\nid !!!\n", "line 2: the key is not base64"),
        ("id AAAA\n", "line 1: a watermark key has 32 bytes, got 3"),
        ("id " + "A" * 43 + "=\n", "the key's id is"),
        ("\u00e9", "not ASCII"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, text: str, said: str):
    path = tmp_path / "watermark.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyMaterialError, match=said):
        load_mark_keys(path)


def test_a_file_others_can_read_is_refused(tmp_path: Path):
    path = tmp_path / "watermark.key"
    create_mark_keys(path)
    os.chmod(path, 0o644)
    with pytest.raises(KeyMaterialError):
        load_mark_keys(path)


def test_there_must_be_a_key_and_none_is_shown():
    with pytest.raises(WatermarkError, match="at least one"):
        MarkKeys({})
    key = MarkKey.generate()
    assert key.secret.hex() not in repr(MarkKeys.of(key))


def test_a_detection_key_can_be_published_and_read_again():
    key = MarkKey.generate().detection
    assert read_published(f" {published(key)}\n") == key


@pytest.mark.parametrize("text", ["", "rtdk1_", "rtdk1_" + "?" * 43, "x" * 49, "rtdk2_" + "A" * 43])
def test_what_is_no_published_key_is_refused_and_not_repeated(text: str):
    with pytest.raises(WatermarkError, match="a detection key is rtdk1_") as refused:
        read_published(text)
    assert not text or text not in str(refused.value).replace("rtdk1_ and", "")
