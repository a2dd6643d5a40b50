"""Key files and the variable: written safely, read strictly, rotated."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.voices.keys.errors import KeyMaterialError, UnknownKeyError
from ringtrue.voices.keys.master import (
    VARIABLE,
    add_master_key,
    create_key_file,
    encode_key,
    key_ring_from_environment,
    load_key_file,
    new_master_key,
    retire_master_key,
)
from ringtrue.voices.keys.sealing import DataKey

SECRET = b"0123456789abcdef0123456789ABCDEF"
ENCODED = base64.b64encode(SECRET).decode()


async def test_made_added_to_retired(tmp_path: Path) -> None:
    path = tmp_path / "master.keys"
    first = create_key_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    old = load_key_file(path)
    assert old.ids == (first,)
    wrapped = await old.wrap(DataKey(SECRET), tenant="t", voice="v")
    second = add_master_key(path, "second")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    both = load_key_file(path)
    assert (both.current_id, set(both.ids)) == (second, {first, second})
    assert (await both.unwrap(wrapped, tenant="t", voice="v")).export() == SECRET
    with pytest.raises(KeyMaterialError, match="'second' is current"):
        retire_master_key(path, "second")
    with pytest.raises(KeyMaterialError, match="'second' is there already"):
        add_master_key(path, "second")
    retire_master_key(path, first)
    with pytest.raises(UnknownKeyError):
        await load_key_file(path).unwrap(wrapped, tenant="t", voice="v")
    with pytest.raises(UnknownKeyError, match="'never'; keys held: second"):
        retire_master_key(path, "never")
    assert [p.name for p in tmp_path.iterdir()] == ["master.keys"], "nothing is left beside it"


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "master.keys"
    create_key_file(path)
    before = path.read_bytes()
    with pytest.raises(KeyMaterialError, match="exists already"):
        create_key_file(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(KeyMaterialError, match="can't be written"):
        create_key_file(tmp_path / "no" / "folder")
    with pytest.raises(KeyMaterialError, match="key id 'a b'"):
        create_key_file(tmp_path / "other", "a b")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601])
def test_a_file_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "master.keys"
    create_key_file(path)
    path.chmod(mode)
    with pytest.raises(KeyMaterialError, match=rf"mode {mode:04o} .* allowed: 0600"):
        load_key_file(path)
    path.chmod(0o400)
    assert load_key_file(path).ids


def test_what_is_not_a_file_of_ours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.keys"
    create_key_file(path)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    for bad, complaint in (
        (fifo, "not a regular file"),
        (tmp_path, "not a regular file"),
        (tmp_path / "none", "can't be opened: No such file"),
    ):
        with pytest.raises(KeyMaterialError, match=complaint):
            load_key_file(bad)


def test_of_a_link_the_file_it_leads_to_counts(tmp_path: Path) -> None:
    path, link = tmp_path / "master.keys", tmp_path / "link"
    create_key_file(path)
    link.symlink_to(path)
    add_master_key(link, "second")
    assert link.is_symlink()
    assert load_key_file(link).current_id == load_key_file(path).current_id == "second"
    path.chmod(0o644)
    with pytest.raises(KeyMaterialError, match="mode 0644"):
        load_key_file(link)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_owner_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.keys"
    create_key_file(path)
    os.chown(path, 12345, -1)
    with pytest.raises(KeyMaterialError, match="owned by user 12345; allowed: root"):
        load_key_file(path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no keys in it"),
        ("# only a comment\n", "no keys in it"),
        (f"one {ENCODED} more\n", "line 1 is not: id base64"),
        (f"# head\n\n{ENCODED}\n", "line 3 is not: id base64"),
        ("one !!!!\n", "line 1: the key is not base64"),
        (f"one {ENCODED[:20]}\n", "line 1: the key has 15 bytes; it takes 32"),
        (f"one {ENCODED}\none {base64.b64encode(bytes(32)).decode()}\n", "names a key id twice"),
        (f"one {ENCODED}\ntwo {ENCODED}\n", "two key ids hold the same key"),
        (f"-one {ENCODED}\n", "key id '-one'"),
        ("one \xff\n", "not ASCII text"),
        ("#" * 70_000, "longer than 65536 bytes"),
    ],
)
def test_malformed_files(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "master.keys"
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(KeyMaterialError, match=complaint) as caught:
        load_key_file(path)
    assert str(path) in str(caught.value)
    assert ENCODED[:8] not in str(caught.value)


@given(st.binary(max_size=200))
def test_files_of_anything(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "anything.keys"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(KeyMaterialError, match="anything.keys"):
        load_key_file(path)


def test_the_variable() -> None:
    other = new_master_key()
    value = f"{encode_key('now', SECRET)}, {encode_key('then', other)}"
    ring = key_ring_from_environment({VARIABLE: value})
    assert (ring.current_id, ring.ids) == ("now", ("now", "then"))
    for value, complaint in (
        ("", "is not set"),
        ("  ", "is not set"),
        (ENCODED, "entry 1 is not id:base64"),
        (f"now:{ENCODED},", "entry 2 is not id:base64"),
        ("now:????", "entry 1: the key is not base64"),
        (f"now:{ENCODED},then:AAAA", "entry 2: the key has 3 bytes"),
    ):
        with pytest.raises(KeyMaterialError, match=complaint) as caught:
            key_ring_from_environment({"OTHER": value}, "OTHER")
        assert "OTHER" in str(caught.value)
        assert ENCODED[:8] not in str(caught.value)
