"""The modules of a tick, compiled: they are what is imported then, and keep to the same tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SAME = (
    "streaming_gate", "streaming_gate_relay", "streaming_output", "streaming_playout",
    "telephony_rtp_bursts", "telephony_rtp_dtmf", "telephony_rtp_jitter",
    "telephony_rtp_latch", "telephony_rtp_packet", "telephony_rtp_plc", "telephony_rtp_receiver",
    "telephony_rtp_reception", "telephony_rtp_session", "telephony_rtp_srtp",
    "telephony_rtp_stream", "voices_watermark_marker",
)  # fmt: skip


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of the whole package with the modules that ``setup.py`` names compiled."""
    headers = Path(sysconfig.get_path("include"), "Python.h")
    if importlib.util.find_spec("mypyc") is None or shutil.which("cc") is None:
        pytest.skip("needs mypy and a C compiler")
    if not headers.exists():
        pytest.skip(f"needs Python's headers: {headers}")
    folder = tmp_path_factory.mktemp("compiled")
    build = ["build", "--build-base", str(folder / "base"), "--build-lib", str(folder / "lib")]
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", *build],
        cwd=ROOT,
        env={**os.environ, "RINGTRUE_COMPILED": "1", "RINGTRUE_OPT_LEVEL": "0"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder / "lib"


@pytest.mark.timeout(1200)
def test_what_is_compiled_keeps_to_the_tests_of_its_sources(compiled: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(compiled)}
    seen = subprocess.run(
        [sys.executable, "-c", "import ringtrue.streaming.session as m; print(m.__file__)"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert Path(seen.stdout.splitlines()[-1]).is_relative_to(compiled), seen.stdout
    assert not seen.stdout.strip().endswith(".py"), "not compiled"
    tests = [f"tests/test_{name}.py" for name in SAME]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-6000:]
