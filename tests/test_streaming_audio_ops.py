"""``audioop`` comes without Python 3.12's warning."""

from __future__ import annotations

import subprocess
import sys


def test_importing_it_warns_of_nothing() -> None:
    code = "from ringtrue.streaming.audio_ops import audioop; print(audioop.minmax(b'\\x01\\0', 2))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "(1, 1)\n", "")
