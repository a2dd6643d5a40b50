"""Finding and checking the libraries."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ringtrue.voices.errors import EngineUnavailableError
from ringtrue.voices.flite import Flite, FliteVoice
from ringtrue.voices.flite.library import VERSION, _check_database, _DlInfo
from ringtrue.voices.flite.structs import ClustergenDb


@pytest.fixture(scope="module")
def installed() -> Path:
    """Directory that holds the system's libflite."""
    Flite()
    info = _DlInfo()
    find = ctypes.CDLL(None).dladdr
    find.argtypes = [ctypes.c_void_p, ctypes.POINTER(_DlInfo)]
    assert find(ctypes.cast(ctypes.CDLL("libflite.so.1").flite_init, ctypes.c_void_p), info)
    return Path(os.fsdecode(info.dli_fname)).parent


def test_the_system_has_it() -> None:
    flite = Flite()
    assert flite.version == VERSION
    assert flite.directory is None


def test_a_directory_is_used(installed: Path) -> None:
    flite = Flite(library_dir=installed)
    assert flite.directory == installed
    assert FliteVoice(flite, "slt").alpha == pytest.approx(0.42)


UNPACKED = """
import sys
from pathlib import Path
from ringtrue.voices.flite import Flite, FliteVoice

FliteVoice(Flite(library_dir=Path(sys.argv[1])), "rms")
maps = Path("/proc/self/maps").read_text()
print("\\n".join(sorted({line.split()[-1] for line in maps.splitlines() if "flite" in line})))
"""


def test_unpacked_packages_do_without_the_system(tmp_path: Path, installed: Path) -> None:
    """As a set-up without root leaves them: nothing of Flite comes from elsewhere."""
    for source in installed.glob("libflite*.so.*"):
        shutil.copy(source, tmp_path / source.name, follow_symlinks=False)
    done = subprocess.run(
        [sys.executable, "-c", UNPACKED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    used = [line for line in done.stdout.splitlines() if ".so" in line]
    assert len(used) == 4
    assert all(Path(line).parent == tmp_path for line in used)


def test_a_directory_without_it_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        EngineUnavailableError, match=rf"{tmp_path} holds no libflite.so.1.*libflite1"
    ):
        Flite(library_dir=tmp_path)


def test_search_passes_over_what_lacks_it(tmp_path: Path, installed: Path) -> None:
    assert Flite(search=(tmp_path, installed)).directory == installed
    assert Flite(search=(tmp_path,)).directory is None


def test_a_broken_library_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "libflite.so.1").write_bytes(b"not a library")
    with pytest.raises(EngineUnavailableError, match=r"can't load libflite.so.1"):
        Flite(library_dir=tmp_path)


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringtrue.voices.flite.library.VERSION", "2.3")
    with pytest.raises(EngineUnavailableError, match=r"is version 2.2, but only 2.3"):
        Flite()


def test_another_layout_is_refused() -> None:
    with pytest.raises(EngineUnavailableError, match="sample_rate=0, expected 16000"):
        _check_database("slt", ClustergenDb())
