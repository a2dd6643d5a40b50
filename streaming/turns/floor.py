"""Who has the floor while the agent speaks: it pauses at once, and goes on if nobody wanted it.

The keeper stands behind the recognizer. While the agent speaks it withholds what the caller's
speech would set off, pauses playout, and decides by an
:class:`~ringtrue.streaming.turns.overlap.Overlap`. An interruption is then passed on with all
that was withheld, and ends the agent's turn in the usual way: its context keeps what was heard.
Anything else leaves no trace but a count, and the agent goes on at its next sample.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import structlog
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    TranscriptionFrame,
    UserBackchannelFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from ringtrue.streaming.recognizers.service import NothingRecognizedFrame
from ringtrue.streaming.turn_taking import TurnTaking
from ringtrue.streaming.turns.expect import Expect
from ringtrue.streaming.turns.frames import (
    SpeechDismissedFrame,
    SpeechHintFrame,
    SpeechPausedFrame,
    SpeechResumedFrame,
)
from ringtrue.streaming.turns.overlap import Backchannels, Overlap, OverlapPolicy, Verdict

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 0.04
"""How often an overlap is looked at while nothing happens."""

MAX_WITHHELD: Final = 64
"""Frames of one overlap that are kept; beyond, it is an interruption."""

TAIL_SECONDS: Final = 1.5
"""Left of a yes-or-no question when an answer to it is one, not a backchannel."""

LATE_SECONDS: Final = 3.0
"""How long after a sound was taken for noise its words may still come."""

INTERRUPTION_SECONDS: Final = 0.2
"""How long the frames of an interruption may take to come by."""

_SPEECH: Final = (
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    NothingRecognizedFrame,
    SpeechPausedFrame,
    SpeechResumedFrame,
)


class Floor(Protocol):
    """The agent's speech, as far as it can be paused."""

    @property
    def paused(self) -> bool:
        """Whether it is."""
        ...

    @property
    def pending_seconds(self) -> float:
        """What is left of it, as far as it is made."""
        ...

    def pause(self, now: float) -> bool:
        """Pause; False where the agent doesn't speak."""
        ...

    def resume(self) -> None:
        """Go on."""
        ...


class FloorKeeper(FrameProcessor):
    """Stands between the recognizer and the user's context, in direct mode."""

    def __init__(
        self,
        floor: Floor,
        backchannels: Backchannels,
        record: TurnTaking,
        *,
        expects: Callable[[], Expect] | None = None,
        on_ignored: Callable[[], None] | None = None,
        policy: OverlapPolicy | None = None,
    ) -> None:
        """Pause ``floor``, and count into ``record``.

        ``expects`` says what the agent is asking for, ``on_ignored`` is told that what the caller
        said is of no turn.
        """
        super().__init__(name="floor", enable_direct_mode=True)
        self._floor = floor
        self._backchannels = backchannels
        self._record = record
        self._expects = expects
        self._on_ignored = on_ignored
        self._policy = policy or OverlapPolicy()
        self._overlap: Overlap | None = None
        self._withheld: deque[Frame] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._ignored_at: float | None = None
        """When a sound was taken for noise whose final words had not come."""

        self._interrupted = asyncio.Event()
        self._committed = asyncio.Event()
        self._passing = self._again = False

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Withhold the caller's speech over the agent's until it is known what it is."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame):
            self._interrupted.set()
            self._poke()
        elif isinstance(frame, CancelFrame | EndFrame):
            self._give_up()
        elif direction is FrameDirection.DOWNSTREAM:
            if isinstance(frame, SpeechHintFrame):
                self._hinted()
            elif isinstance(frame, SpeechDismissedFrame):
                self._dismissed()
            elif isinstance(frame, _SPEECH) and self._speech(frame):
                return
        await self.push_frame(frame, direction)

    def committed(self) -> None:
        """An interruption has come to its end: the context has what was heard of the agent."""
        self._committed.set()

    async def cleanup(self) -> None:
        """Stop looking."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        self._disarm()
        if self._task is not None:
            task, self._task = self._task, None
            await self.cancel_task(task)

    def _hinted(self) -> None:
        now = self._now()
        if self._overlap is None and self._floor.pause(now):
            self._record.pauses += 1
            self._interrupted.clear()
            self._committed.clear()
            self._overlap = Overlap(self._backchannels, self._policy, now)
            self._arm()

    def _dismissed(self) -> None:
        if self._overlap is not None and not self._overlap.confirmed:
            self._overlap.dismissed()
            self._poke()

    def _speech(self, frame: Frame) -> bool:
        """Take what belongs to an overlap; False where there is none and it is to be passed."""
        overlap = self._overlap
        if self._passing:  # behind what was withheld before it
            self._withheld.append(frame)
            return True
        if overlap is None:
            return self._is_late(frame)
        now = self._now()
        if isinstance(frame, VADUserStartedSpeakingFrame):
            overlap.started(now - frame.start_secs)
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            overlap.stopped(now - frame.stop_secs)
        elif isinstance(frame, InterimTranscriptionFrame):
            overlap.partial(frame.text)
        elif isinstance(frame, TranscriptionFrame):
            overlap.final(frame.text)
        elif isinstance(frame, NothingRecognizedFrame):
            overlap.final("")
        if not isinstance(frame, SpeechPausedFrame | SpeechResumedFrame):
            self._withheld.append(frame)
        self._poke()
        return True

    def _is_late(self, frame: Frame) -> bool:
        """Whether ``frame`` is the words of what was taken for noise, and they are none."""
        if self._ignored_at is None or self._now() - self._ignored_at > LATE_SECONDS:
            return False
        if isinstance(frame, VADUserStartedSpeakingFrame):
            self._ignored_at = None  # what comes now is of this speech
        if isinstance(frame, InterimTranscriptionFrame | NothingRecognizedFrame):
            return True
        if isinstance(frame, TranscriptionFrame):
            self._ignored_at = None
            return self._backchannels.only(frame.text)
        return False

    async def _look(self) -> None:
        """Decide, if it can be decided."""
        overlap = self._overlap
        if overlap is None:
            return
        verdict = overlap.verdict(self._now())
        if self._interrupted.is_set() or len(self._withheld) >= MAX_WITHHELD:
            verdict = Verdict.INTERRUPTION
        if verdict is None and not self._floor.paused:
            verdict = Verdict.INTERRUPTION if overlap.confirmed else Verdict.NOISE
        if verdict is Verdict.BACKCHANNEL and self._answers(overlap.text):
            verdict = Verdict.INTERRUPTION
        if verdict is not None:
            await self._settle(overlap, verdict)

    def _answers(self, text: str) -> bool:
        """Whether ``text`` answers a question whose end the caller didn't wait for."""
        asked = self._expects is not None and self._expects() is Expect.YES_NO
        ending = self._floor.pending_seconds <= TAIL_SECONDS
        return asked and ending and self._backchannels.answers(text)

    async def _settle(self, overlap: Overlap, verdict: Verdict) -> None:
        self._close(overlap)
        if verdict is Verdict.INTERRUPTION:
            await self._pass_on()
            return
        worded = any(
            isinstance(frame, TranscriptionFrame | NothingRecognizedFrame)
            for frame in self._withheld
        )
        self._ignored_at = None if worded or not overlap.confirmed else self._now()
        self._withheld.clear()
        self._record.resumed += 1
        if verdict is Verdict.BACKCHANNEL:
            self._record.backchannels += 1
        else:
            self._record.false_interruptions += 1
        self._floor.resume()
        log.info("turns.resumed", after=str(verdict))
        if self._on_ignored is not None:
            self._on_ignored()
        if verdict is Verdict.BACKCHANNEL:
            await self.push_frame(UserBackchannelFrame(overlap.text, user_id="", timestamp=""))

    async def _pass_on(self) -> None:
        """It is an interruption: what was withheld takes its course.

        The interruption empties the queues it passes, and ends in the context with what was heard
        of the agent: what is behind the beginning of the caller's speech has to wait for both.
        """
        self._ignored_at = None
        self._passing = True
        try:
            while self._withheld:
                frame = self._withheld.popleft()
                await self.push_frame(frame)
                if isinstance(frame, VADUserStartedSpeakingFrame):
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(INTERRUPTION_SECONDS):
                            await self._interrupted.wait()
                            await self._committed.wait()
        finally:
            self._passing = False

    def _give_up(self) -> None:
        """The call ends: what was begun is said to its end."""
        if self._overlap is not None:
            self._close(self._overlap)
            self._withheld.clear()
            self._floor.resume()

    def _close(self, overlap: Overlap) -> None:
        self._overlap = None
        self._disarm()
        self._record.paused_ms += 1000 * (self._now() - overlap.began_at)

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._due)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._poke()
        if self._overlap is not None:
            self._arm()

    def _poke(self) -> None:
        """Look at it in a task of the keeper's own: an interruption cancels others."""
        if self._overlap is None:
            return
        self._again = True
        if self._task is None or self._task.done():
            self._task = self.create_task(self._looking(), "floor::look")

    async def _looking(self) -> None:
        while self._again:
            self._again = False
            await self._look()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
