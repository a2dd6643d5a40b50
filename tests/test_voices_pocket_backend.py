"""Without its packages the pocket engine says what to install, and importing it imports nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ringtrue.voices.errors import EngineUnavailableError
from ringtrue.voices.pocket.backend import load
from ringtrue.voices.pocket.files import CONFIG, WEIGHTS, open_directory


@pytest.mark.parametrize("module", ["torch", "pocket_tts.models.tts_model"])
def test_what_is_not_installed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    for name in (CONFIG, WEIGHTS, "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    for other in ("torch", "pocket_tts", "pocket_tts.models.tts_model"):
        monkeypatch.setitem(sys.modules, other, None if other == module else sys)
    with pytest.raises(EngineUnavailableError, match=r'pip install "ringtrue\[pocket\]"'):
        load(open_directory(tmp_path))


def test_the_engine_imports_no_torch_before_it_is_used() -> None:
    code = (
        "import sys, ringtrue.voices.pocket.engine, ringtrue.voices.pocket.cloning;"
        "sys.exit('torch' in sys.modules or 'pocket_tts' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
