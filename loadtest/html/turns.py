"""Where a turn's time went: its stages as bars, and its sound as a spectrogram."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Final

from ringtrue.loadtest.clips import Clip
from ringtrue.loadtest.figures import Values
from ringtrue.loadtest.html.markup import Markup, el, joined
from ringtrue.loadtest.html.spectrogram import spectrogram
from ringtrue.loadtest.html.svg import (
    LEFT,
    RIGHT,
    WIDTH,
    Plot,
    line,
    rect,
    rounded_up,
    svg,
    text,
)
from ringtrue.loadtest.report import TurnReport, distribution
from ringtrue.loadtest.stages import StageBar, stages_of

STAGE_NAMES: Final = {
    "endpointing": "end of turn",
    "recognizer": "words",
    "language": "LLM",
    "phrase": "first phrase",
    "synthesis": "speech",
    "wire": "to the wire",
    "ear": "to the ear",
}
STAGE_KINDS: Final = {
    "endpointing": "c1",
    "recognizer": "c5",
    "language": "c2",
    "phrase": "c4",
    "synthesis": "c3",
    "wire": "c6",
    "ear": "c7",
}
LABELS: Final = 110.0
ROW: Final = 22.0
LANE: Final = 96.0


def waterfall(turn: TurnReport, longest_ms: float) -> Markup:
    """The turn's stages on a scale of ``longest_ms``; nothing without the target's record."""
    bars = stages_of(turn)
    if not bars:
        return Markup()
    return _bars(bars, longest_ms, f"stages of the answer to {turn.prompt}")


def _bars(bars: Sequence[StageBar], longest_ms: float, label: str) -> Markup:
    low = min(0.0, *(bar.begin_ms for bar in bars))
    high = max(longest_ms, *(bar.end_ms for bar in bars))
    height = 12 + ROW * len(bars) + 34
    plot = Plot(rounded_up(high), 1.0, height, x_min=low)
    span = (WIDTH - RIGHT - LEFT - LABELS) / (WIDTH - RIGHT - LEFT)

    def at(ms: float) -> float:
        return LEFT + LABELS + (plot.x(ms) - LEFT) * span

    parts: list[str] = []
    for number, bar in enumerate(bars):
        y = 12 + ROW * number
        length = bar.end_ms - bar.begin_ms
        name = STAGE_NAMES.get(bar.name, bar.name)
        kind = STAGE_KINDS.get(bar.name, "c1")
        begin, end = at(bar.begin_ms), at(bar.end_ms)
        title = f"{name}: {length:.0f} ms, from {bar.begin_ms:.0f} to {bar.end_ms:.0f} ms"
        parts.append(text(LEFT + LABELS - 10, y + 14, name, "tick end"))
        parts.append(rect(begin, y + 2, max(1.5, end - begin), ROW - 6, f"fill {kind}", title))
        room = end < WIDTH - 90
        where = end + 6 if room else begin - 6
        parts.append(text(where, y + 14, f"{length:.0f}", "tick" if room else "tick end"))
    base = 12 + ROW * len(bars)
    parts.append(line(at(low), base, at(plot.x_max), base, "axis"))
    step = rounded_up((plot.x_max - low) / 8)
    marks = [n * step for n in range(int(low // step), int(plot.x_max // step) + 1)]
    for ms in marks:
        if low <= ms <= plot.x_max:
            parts.append(line(at(ms), base, at(ms), base + 4, "axis"))
            parts.append(text(at(ms), base + 17, f"{ms:g}", "tick mid"))
    parts.append(line(at(0), 8, at(0), base, "axis"))
    parts.append(text(WIDTH - RIGHT, height - 3, "ms after the caller's last sample", "tick end"))
    return svg(height, *parts, label=label)


def typical(stages: Mapping[str, Values]) -> Markup:
    """Each stage's median, up to its 95th percentile in a paler tone, over answered turns."""
    known = {name: [v for v in values if v is not None] for name, values in stages.items()}
    measured = {name: distribution(values) for name, values in known.items() if values}
    rows = [(name, d.p50 or 0.0, d.p95 or 0.0) for name, d in measured.items()]
    if not rows:
        return Markup()
    scale = rounded_up(max(p95 for _, _, p95 in rows))
    height = 12 + ROW * len(rows) + 8
    room = WIDTH - LEFT - LABELS - 150
    parts: list[str] = []
    for number, (name, p50, p95) in enumerate(rows):
        y = 12 + ROW * number
        kind = STAGE_KINDS.get(name, "c1")
        label = STAGE_NAMES.get(name, name)
        middle, high = max(0.0, p50), max(0.0, p95)
        x = LEFT + LABELS
        parts.append(text(x - 10, y + 14, label, "tick end"))
        words = f"{p50:.0f} · {p95:.0f}"
        title = f"{label}: p50 · p95 {words} ms"
        parts.append(rect(x, y + 2, high / scale * room, ROW - 6, f"fill pale {kind}", title))
        parts.append(rect(x, y + 2, middle / scale * room, ROW - 6, f"fill {kind}", title))
        parts.append(text(x + high / scale * room + 8, y + 14, words, "tick"))
    return svg(height, *parts, label="each stage's p50 and p95")


def sound(clip: Clip, turn: TurnReport) -> Markup:
    """A player and what is heard as a picture: the caller above, the agent below."""
    player = el(
        "audio",
        controls="controls",
        preload="metadata",
        src=_data("audio/wav", clip.wav),
    )
    seconds = len(clip.agent) / 2 / clip.rate
    height = 2 * LANE + 6 + 34
    plot = Plot(max(seconds, 0.1), 1.0, height)
    wide = WIDTH - LEFT - RIGHT
    parts: list[str] = []
    for y, name, pcm in ((0.0, "caller", clip.caller), (LANE + 6, "agent", clip.agent)):
        try:
            picture = _data("image/png", spectrogram(pcm, clip.rate))
        except ValueError:  # shorter than one window: nothing to be seen
            return player
        parts.append(
            el(
                "image",
                href=picture,
                x=LEFT,
                y=y,
                width=wide,
                height=LANE,
                preserveAspectRatio="none",
            )
        )
        parts.append(text(LEFT - 8, y + LANE / 2, name, "tick end"))
    end = plot.x((turn.said.end_ms - clip.begin_ms) / 1000)
    parts.append(line(end, 0, end, 2 * LANE + 6, "edge"))
    if turn.answer is not None:
        begin = plot.x((turn.answer.start_ms - clip.begin_ms) / 1000)
        parts.append(line(begin, 0, begin, 2 * LANE + 6, "edge"))
        parts.append(rect(end, LANE, begin - end, 6, "wait bar", "the turn's latency"))
    parts.append(plot.grid("s", y_ticks=()))
    return joined((player, svg(height, *parts, label="spectrograms of caller and agent")))


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
