"""The set-up scripts, as far as they can be tried without installing anything."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"


def shell(code: str, *, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(cwd)} | environ
    return subprocess.run(
        ["bash", "-c", code],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_parse(script: Path) -> None:
    done = shell(f"bash -n {script}", cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_level_is_named() -> None:
    done = shell("bash scripts/setup.sh tset", cwd=ROOT)
    assert done.returncode == 2
    assert "'tset'; allowed: run, lint, test" in done.stderr


def test_unpacked_packages_are_put_on_the_paths(tmp_path: Path) -> None:
    for folder in ("usr/bin", "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"):
        (tmp_path / ".deb" / folder).mkdir(parents=True)
    code = f'set -eu; . {SCRIPTS}/env.sh; echo "$PATH"; echo "$LD_LIBRARY_PATH"'
    path, libraries = shell(code, cwd=tmp_path, LD_LIBRARY_PATH="/own").stdout.splitlines()
    assert path == f"/usr/bin:/bin:{tmp_path}/.deb/usr/bin:{tmp_path}/.deb/usr/sbin"
    deb = tmp_path / ".deb"
    assert libraries == f"/own:{deb}/usr/lib/x86_64-linux-gnu:{deb}/lib/x86_64-linux-gnu"


def test_without_unpacked_packages_nothing_changes(tmp_path: Path) -> None:
    code = f'set -eu; . {SCRIPTS}/env.sh; echo "$PATH ${{LD_LIBRARY_PATH-unset}}"'
    assert shell(code, cwd=tmp_path).stdout == "/usr/bin:/bin unset\n"


@pytest.mark.parametrize(
    ("have", "status"),
    [
        (("libflite1", "libasound2", "libspeexdsp1"), 0),
        (("libflite1", "libasound2"), 1),
        ((), 1),
    ],
)
def test_what_is_unpacked_counts_as_present(
    tmp_path: Path, have: tuple[str, ...], status: int
) -> None:
    scripts, marks, tools = (tmp_path / name for name in ("scripts", ".deb/.unpacked", "tools"))
    for folder in (scripts, marks, tools):
        folder.mkdir(parents=True)
    (scripts / "debian.sh").write_text((SCRIPTS / "debian.sh").read_text())
    (tools / "dpkg-query").write_text("#!/bin/sh\nexit 1\n")
    (tools / "dpkg-query").chmod(0o755)
    for name in have:
        (marks / name).touch()
    path = f"{tools}{os.pathsep}/usr/bin:/bin"
    assert shell("bash scripts/debian.sh --check run", cwd=tmp_path, PATH=path).returncode == status


def test_ci_runs_make_test_and_nothing_else() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[-1] == "exec make test"
    dry = shell("make --dry-run test", cwd=ROOT).stdout
    assert "scripts/setup.sh test" in dry
    assert "-m pytest" in dry.splitlines()[-1]
