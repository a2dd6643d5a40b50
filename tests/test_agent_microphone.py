"""Recording and playing through the machine's tools: real processes that do as a tool would."""

from __future__ import annotations

import io
import os
import sys
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ringtrue.agent import microphone
from ringtrue.agent.microphone import RATE, Heard, SoundError, play, player, record, recorder


def tool(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code)


async def test_it_records_as_long_as_asked_and_ends_the_tool(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    endless = tool(
        f"import os,sys;open({str(pid)!r},'w').write(str(os.getpid()));\n"
        "while 1: sys.stdout.buffer.write(b'\\x00\\x40'*4800)"
    )
    heard: list[Heard] = []
    recorded = await record(endless, 0.35, heard.append)
    with wave.open(io.BytesIO(recorded)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        assert file.getnframes() == int(0.35 * RATE)
        assert set(file.readframes(RATE)) == {0x00, 0x40}
    assert [round(item.seconds, 2) for item in heard] == [0.1, 0.2, 0.3, 0.35]
    assert heard[0].peak == 0.5
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import sys; sys.exit('cannot open audio device default')", "cannot open audio device"),
        ("pass", "it ended without saying why"),
        ("import sys; sys.stdout.buffer.write(b'1234')", "without saying why"),
        ("import time; time.sleep(60)", "no sound for 0 s"),
    ],
)
async def test_a_tool_that_fails_is_quoted(
    code: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sleep" in code:
        monkeypatch.setattr(microphone, "SILENT_SECONDS", 0.3)
    with pytest.raises(SoundError, match=says):
        await record(tool(code), 1)


async def stream(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_it_plays_what_comes_and_waits_for_the_end(tmp_path: Path) -> None:
    got = tmp_path / "got"
    copy = f"import sys; open({str(got)!r},'wb').write(sys.stdin.buffer.read())"
    await play(tool(copy), stream(b"RIFF", b"x" * 100_000))
    assert got.read_bytes() == b"RIFF" + b"x" * 100_000


async def test_a_player_that_fails_is_quoted() -> None:
    with pytest.raises(SoundError, match="no card"):
        await play(tool("import sys; sys.exit('no card')"), stream(*[b"x" * 65536] * 50))


def test_what_is_installed_is_used_and_its_lack_is_clear(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SoundError, match="would do: parec, arecord, ffmpeg; or give --st"):
        recorder()
    with pytest.raises(SoundError, match="would do: aplay, ffplay, play; or give -o FILE"):
        player()
    for name in ("ffmpeg", "arecord", "ffplay"):
        (tmp_path / name).touch(mode=0o755)
    assert recorder()[0] == "arecord"
    assert player()[0] == "ffplay"
