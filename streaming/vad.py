"""Voice activity in two stages: ``webrtcvad`` gates, silero confirms.

The gate costs microseconds and rejects silence and steady noise; only while it is open, or speech
has been confirmed, does the silero network run (Silero VAD v5/v6, 32 ms windows, recurrent). The
state machine is sans-IO: PCM in, events out, positions in samples.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
import webrtcvad

from ringtrue.streaming.silero import UNITS, SileroModel

WINDOW_SECONDS: Final = 0.032
"""Silero's window: 256 samples at 8 kHz, 512 at 16 kHz."""

LOOKBACK_WINDOWS: Final = 3
"""Windows replayed through silero when the gate opens, so that its state is warm."""


@dataclass(frozen=True, slots=True)
class VadPolicy:
    """Thresholds and times of the state machine."""

    confidence: float = 0.6
    """Silero's speech probability from which a window counts as speech."""

    release: float = 0.35
    """Below this a window of confirmed speech counts as a pause."""

    start_seconds: float = 0.16
    """Speech needed before it is confirmed."""

    stop_seconds: float = 0.2
    """Pause needed before the end is confirmed."""

    hint_seconds: float = 0.096
    """Speech after which it may have begun."""

    hasty_seconds: float = 0.16
    """Pause that is enough once :meth:`SpeechDetector.hasten` was called in it."""

    pause_seconds: float = 0.064
    """Pause after which speech may have ended."""

    aggressiveness: int = 2
    """webrtcvad's mode for the gate: 0 lets most through, 3 least."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech was confirmed."""

    at: int
    """Position of its first window's first sample."""


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The end of speech was confirmed."""

    at: int
    """Position just after its last window."""


@dataclass(frozen=True, slots=True)
class SpeechHinted:
    """Speech may have begun: a start, or a dismissal, follows."""

    at: int
    """Position of its first window's first sample."""


@dataclass(frozen=True, slots=True)
class SpeechDismissed:
    """What was hinted at was no speech, or too little of it."""

    at: int
    """Position just after its last window."""


@dataclass(frozen=True, slots=True)
class SpeechPaused:
    """Speech may have ended: a stop follows where the pause goes on, else that it resumed."""

    at: int
    """Position just after its last window."""


@dataclass(frozen=True, slots=True)
class SpeechResumed:
    """It had not ended."""

    at: int
    """Position of its next window's first sample."""


SpeechEvent = (
    SpeechHinted | SpeechDismissed | SpeechStarted | SpeechPaused | SpeechResumed | SpeechStopped
)


class SpeechDetector:
    """One stream's detector at 8000 or 16000 Hz."""

    def __init__(self, model: SileroModel, rate: int, policy: VadPolicy | None = None) -> None:
        """Raises ``ValueError`` for another rate."""
        if rate not in (8000, 16000):
            raise ValueError(f"rate must be 8000 or 16000 Hz, got {rate}")
        self._model = model
        self._rate = rate
        self.policy = policy or VadPolicy()
        self._gate = webrtcvad.Vad(self.policy.aggressiveness)
        self._window = int(rate * WINDOW_SECONDS)
        self._context = self._window // 8
        self._start_windows = max(1, round(self.policy.start_seconds / WINDOW_SECONDS))
        self._stop_windows = max(1, round(self.policy.stop_seconds / WINDOW_SECONDS))
        self._hint_windows = max(1, round(self.policy.hint_seconds / WINDOW_SECONDS))
        self._hasty_windows = max(1, round(self.policy.hasty_seconds / WINDOW_SECONDS))
        self._pause_windows = max(1, round(self.policy.pause_seconds / WINDOW_SECONDS))
        self._buffer = b""
        self._position = 0
        self._lookback: deque[bytes] = deque(maxlen=LOOKBACK_WINDOWS)
        self._fresh()
        self._open = False
        self._closed_windows = 0
        self._run = 0
        self._hinted = self._hasty = False
        self.speaking = False
        self.windows_confirmed = 0
        """Windows the network ran on."""

    @property
    def undecided(self) -> bool:
        """Speech seems to begin, or to end: the next windows decide."""
        return self._run > 0

    @property
    def pause(self) -> float:
        """Seconds of silence so far that may be the end of speech; 0 where there is no speech."""
        return self._run * self._window / self._rate if self.speaking else 0.0

    def hasten(self) -> None:
        """The present pause is the end of speech, as far as others can tell: don't wait long."""
        self._hasty = self.speaking and self._run > 0

    def push(self, pcm: bytes) -> list[SpeechEvent]:
        """Take PCM of any length and return what was decided, in order."""
        self._buffer += pcm
        size = 2 * self._window
        events: list[SpeechEvent] = []
        offset = 0
        while len(self._buffer) - offset >= size:
            event = self._step(self._buffer[offset : offset + size])
            offset += size
            self._position += self._window
            if event is not None:
                events.append(event)
        self._buffer = self._buffer[offset:]
        return events

    def _step(self, window: bytes) -> SpeechEvent | None:
        if not self._confirmable(window):
            self._lookback.append(window)
            return self._dismiss()
        probability = self._probability(window)
        end = self._position + self._window
        if not self.speaking:
            if probability < self.policy.confidence:
                return self._dismiss()
            self._run += 1
            if self._run < self._start_windows:
                if self._run != self._hint_windows:
                    return None
                self._hinted = True
                return SpeechHinted(end - self._run * self._window)
            started = end - self._run * self._window
            self.speaking, self._hinted, self._run = True, False, 0
            return SpeechStarted(started)
        if probability >= self.policy.release:
            paused, self._run, self._hasty = self._run, 0, False
            return SpeechResumed(self._position) if paused >= self._pause_windows else None
        self._run += 1
        stopped = end - self._run * self._window
        if self._run < (self._hasty_windows if self._hasty else self._stop_windows):
            return SpeechPaused(stopped) if self._run == self._pause_windows else None
        self.speaking, self._run, self._hasty = False, 0, False
        return SpeechStopped(stopped)

    def _dismiss(self) -> SpeechDismissed | None:
        """No speech in this window; and if there seemed to be some before it, it was none."""
        self._run = 0
        if not self._hinted:
            return None
        self._hinted = False
        return SpeechDismissed(self._position)

    def _confirmable(self, window: bytes) -> bool:
        """The first stage: open on voiced 10 ms pieces, closed after a while without."""
        if self.speaking:
            return True
        piece = self._rate // 50
        voiced = any(
            self._gate.is_speech(window[start : start + piece], self._rate)
            for start in range(0, 3 * piece, piece)
        )
        if voiced:
            if not self._open:
                self._open = True
                self._fresh()
                for earlier in self._lookback:
                    self._probability(earlier)
                self._lookback.clear()
            self._closed_windows = 0
        elif self._open:
            self._closed_windows += 1
            if self._closed_windows > self._start_windows:
                self._open = False
        return self._open

    def _fresh(self) -> None:
        self._state = np.zeros((2, 1, UNITS), np.float32)
        self._tail = np.zeros(self._context, np.float32)

    def _probability(self, window: bytes) -> float:
        samples = np.frombuffer(window, np.int16).astype(np.float32) / 32768.0
        probability, self._state = self._model.run(
            np.concatenate((self._tail, samples)), self._state, self._rate
        )
        self._tail = samples[-self._context :]
        self.windows_confirmed += 1
        return probability
