"""The wheel, not the checkout: built, installed in a clean environment, every module imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("agent", "streaming", "telephony", "voices", "loadtest", "config")
DATA = {
    ".c",
    ".yaml",
    ".html",
    ".js",
    ".css",
    ".svg",
    ".wav",
    ".json",
    ".jsgf",
    ".txt",
    ".onnx",
    ".npz",
}

IMPORT_ALL = """
import importlib, json, sys, threading
failed, places = {}, {}
for name in json.load(sys.stdin):
    try:
        module = importlib.import_module(name)
        places[name] = module.__file__
    except BaseException as error:
        failed[name] = f"{type(error).__name__}: {error}"
threads = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
json.dump({"failed": failed, "places": places, "threads": threads}, sys.stdout)
"""

pytestmark = pytest.mark.timeout(300)


def run(*command: str | Path, stdin: str = "", cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        input=stdin,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{command[:6]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def sources() -> list[Path]:
    return [
        path.relative_to(ROOT)
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    names = ["pyproject.toml", "setup.py", "README.md", "LICENSE", *map(str, sources())]
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    out = tmp_path_factory.mktemp("wheel")
    run(
        *(sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps"),
        *("--quiet", "--wheel-dir", out, tree),
        cwd=out,
    )
    (built,) = out.glob("ringtrue-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with the wheel; dependencies come from this one's site-packages.

    A path added by a .pth file is searched, but .pth files inside it are not read: the editable
    install of the checkout stays invisible.
    """
    home = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    python = home / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"),
        *("--quiet", wheel),
        cwd=home,
    )
    site = next((home / "lib").glob("python3*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def test_the_wheel_holds_every_source_and_data_file(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"ringtrue/{path.as_posix()}"
        for path in sources()
        if path.suffix in DATA | {".py"} or path.name == "py.typed"
    }
    assert wanted - inside == set()
    assert "ringtrue/__init__.py" not in inside
    assert not [name for name in inside if name.split("/")[0] in (*ROOMS, "tests")]
    assert any(name.endswith("licenses/LICENSE") for name in inside)


def test_no_data_file_is_of_a_kind_the_wheel_leaves_out() -> None:
    known = DATA | {".py", ".typed"}
    assert {path for path in sources() if path.suffix not in known and path.name != "py.typed"} == (
        set()
    )


def test_every_module_imports_from_the_wheel(installed: Path) -> None:
    names = [
        ".".join(("ringtrue", *path.with_suffix("").parts)).removesuffix(".__init__")
        for path in sources()
        if path.suffix == ".py" and path.name != "__main__.py"
    ]
    python = installed / "bin" / "python"
    result = json.loads(
        run(python, "-I", "-W", "ignore", "-c", IMPORT_ALL, stdin=json.dumps(names), cwd=installed)
        .strip()
        .splitlines()[-1]
    )
    assert result["failed"] == {}
    assert set(result["places"]) == set(names)
    outside = {n: p for n, p in result["places"].items() if not p.startswith(str(installed))}
    assert outside == {}
    assert result["threads"] == [], "importing must start nothing"


def test_the_command_runs_from_the_wheel(installed: Path) -> None:
    text = run(installed / "bin" / "ringtrue", "--help", cwd=installed)
    for command in ("serve", "demo", "doctor"):
        assert command in text


def test_the_shipped_defaults_load_from_the_wheel(installed: Path) -> None:
    code = (
        "from ringtrue.config.settings import load_settings;"
        "print(load_settings(environ={}).agents.default)"
    )
    python = installed / "bin" / "python"
    assert run(python, "-I", "-c", code, cwd=installed).strip() == "reception"
