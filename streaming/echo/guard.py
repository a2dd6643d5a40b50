"""One call's protection from its own voice: look for an echo, cancel it, close what is left.

The first time something comes in while the agent speaks, it is held back for as long as it takes to
tell what it is: an echo, which is dropped, or the caller, who is then heard a little late. After
that nothing is touched until an echo is found. Then what is heard goes through the canceller,
aligned to the echo's delay; where it took most of a frame away, so that what remains is the rest
of the echo, that is turned down too, and a caller who speaks at the same time is left alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ringtrue.streaming.audio_ops import audioop
from ringtrue.streaming.echo.canceller import EchoCanceller
from ringtrue.streaming.echo.finder import FRAME, LAGS, RATE, EchoFinder
from ringtrue.streaming.ports import frame_samples

LOOK_TICKS: Final = 8
"""Between looks while the agent speaks: 160 ms."""

HOLD_LOOK_TICKS: Final = 3
"""The same while something is held back and the last look saw what may be an echo; until then half
as often, for many callers may speak at once."""

HOLD_AGREE: Final = 3
"""Looks in a row that must agree so early, when there is little to look at."""

HOLD_TICKS: Final = 40
"""The longest that what came in first is held back: 800 ms."""

HOLD_LEAST_TICKS: Final = 10
"""Of it is looked at from 200 ms on: less is alike by chance."""

CLEAR_TICKS: Final = 75
"""A line that has sent nothing back of 1.5 s of speech is clear: nothing is held back on it."""

HOLD_PEAK: Final = 250
"""Of a frame that may be more than noise (16-bit samples)."""

MEMORY_TICKS: Final = LAGS // FRAME + 25
"""So long after its last sound the agent may still be heard coming back."""

EAGER_LOOKS: Final = 50
"""So many looks, 8 s of the agent's speech; after that two of every :data:`LAZY`."""

LAZY: Final = 30
TAIL_MS: Final = 64
LEAD_MS: Final = 16
"""The reference is this much early: an echo's delay wanders with the jitter buffers."""

REFERENCE_RMS: Final = 150.0
MOSTLY: Final = 0.25
"""Share of a frame's energy left, from which down it is taken for the rest of the echo."""

RESIDUAL_GAIN: Final = 0.03
HANGOVER_FRAMES: Final = 4
"""A caller who broke through is left alone for so long."""

DROWNED: Final = 6.0
"""Times the echo's expected energy from which on a caller drowns it: the frame is left as it came,
for an adaptive filter does more harm to loud speech than a faint echo."""

SETTLING_FRAMES: Final = 25
"""Frames with echo in which the filter learns the line: what isn't the caller is turned down."""

LOST_FRAMES: Final = 200
"""Frames in a row, 4 s, in which there should be echo and nothing of it was taken away."""


@dataclass(slots=True)
class EchoStats:
    """What the call record says."""

    delay_ms: float | None = None
    """Of the echo last found; None where there was none."""

    erle_db: float | None = None
    """Echo return loss enhancement (ITU-T G.168): energy heard over energy left while only the
    agent speaks, smoothed over about a second."""

    suppressed_frames: int = 0
    losses: int = 0
    """Times the echo moved away and was searched for anew."""

    def as_dict(self) -> dict[str, float]:
        """What there is to say; nothing where no echo was ever found."""
        if self.delay_ms is None:
            return {}
        found = {"echo_delay_ms": self.delay_ms, "echo_losses": float(self.losses)}
        return found if self.erle_db is None else found | {"echo_erle_db": self.erle_db}


class EchoGuard:
    """For frames of 20 ms at ``rate`` Hz (8000 or 16000). Sans-IO.

    Costs 0.3 ms a look, 50 µs a frame once an echo is cancelled.
    """

    def __init__(self, rate: int) -> None:
        """Raises ``ValueError`` for another rate."""
        if rate not in (RATE, 2 * RATE):
            raise ValueError(f"rate is {rate}; allowed: {RATE}, {2 * RATE}")
        self.stats = EchoStats()
        self._rate = rate
        self._frame = frame_samples(rate)
        self._finder = EchoFinder(rate)
        self._canceller: EchoCanceller | None = None
        self._delay = 0
        self._last = bytes(2 * self._frame)
        self._history = bytearray(2 * (self._frame + LAGS * rate // RATE))
        self._ticks = self._looks = self._hangover = self._poor = 0
        self._before = self._after = 0.0
        self._leak = 0.0  # of the line: energy that comes back
        self._reference = 0.0
        self._raw = False
        self._fade = np.linspace(0.0, 1.0, self._frame, dtype=np.float32)
        self._spoke = 0
        self._settling = 0
        self._held = bytearray()
        self._hold_left = HOLD_TICKS
        self._clear = 0

    def sent(self, pcm: bytes) -> None:
        """The frame that goes out now."""
        del self._history[: len(pcm)]
        self._history += pcm
        self._last = pcm

    def heard(self, pcm: bytes) -> bytes:
        """What to hear now that the frame ``pcm`` came in: it, without the agent's echo.

        Nothing, while it is held back; then what was held back, at once. In the end as many
        samples as came in.
        """
        loud = _highest(self._last) > REFERENCE_RMS
        self._spoke = MEMORY_TICKS if loud else max(0, self._spoke - 1)
        self._finder.push(self._last, pcm)
        if self._canceller is not None:
            return self._cancel(self._canceller, pcm)
        if not self._spoke:
            return self._released(pcm)
        if self._hold_left:
            if self._held or _highest(pcm) > HOLD_PEAK:
                return self._hold(pcm)
            self._clear += loud
            if self._clear >= CLEAR_TICKS:
                self._hold_left = 0
        self._seek(LOOK_TICKS)
        return pcm

    def release(self) -> bytes:
        """What is held back, now: frames that come next are not given to :meth:`heard`."""
        return self._released(b"")

    def _hold(self, pcm: bytes) -> bytes:
        self._held += pcm
        self._hold_left -= 1
        if HOLD_TICKS - self._hold_left >= HOLD_LEAST_TICKS:
            self._seek(HOLD_LOOK_TICKS if self._finder.suspects else 2 * HOLD_LOOK_TICKS)
        if self._canceller is not None:
            self._held[:] = bytes(len(self._held))
            self._hold_left = 0
        return b"" if self._hold_left else self._released(b"")

    def _released(self, pcm: bytes) -> bytes:
        if not self._held:
            return pcm
        held = bytes(self._held) + pcm
        self._held.clear()
        return held

    def _seek(self, every: int) -> None:
        self._ticks += 1
        if self._ticks < every:
            return
        self._ticks = 0
        self._looks += 1
        if self._looks > EAGER_LOOKS and self._looks % LAZY > 1:
            return
        found = self._finder.look(2 if every == LOOK_TICKS else HOLD_AGREE)
        if found is None:
            return
        lead = LEAD_MS * self._rate // 1000
        # The echo of the newest frame sent is at least one frame old when it is heard.
        self._delay = max(0, found.delay * self._rate // RATE - lead)
        self._canceller = EchoCanceller(self._rate, self._frame, TAIL_MS * self._rate // 1000)
        self.stats.delay_ms = round(1000 * found.delay / RATE, 1)
        self._poor = 0
        self._leak, self._settling = found.leak, SETTLING_FRAMES

    def _cancel(self, canceller: EchoCanceller, pcm: bytes) -> bytes:
        end = len(self._history) - 2 * self._delay
        sent = bytes(self._history[end - 2 * self._frame : end])
        heard, left = np.frombuffer(pcm, np.int16), canceller.process(pcm, sent)
        # An echo lasts longer than what it echoes.
        self._reference = max(_energy(np.frombuffer(sent, np.int16)), 0.6 * self._reference)
        before, after = _energy(heard), _energy(left)
        if self._reference < REFERENCE_RMS**2 or before < 1.0:
            return self._turned(heard, left, raw=True)
        if after < MOSTLY * before:
            self._measure(before, after)
            self._poor = 0
        else:
            self._hangover = HANGOVER_FRAMES
            self._poor += 1
            if self._poor > LOST_FRAMES:
                self._lose()
        drowned = before > DROWNED * self._leak * self._reference
        self._settling = max(0, self._settling - 1)
        if self._hangover and (drowned or not self._settling):
            self._hangover -= 1
            return self._turned(heard, left, raw=drowned)
        self.stats.suppressed_frames += 1
        return self._turned(heard, left * RESIDUAL_GAIN, raw=False)

    def _turned(self, heard: npt.NDArray[np.int16], left: npt.NDArray[Any], *, raw: bool) -> bytes:
        """One of the two, faded into where the other was before."""
        wanted, other = (heard, left) if raw else (left, heard)
        if raw != self._raw:
            self._raw = raw
            wanted = self._fade * wanted + (1 - self._fade) * other
        return wanted.astype(np.int16).tobytes()

    def _measure(self, before: float, after: float) -> None:
        self._before += 0.02 * (before - self._before)
        self._after += 0.02 * (after - self._after)
        leak = before / self._reference
        self._leak += 0.05 * (leak - self._leak)
        if self._after > 0:
            self.stats.erle_db = round(10 * math.log10(self._before / self._after), 1)

    def _lose(self) -> None:
        self.stats.losses += 1
        self._canceller = None
        self._finder.restart()
        self._ticks = self._looks = self._poor = 0


def _highest(pcm: bytes) -> int:
    return audioop.minmax(pcm, 2)[1]


def _energy(pcm: npt.NDArray[np.int16]) -> float:
    samples = pcm.astype(np.float32)
    return float(samples @ samples) / max(1, len(samples))
