"""One utterance on its way down the graph: its phrases announced, its audio sealed, its words
right behind the audio in which they end."""

from __future__ import annotations

from typing import Final

from pipecat.frames.frames import TTSAudioRawFrame
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.utils.text.base_text_aggregator import TextType

from ringtrue.streaming.errors import SynthesisError
from ringtrue.streaming.handover import Utterance
from ringtrue.streaming.ports import Licence, SpeechChunk
from ringtrue.streaming.provenance import Sealer
from ringtrue.streaming.voice_frames import SpokenWordFrame, sealed_audio

_BYTES: Final = 2


class Delivery:
    """Pushes the frames of one utterance."""

    def __init__(
        self, pusher: FrameProcessor, utterance: Utterance, rate: int, sealer: Sealer | None
    ) -> None:
        """Push from ``pusher``; audio at ``rate`` Hz, unsealed where there is no ``sealer``."""
        self._pusher = pusher
        self._utterance = utterance
        self._rate = rate
        self._sealer = sealer
        self._position = 0
        self._announced = False
        self._heard = False

    async def announce(self) -> None:
        """Show the phrase that is about to be spoken."""
        self._announced = True
        phrases = self._utterance.phrases
        if phrases and not phrases[0].will_be_spoken:
            phrase = phrases[0]
            phrase.append_to_context = False
            phrase.context_id = self._utterance.context_id
            phrase.will_be_spoken = True
            await self._pusher.push_frame(phrase)

    async def push(self, chunk: SpeechChunk) -> float:
        """Push one chunk; returns its seconds.

        Raises :class:`SynthesisError` for speech of a cloned voice without its licence.
        """
        utterance = self._utterance
        if utterance.licensed and chunk.licence is None:
            raise SynthesisError("a cloned voice made speech without its licence")
        if not self._announced:
            await self.announce()
        await self._push(chunk)
        if chunk.pcm and not self._heard:
            self._heard = True
            await self._pusher.stop_ttfb_metrics()
        if chunk.phrase_end and utterance.phrases:
            utterance.phrases.popleft()
            utterance.offset = 0
            self._announced = False
        return len(chunk.pcm) / (_BYTES * self._rate)

    async def _push(self, chunk: SpeechChunk) -> None:
        """Push audio and words in order."""
        utterance, begun = self._utterance, self._position
        end = begun + len(chunk.pcm) // _BYTES
        at = begun
        for word in chunk.words:
            stop = min(max(word.end, at), end)
            await self._push_audio(
                chunk.pcm[_BYTES * (at - begun) : _BYTES * (stop - begun)], chunk.licence
            )
            at = stop
            phrase = utterance.phrases[0] if utterance.phrases else None
            start = utterance.place(word.text)
            text = SpokenWordFrame(
                word.text,
                text_type=TextType.WORD,
                segment_id=phrase.id if phrase is not None else None,
                phrase=phrase,
                start=start,
            )
            text.context_id = utterance.context_id
            text.append_to_context = utterance.append_to_context
            text.will_be_spoken = True
            await self._pusher.push_frame(text)
            utterance.offset = start + len(word.text)
        await self._push_audio(chunk.pcm[_BYTES * (at - begun) :], chunk.licence)
        self._position = end

    async def _push_audio(self, pcm: bytes, licence: Licence | None) -> None:
        if not pcm:
            return
        context = self._utterance.context_id
        if self._sealer is None:
            frame = TTSAudioRawFrame(pcm, self._rate, 1, context_id=context)
        else:
            now = self._pusher.get_event_loop().time()
            frame = sealed_audio(self._sealer.seal(pcm, now, licence=licence), context)
        await self._pusher.push_frame(frame)
        await self._pusher.process_ttfa_metrics(frame)
