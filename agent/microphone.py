"""Records from and plays to whatever this machine's desktop or sound card offers, by its tools.

Nothing is written to disk: tools talk through pipes.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
import sys
import wave
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ringtrue.streaming.errors import RingtrueError

RATE: Final = 48000
"""Rate in Hz that is recorded at, in 16-bit mono."""

BLOCK_SECONDS: Final = 0.1
SILENT_SECONDS: Final = 5.0
"""A recorder from which nothing comes for so long has failed."""

_FFMPEG_INPUT: Final = (
    ("-f", "avfoundation", "-i", ":0")
    if sys.platform == "darwin"
    else ("-f", "alsa", "-i", "default")
)

RECORDERS: Final[tuple[tuple[str, ...], ...]] = (
    ("parec", "--raw", "--format=s16le", f"--rate={RATE}", "--channels=1", "--latency-msec=50"),
    ("arecord", "-q", "-t", "raw", "-f", "S16_LE", "-r", str(RATE), "-c", "1"),
    (
        "ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-f", *_FFMPEG_INPUT,
        "-ac", "1", "-ar", str(RATE), "-f", "s16le", "-",
    ),
)  # fmt: skip
"""Tools that write raw 16-bit PCM to their output, tried in this order."""

PLAYERS: Final[tuple[tuple[str, ...], ...]] = (
    ("aplay", "-q", "-"),
    ("ffplay", "-hide_banner", "-loglevel", "error", "-nodisp", "-autoexit", "-i", "-"),
    ("play", "-q", "-t", "wav", "-"),
)
"""Tools that play a WAV stream from their input."""

Tool = tuple[str, ...]


class SoundError(RingtrueError):
    """This machine can't record or play."""


def recorder() -> Tool:
    """The first of :data:`RECORDERS` that is installed; :class:`SoundError` if none is."""
    return _first(RECORDERS, "record", "give --statement and --speech files instead")


def player() -> Tool:
    """The first of :data:`PLAYERS` that is installed; :class:`SoundError` if none is."""
    return _first(PLAYERS, "play", "give -o FILE, or -o - for a pipe, instead")


def _first(tools: Sequence[Tool], verb: str, instead: str) -> Tool:
    for tool in tools:
        if shutil.which(tool[0]):
            return tool
    names = ", ".join(tool[0] for tool in tools)
    raise SoundError(
        f"nothing to {verb} with is installed; any of these would do: {names}; or {instead}"
    )


@dataclass(frozen=True, slots=True)
class Heard:
    """How far a recording is."""

    seconds: float
    peak: float
    """Of the last tenth of a second, 0 to 1."""


async def record(
    tool: Tool, seconds: float, on_heard: Callable[[Heard], None] = lambda _: None
) -> bytes:
    """``seconds`` from the microphone, as a WAV file's bytes.

    Raises :class:`SoundError` where the tool fails or nothing comes from it.
    """
    wanted = int(seconds * RATE) * 2
    block = int(BLOCK_SECONDS * RATE) * 2
    pcm = bytearray()
    process = await asyncio.create_subprocess_exec(*tool, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    try:
        assert process.stdout is not None
        while len(pcm) < wanted:
            try:
                async with asyncio.timeout(SILENT_SECONDS):
                    part = await process.stdout.readexactly(min(block, wanted - len(pcm)))
            except TimeoutError:
                raise SoundError(f"{tool[0]}: no sound for {SILENT_SECONDS:.0f} s") from None
            except asyncio.IncompleteReadError:
                raise SoundError(f"{tool[0]}: {await _complaint(process)}") from None
            pcm += part
            on_heard(Heard(len(pcm) / 2 / RATE, _peak(part)))
    finally:
        await _end(process)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(bytes(pcm))
    return file.getvalue()


async def play(tool: Tool, wav: AsyncIterator[bytes]) -> None:
    """Play a WAV file as it comes.

    Raises :class:`SoundError` where the tool fails.
    """
    process = await asyncio.create_subprocess_exec(*tool, stdin=PIPE, stdout=DEVNULL, stderr=PIPE)
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            async for part in wav:
                process.stdin.write(part)
                await process.stdin.drain()
            process.stdin.close()
        complaint = await _complaint(process)
        if await process.wait():
            raise SoundError(f"{tool[0]}: {complaint}")
    finally:
        await _end(process)


async def _complaint(process: Process) -> str:
    """The last thing a tool said."""
    assert process.stderr is not None
    said = (await process.stderr.read(8192)).decode("utf-8", "replace").strip()
    return said.splitlines()[-1][:200] if said else "it ended without saying why"


async def _end(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    # Pipes too: a process whose output is never read out is not over for asyncio.
    await process.communicate()


def _peak(pcm: bytes) -> float:
    samples = memoryview(pcm).cast("h")
    return max(max(samples), -min(samples)) / 32768 if len(samples) else 0.0
