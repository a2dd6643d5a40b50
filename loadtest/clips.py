"""Audio of the worst turns: what was said and heard around each, kept beside the report.

A caller's process offers every call it has measured; the keeper holds the files of the worst
turns so far and removes those that worse ones displace, so that a long run leaves a few files.
"""

from __future__ import annotations

import heapq
import io
import math
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ringtrue.loadtest.caller import CallResult
from ringtrue.loadtest.report import CallReport, TurnReport
from ringtrue.loadtest.results import MeasuredCall, RunResult

FOLDER: Final = "audio"
"""Where clips lie in a run's directory."""

WORST: Final = 10
BEFORE_MS: Final = 3000.0
AFTER_MS: Final = 3000.0
MAX_MS: Final = 15_000.0
MAX_BYTES: Final = 4 * 1024 * 1024
"""A larger file is no clip of ours and isn't read."""


@dataclass(frozen=True, slots=True)
class WorstTurn:
    """A turn, and the call it belongs to."""

    call: MeasuredCall
    index: int
    turn: TurnReport


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of both channels."""

    wav: bytes
    """The file: stereo, caller left, agent right."""

    rate: int
    caller: bytes
    """16-bit mono PCM."""

    agent: bytes
    begin_ms: float
    """Where in the call it begins, in milliseconds since the answer."""


def badness(turn: TurnReport) -> float:
    """How bad a turn is: its latency, infinite without a valid one."""
    return math.inf if turn.latency_ms is None else turn.latency_ms


def worst_turns(result: RunResult, count: int = WORST) -> list[WorstTurn]:
    """The turns with the longest latencies, worst first; unanswered ones come before all."""
    turns = [
        WorstTurn(call, index, turn)
        for call in result.calls
        if call.heard is not None
        for index, turn in enumerate(call.heard.turns)
    ]
    return sorted(turns, key=lambda t: (-badness(t.turn), t.call.id, t.index))[:count]


def clip_name(call_id: str, turn: int) -> str:
    """The file name of a turn's clip."""
    return f"{call_id}.t{turn:03d}.wav"


def clip_bounds(turn: TurnReport, duration_ms: float) -> tuple[float, float]:
    """From when to when a turn's clip lasts, in milliseconds since the answer."""
    begin = max(0.0, turn.said.end_ms - BEFORE_MS)
    until = turn.said.end_ms if turn.answer is None else turn.answer.start_ms
    wanted = until + AFTER_MS if turn.answer is not None else begin + MAX_MS
    return begin, max(begin, min(wanted, begin + MAX_MS, duration_ms))


class ClipKeeper:
    """Keeps the clips of the worst turns offered. Writes files: not for an event loop's thread."""

    def __init__(self, directory: Path, limit: int = WORST) -> None:
        """``directory`` is the run's; clips go to its :data:`FOLDER`."""
        self._folder = directory / FOLDER
        self._limit = limit
        self._kept: list[tuple[float, str]] = []

    def offer(self, call_id: str, result: CallResult, report: CallReport) -> None:
        """Keep what is worth it of one call. Raises OSError where a file can't be written."""
        recording = result.recording
        if recording is None:
            return
        for index, turn in enumerate(report.turns):
            name = clip_name(call_id, index)
            entry = (badness(turn), name)
            if len(self._kept) >= self._limit:
                if entry <= self._kept[0]:
                    continue
                _, displaced = heapq.heappop(self._kept)
                (self._folder / displaced).unlink(missing_ok=True)
            heapq.heappush(self._kept, entry)
            begin, end = clip_bounds(turn, report.duration_ms)
            zero = result.answered or 0
            first = max(0, zero + round(begin * recording.rate / 1000))
            last = zero + round(end * recording.rate / 1000)
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / name).write_bytes(recording.wav(first, last))


def read_clip(directory: Path, worst: WorstTurn) -> Clip | None:
    """The clip of a turn; None where none was kept or the file is no such clip."""
    path = directory / FOLDER / clip_name(worst.call.id, worst.index)
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        data = path.read_bytes()
        with wave.open(io.BytesIO(data)) as reader:
            if (reader.getnchannels(), reader.getsampwidth()) != (2, 2):
                return None
            rate = reader.getframerate()
            both = np.frombuffer(reader.readframes(reader.getnframes()), "<i2").reshape(-1, 2)
    except (OSError, EOFError, wave.Error, ValueError):
        return None
    duration = worst.call.heard.duration_ms if worst.call.heard is not None else 0.0
    begin, _ = clip_bounds(worst.turn, duration)
    return Clip(data, rate, both[:, 0].tobytes(), both[:, 1].tobytes(), begin)
