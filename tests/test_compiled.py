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
    "streaming_sealed", "streaming_seals", "telephony_codecs",
    "telephony_rtp_bursts", "telephony_rtp_datagrams", "telephony_rtp_dtmf",
    "telephony_rtp_jitter",
    "telephony_rtp_latch", "telephony_rtp_packet", "telephony_rtp_plc", "telephony_rtp_receiver",
    "telephony_rtp_reception", "telephony_rtp_session", "telephony_rtp_srtp",
    "telephony_rtp_stream", "telephony_rtp_system_calls", "voices_watermark_embedder",
    "voices_watermark_marker",
)  # fmt: skip

_SERVER = "tests/test_agent_server.py"
WHOLE = (
    f"{_SERVER}::test_calls_that_are_not_taken_and_a_call_over_tcp",
    f"{_SERVER}::test_broken_messages_and_then_a_call",
    f"{_SERVER}::test_sigterm_lets_a_call_finish",
    "tests/test_agent_refused_audio.py",
)
"""Calls from end to end: callers, servers, and what may not be heard on any wire."""


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


def run(compiled: Path, *arguments: str, seconds: float) -> str:
    """What Python printed with the compiled modules before all others; it must have succeeded."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(compiled)},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.timeout(1200)
def test_what_is_compiled_keeps_to_the_tests_of_its_sources(compiled: Path) -> None:
    for module in ("streaming.session", "telephony.rtp._system_calls"):
        shows = f"import ringtrue.{module} as m; print(m.__file__)"
        place = run(compiled, "-c", shows, seconds=60).splitlines()[-1]
        assert Path(place).is_relative_to(compiled), place
        assert not place.endswith(".py"), "not compiled"
    tests = [f"tests/test_{name}.py" for name in SAME]
    run(compiled, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, seconds=600)


@pytest.mark.timeout(1200)
def test_whole_calls_go_as_they_do_uncompiled(compiled: Path) -> None:
    run(compiled, "-m", "pytest", "-q", "-p", "no:cacheprovider", *WHOLE, seconds=300)
