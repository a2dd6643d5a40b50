"""Both channels of a recording lie on one clock."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from ringtrue.loadtest.recording import Recording


def test_channels_are_aligned_to_the_sample(tmp_path: Path) -> None:
    recording = Recording(8000, 160)
    for tick in range(5):
        recording.heard(np.full(160, 100 + tick, "<i2").tobytes())
        recording.sent(np.full(160, 200 + tick, "<i2").tobytes())
    assert recording.agent_position == recording.caller_position + 160
    path = tmp_path / "sub" / "call.wav"
    recording.write(path)
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        stereo = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    assert len(stereo) == 6 * 160
    # The frame sent with tick k was captured while the one pulled with tick k - 1 was playing.
    assert (stereo[:160, 1] == 0).all()
    for tick in range(5):
        assert (stereo[tick * 160 : (tick + 1) * 160, 0] == 200 + tick).all()
        assert (stereo[(tick + 1) * 160 : (tick + 2) * 160, 1] == 100 + tick).all()
    assert (stereo[800:, 0] == 0).all()


def test_it_is_bounded() -> None:
    recording = Recording(8000, 160, max_seconds=0.06)
    for _ in range(4):
        recording.sent(bytes(320))
        recording.heard(bytes(320))
    assert recording.truncated
    assert recording.caller_position == recording.agent_position == 480
