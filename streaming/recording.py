"""The two sides of a call, paired tick by tick, as a recording keeps them.

Caller and agent are taken in the same 20 ms tick, the caller as the leg gave it and the agent as
the gate sealed it, so both channels have one time base: the media clock's. Pairs wait for a
second before they leave, because a key pressed is told of only when it is let go, and what the
caller's line carried meanwhile is silenced then. Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ringtrue.streaming.clock import TICK
from ringtrue.streaming.ports import FRAMES_PER_SECOND, frame_bytes

CHUNK_FRAMES: Final = FRAMES_PER_SECOND
"""Frames that leave at once: one second."""

LOOK_BACK_FRAMES: Final = FRAMES_PER_SECOND
"""How much of the caller's audio before a key was told of is silenced with it."""

KEY_TAIL_FRAMES: Final = FRAMES_PER_SECOND // 2
"""And how much after it."""

SENSITIVE_TAIL_FRAMES: Final = FRAMES_PER_SECOND
"""How long the caller stays silenced once nothing sensitive is asked any more."""

MAX_GAP_FRAMES: Final = 10 * FRAMES_PER_SECOND
"""Longest gap between two ticks that is filled with silence."""


@dataclass(frozen=True, slots=True)
class StereoChunk:
    """Up to a second of both sides: PCM of the same length."""

    caller: bytes
    agent: bytes

    @property
    def samples(self) -> int:
        """Samples of each side."""
        return len(self.caller) // 2


@dataclass(slots=True)
class _Pair:
    caller: bytes
    agent: bytes
    masked: bool


class StereoTap:
    """Pairs the sides of one call and silences what of the caller may not be kept."""

    def __init__(
        self,
        rate: int,
        on_chunk: Callable[[StereoChunk], None],
        *,
        mask_keys: bool = True,
        sensitive: Callable[[], bool] | None = None,
        told: Callable[[], bool] | None = None,
    ) -> None:
        """PCM at ``rate`` Hz; ``on_chunk`` is called from the tick and must not wait.

        ``mask_keys`` silences the caller around keys pressed. ``sensitive`` says whether the
        agent asks for something that may not be kept, ``told`` whether the caller has heard that
        the call is recorded; until then the caller is silence.
        """
        self._on_chunk = on_chunk
        self._mask_keys = mask_keys
        self._sensitive = sensitive
        self._told = told
        self._silence = bytes(frame_bytes(rate))
        self._waiting: deque[_Pair] = deque()
        self._block: list[_Pair] = []
        self._caller: tuple[bytes, bool] | None = None
        self._tail = 0
        self._last: float | None = None
        self.frames = 0
        """Frames of each side since the recording began, those still waiting included."""

        self.masked = 0
        """Frames in which the caller was silenced."""

    def heard(self, pcm: bytes, digits: Sequence[str]) -> None:
        """This tick's 20 ms of the caller, and the keys told of in it."""
        if digits and self._mask_keys:
            for pair in self._waiting:
                self._mask(pair)
            self._tail = max(self._tail, KEY_TAIL_FRAMES)
        if self._sensitive is not None and self._sensitive():
            self._tail = SENSITIVE_TAIL_FRAMES
        masked = self._tail > 0 or (self._told is not None and not self._told())
        self._tail = max(0, self._tail - 1)
        self._caller = pcm, masked

    def sent(self, pcm: bytes, now: float) -> None:
        """This tick's 20 ms of the agent, as sealed; ``now`` is the tick's place on the grid."""
        if self._last is not None:
            # Ticks the clock left out were heard by nobody, but time went on.
            missed = min(round((now - self._last) / TICK) - 1, MAX_GAP_FRAMES)
            for _ in range(missed):
                self._push(_Pair(self._silence, self._silence, masked=False))
        self._last = now
        caller, masked = self._caller or (self._silence, False)
        self._caller = None
        pair = _Pair(caller, pcm, masked=False)
        if masked:
            self._mask(pair)
        self._push(pair)

    def unheard(self, samples: int) -> None:
        """The far end dropped the last ``samples`` of the agent: they become silence, as far as
        they are not a second old."""
        left = 2 * samples
        for pair in reversed(self._waiting):
            if left <= 0:
                return
            kept = max(0, len(pair.agent) - left)
            left -= len(pair.agent)
            pair.agent = pair.agent[:kept] + self._silence[kept:]

    def close(self) -> None:
        """The call is over: let go of what waits."""
        self._block.extend(self._waiting)
        self._waiting.clear()
        for start in range(0, len(self._block), CHUNK_FRAMES):
            self._leave(self._block[start : start + CHUNK_FRAMES])
        self._block = []

    def _mask(self, pair: _Pair) -> None:
        if not pair.masked:
            pair.caller, pair.masked = self._silence, True
            self.masked += 1

    def _push(self, pair: _Pair) -> None:
        self.frames += 1
        self._waiting.append(pair)
        if len(self._waiting) <= LOOK_BACK_FRAMES:
            return
        self._block.append(self._waiting.popleft())
        if len(self._block) >= CHUNK_FRAMES:
            block, self._block = self._block, []
            self._leave(block)

    def _leave(self, block: list[_Pair]) -> None:
        caller = b"".join(pair.caller for pair in block)
        self._on_chunk(StereoChunk(caller, b"".join(pair.agent for pair in block)))
