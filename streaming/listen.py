"""The graph's first processor: the caller's audio becomes speech events and recognizer input.

Audio enters by :meth:`Listener.hear`, in blocks of up to three frames, and ends at the recognizer,
the next processor: one of ours is given the block itself, another a frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from ringtrue.streaming.recognizers.service import StreamingRecognizer
from ringtrue.streaming.record import Stage
from ringtrue.streaming.turns import PRE_SPEECH_SECONDS, SmartTurnModel, TurnAudio, prolonged
from ringtrue.streaming.turns.frames import (
    SpeechDismissedFrame,
    SpeechHintFrame,
    SpeechPausedFrame,
    SpeechResumedFrame,
)
from ringtrue.streaming.vad import (
    SpeechDetector,
    SpeechDismissed,
    SpeechEvent,
    SpeechHinted,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
)


class Listener(FrameProcessor):
    """Detects speech and hands audio on."""

    def __init__(
        self,
        detector: SpeechDetector,
        rate: int,
        *,
        smart_turn: SmartTurnModel | None,
        probe: Callable[[Stage, float], None],
    ) -> None:
        """Detect with ``detector`` at ``rate`` Hz; ``probe`` takes a stage and its loop time."""
        super().__init__(name="listener", enable_direct_mode=True)
        self._detector = detector
        self._rate = rate
        self._smart_turn = smart_turn
        self._probe = probe
        self._audio = TurnAudio(rate)
        self._position = 0
        self._speech_started: int | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass everything; audio comes by :meth:`hear`."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)

    async def hear(self, pcm: bytes) -> None:
        """Take one block of the caller's PCM."""
        self._audio.push(pcm)
        self._position += len(pcm) // 2
        events = self._detector.push(pcm)
        for event in events:
            if isinstance(event, SpeechHinted):
                await self.push_frame(SpeechHintFrame())
            elif isinstance(event, SpeechStarted):
                if self._speech_started is None:
                    self._speech_started = event.at
                policy = self._detector.policy
                await self.push_frame(VADUserStartedSpeakingFrame(start_secs=policy.start_seconds))
        # Handed on without push_frame's observers and events, which cost more than the frame.
        if isinstance(self.next, StreamingRecognizer):
            self.next.hear(pcm)
        elif self.next is not None:
            frame = InputAudioRawFrame(audio=pcm, sample_rate=self._rate, num_channels=1)
            await self.next.queue_frame(frame)
        for event in events:
            await self._ended(event)

    async def _ended(self, event: SpeechEvent) -> None:
        """Tell of an end of speech, behind the audio that holds it."""
        if isinstance(event, SpeechHinted | SpeechStarted):
            return
        if isinstance(event, SpeechDismissed):
            await self.push_frame(SpeechDismissedFrame())
            return
        if isinstance(event, SpeechPaused):
            await self.push_frame(SpeechPausedFrame())
            return
        if isinstance(event, SpeechResumed):
            await self.push_frame(SpeechResumedFrame())
            return
        now = asyncio.get_running_loop().time()
        self._probe(Stage.SPEECH_ENDED, now - (self._position - event.at) / self._rate)
        self._probe(Stage.VAD_STOPPED, now)
        silence = (self._position - event.at) / self._rate
        await self.push_frame(VADUserStoppedSpeakingFrame(stop_secs=silence))

    @property
    def eager(self) -> bool:
        """Whether the next 20 ms are worth having at once: speech seems to begin, or to end."""
        return self._detector.undecided

    def turn_ended(self) -> None:
        """The turn is over: the next speech starts a new segment for the model."""
        self._speech_started = None

    def hasten(self) -> None:
        """The present pause is probably the end of the turn: tell of it as soon as may be."""
        self._detector.hasten()

    async def judge(self) -> float:
        """Probability that the caller's turn, as heard so far, is complete.

        In a pause that has yet to end the speech: how it will sound if it does. What is missing
        of the silence is put there from the pause itself, so one judgement does for both.
        """
        if self._smart_turn is None:
            return 1.0
        started = self._position if self._speech_started is None else self._speech_started
        length = self._position - started + int(PRE_SPEECH_SECONDS * self._rate)
        audio = self._audio.segment(length)
        pause = round(self._detector.pause * self._rate)
        if pause:
            missing = round(self._detector.policy.stop_seconds * self._rate) - pause
            audio = prolonged(audio, pause, missing)
        return await self._smart_turn.judge(audio, self._rate)
