"""The stand-ins as Pipecat services: used by the plain Pipecat application and by Ringtrue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from pipecat.frames.frames import (
    Frame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import STTSettings, TTSSettings
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService
from pipecat.utils.time import time_now_iso8601
from standins import (
    CHUNK_SECONDS,
    RECOGNIZER_SECONDS,
    SYNTHESIZER_SECONDS,
    TRANSCRIPT,
    begin_utterance,
    tone,
)


class StandInSTT(STTService):
    """Knows what was said before it hears it, and says so a little after the pause."""

    def __init__(self, **kwargs: Any) -> None:
        """No settings."""
        super().__init__(
            settings=STTSettings(model=None, language=None),
            ttfs_p99_latency=2 * RECOGNIZER_SECONDS,
            **kwargs,
        )

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Hear nothing."""
        yield None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Answer the end of speech."""
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStoppedSpeakingFrame):
            self.create_task(self._recognize())

    async def _recognize(self) -> None:
        await asyncio.sleep(RECOGNIZER_SECONDS)
        await self.push_frame(
            TranscriptionFrame(TRANSCRIPT, "", time_now_iso8601(), finalized=True)
        )


class StandInTTS(TTSService):
    """A tone for every utterance."""

    def __init__(self, **kwargs: Any) -> None:
        """No settings."""
        super().__init__(
            push_start_frame=True,
            push_stop_frames=True,
            settings=TTSSettings(model=None, voice=None, language=None),
            **kwargs,
        )

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame, None]:
        """Speak ``text``."""
        number, samples = begin_utterance(text)
        rate = self.sample_rate
        samples = samples * rate // 8000
        await asyncio.sleep(SYNTHESIZER_SECONDS)
        chunk = round(CHUNK_SECONDS * rate)
        for start in range(0, samples, chunk):
            pcm = tone(number, start, min(chunk, samples - start), rate)
            yield TTSAudioRawFrame(pcm.tobytes(), rate, 1, context_id=context_id)
            await asyncio.sleep(0)
