"""The worst turns' audio is kept, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from load_results import completed, heard, run_of, turn

from ringtrue.loadtest.caller import CallResult
from ringtrue.loadtest.clips import FOLDER, ClipKeeper, clip_bounds, read_clip, worst_turns
from ringtrue.loadtest.recording import Recording

RATE = 8000


def recorded(seconds: float, answered: int = 0) -> CallResult:
    """A call in which both sides' samples count the milliseconds of the recording."""
    counting = (np.arange(int(seconds * RATE)) // 8).astype("<i2")
    recording = Recording(RATE, 160)
    recording.sent(counting.tobytes())
    recording.heard((-counting[160:]).tobytes())
    return CallResult("caller", answered=answered, recording=recording)


def test_the_worst_come_first_and_unanswered_ones_before_all() -> None:
    calls = [completed("a", [300, None, 900]), completed("b", [1200, 100])]
    worst = worst_turns(run_of(calls), 3)
    assert [(each.call.id, each.index) for each in worst] == [("a", 1), ("b", 0), ("a", 2)]


def test_only_the_worst_stay(tmp_path: Path) -> None:
    keeper = ClipKeeper(tmp_path, limit=3)
    latencies = {"a": [300.0, 900.0], "b": [1200.0, 100.0], "c": [None, 200.0], "d": [50.0]}
    for name, values in latencies.items():
        report = completed(name, values).heard
        assert report is not None
        keeper.offer(name, recorded(12), report)
    kept = {path.name for path in (tmp_path / FOLDER).iterdir()}
    assert kept == {"c.t000.wav", "b.t000.wav", "a.t001.wav"}


def test_a_clip_holds_what_was_around_the_turn(tmp_path: Path) -> None:
    call = completed("a", [600.0])
    assert call.heard is not None
    ClipKeeper(tmp_path).offer("a", recorded(30, answered=400), call.heard)
    clip = read_clip(tmp_path, worst_turns(run_of([call]))[0])
    assert clip is not None
    # The turn's words end at 5 s and the answer begins at 5.6 s: from 2 s to 8.6 s, to the
    # caller's own clock, which the answer reached 50 ms late.
    assert (clip.rate, clip.begin_ms) == (RATE, 2000)
    caller, agent = (np.frombuffer(pcm, "<i2") for pcm in (clip.caller, clip.agent))
    assert len(caller) == len(agent) == 6600 * 8
    assert (caller[0], caller[-1]) == (2050, 8649)
    assert (agent[0], agent[-1]) == (-2050, -8649)


def test_a_turn_without_an_answer_and_a_short_call() -> None:
    silent = turn(None, said_ms=5000)
    assert clip_bounds(silent, 60_000) == (2000, 17_000)
    assert clip_bounds(silent, 9000) == (2000, 9000)
    assert clip_bounds(turn(300, said_ms=1000), 60_000) == (0, 4300)
    assert clip_bounds(turn(30_000, said_ms=5000), 60_000) == (2000, 17_000)


def test_a_call_without_a_recording_has_none(tmp_path: Path) -> None:
    ClipKeeper(tmp_path).offer("a", CallResult("a"), heard([turn(None)]))
    assert not (tmp_path / FOLDER).exists()


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\x10\x00\x00\x00WAVEfmt ", bytes(500)])
def test_a_file_that_is_no_clip_is_left_out(tmp_path: Path, content: bytes) -> None:
    worst = worst_turns(run_of([completed("a", [300])]))[0]
    assert read_clip(tmp_path, worst) is None
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "a.t000.wav").write_bytes(content)
    assert read_clip(tmp_path, worst) is None
