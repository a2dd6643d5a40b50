"""Who vouches for the audio of a call's graph: a synthesizer of ours itself, a tap for others."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from pipecat.frames.frames import (
    CancelFrame,
    Frame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from ringtrue.streaming.dsp import StreamResampler
from ringtrue.streaming.provenance import Provenance, Sealer
from ringtrue.streaming.voice_frames import SealedAudioFrame, sealed_audio


@runtime_checkable
class SealsSpeech(Protocol):
    """A synthesizer that seals what it makes."""

    def seal_with(self, provenance: Provenance) -> None:
        """Seal for this call from now on."""
        ...


class SealingTap(FrameProcessor):
    """Stands right behind a synthesizer that can't seal, and seals speech at the leg's rate.

    Only ``TTSAudioRawFrame`` is a synthesizer's speech; other audio passes as it is, and the gate
    refuses it. After an interruption nothing that comes late is of the new turn.
    """

    def __init__(self, provenance: Provenance) -> None:
        """Seal for the call of ``provenance``."""
        super().__init__(name="sealing", enable_direct_mode=True)
        self._provenance = provenance
        self._sealer: Sealer | None = None
        self._resampler: StreamResampler | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Seal speech; pass everything on."""
        await super().process_frame(frame, direction)
        if direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
            return
        if isinstance(frame, TTSAudioRawFrame) and frame.transport_destination is None:
            pcm = self._at_leg_rate(frame)
            if pcm:
                await self.push_frame(self._sealed(pcm, frame.context_id))
            return
        if isinstance(frame, InterruptionFrame | CancelFrame):
            self._provenance.supersede()
            self._sealer = self._resampler = None
        elif isinstance(frame, TTSStartedFrame):
            self._sealer = self._resampler = None
        elif isinstance(frame, TTSStoppedFrame):
            tail = b"" if self._resampler is None else self._resampler.flush()
            if tail:
                await self.push_frame(self._sealed(tail, frame.context_id))
            self._sealer = self._resampler = None
        await self.push_frame(frame, direction)

    def _sealed(self, pcm: bytes, context_id: str | None) -> SealedAudioFrame:
        if self._sealer is None:
            self._sealer = self._provenance.utterance()
        return sealed_audio(self._sealer.seal(pcm, self.get_event_loop().time()), context_id)

    def _at_leg_rate(self, frame: TTSAudioRawFrame) -> bytes:
        rate = self._provenance.rate
        if frame.sample_rate == rate and frame.num_channels == 1:
            return frame.audio[: len(frame.audio) // 2 * 2]
        key = (frame.sample_rate, frame.num_channels)
        if self._resampler is None or self._resampler.source != key:
            self._resampler = StreamResampler(key[0], rate, channels=key[1])
        return self._resampler.push(frame.audio)
