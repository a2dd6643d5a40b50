"""Files that are replaced whole, and locks."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ringtrue.agent.audit.disk import locked, replacing


def half(path: Path) -> None:
    with replacing(path) as file:
        file.write(b"half of it")
        raise OSError("full")


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    path = tmp_path / "hold.json"
    with replacing(path) as file:
        file.write(b"first")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OSError, match="full"):
        half(path)
    assert path.read_bytes() == b"first"
    with replacing(path) as file:
        file.write(b"second")
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"second"
    assert [each.name for each in tmp_path.iterdir()] == ["hold.json"]


def test_a_lock_is_held_by_one_or_shared_by_many(tmp_path: Path) -> None:
    path, taken = tmp_path / "lock", threading.Event()

    def take() -> None:
        with locked(path):
            taken.set()

    with locked(path, shared=True):
        with locked(path, shared=True):
            thread = threading.Thread(target=take)
            thread.start()
            assert not taken.wait(0.05)
        assert not taken.wait(0.05)
    thread.join(10)
    assert taken.is_set()
