"""Who vouches for a graph's speech: the tap behind a foreign synthesizer, and ours by itself."""

from __future__ import annotations

import numpy as np
import pytest
from pipecat.frames.frames import (
    InterruptionFrame,
    OutputAudioRawFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)

from fakes.graphs import running
from fakes.scripted_voices import NumberedEngine, ScriptedVoice
from ringtrue.streaming.provenance import Provenance
from ringtrue.streaming.refusals import Refusal
from ringtrue.streaming.sealing import SealingTap, SealsSpeech
from ringtrue.streaming.synthesizer import SpeechSynthesizer
from ringtrue.streaming.voice_frames import SealedAudioFrame

pytestmark = pytest.mark.virtual_time
RATE = 8000


def audio(samples: int, rate: int = RATE) -> TTSAudioRawFrame:
    return TTSAudioRawFrame(np.full(samples, 1000, "<i2").tobytes(), rate, 1, context_id="u")


async def test_speech_is_sealed_by_utterance_and_in_order() -> None:
    provenance = Provenance("c1", RATE)
    async with running(SealingTap(provenance), rate=RATE) as graph:
        for _ in range(2):
            await graph.push(TTSStartedFrame(context_id="u"), audio(800), audio(400))
            await graph.push(TTSStoppedFrame(context_id="u"))
        await graph.until(lambda: len(graph.down(SealedAudioFrame)) == 4)
        chunks = [frame.chunk for frame in graph.down(SealedAudioFrame)]
    assert [(chunk.utterance, chunk.seq) for chunk in chunks] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert [provenance.refusal(chunk) for chunk in chunks] == [None] * 4
    assert all(frame.audio == frame.chunk.pcm for frame in graph.down(SealedAudioFrame))
    assert [frame.context_id for frame in graph.down(SealedAudioFrame)] == ["u"] * 4


async def test_speech_at_another_rate_is_brought_to_the_legs_before_it_is_sealed() -> None:
    provenance = Provenance("c1", RATE)
    async with running(SealingTap(provenance), rate=RATE) as graph:
        await graph.push(TTSStartedFrame(), audio(2400, 24000), TTSStoppedFrame())
        await graph.until(lambda: graph.down(TTSStoppedFrame))
        frames = graph.down(SealedAudioFrame)
    assert sum(len(frame.chunk.pcm) for frame in frames) == pytest.approx(1600, abs=40)
    assert {frame.chunk.rate for frame in frames} == {RATE}
    assert [provenance.refusal(frame.chunk) for frame in frames] == [None] * len(frames)


async def test_other_audio_and_other_destinations_pass_unsealed() -> None:
    elsewhere = audio(160)
    elsewhere.transport_destination = "elsewhere"
    async with running(SealingTap(Provenance("c1", RATE)), rate=RATE) as graph:
        raw = OutputAudioRawFrame(bytes(320), RATE, 1)
        await graph.push(raw, elsewhere)
        await graph.until(lambda: len(graph.down(OutputAudioRawFrame)) == 2)
        assert graph.down(OutputAudioRawFrame) == [raw, elsewhere]
        assert not graph.down(SealedAudioFrame)


async def test_what_was_sealed_before_an_interruption_is_of_another_turn() -> None:
    provenance = Provenance("c1", RATE)
    async with running(SealingTap(provenance), rate=RATE) as graph:
        await graph.push(TTSStartedFrame(), audio(160), InterruptionFrame())
        await graph.push(TTSStartedFrame(), audio(160))
        await graph.until(lambda: len(graph.down(SealedAudioFrame)) == 2)
    provenance.cut()
    before, after = (frame.chunk for frame in graph.down(SealedAudioFrame))
    assert provenance.refusal(before) is Refusal.STALE_TURN
    assert provenance.refusal(after) is None


async def test_our_own_synthesizer_seals_what_it_says_with_its_licence() -> None:
    provenance, voice = Provenance("c1", RATE), ScriptedVoice()
    synthesizer = SpeechSynthesizer(NumberedEngine(), "stock", cloned=voice)
    assert isinstance(synthesizer, SealsSpeech)
    synthesizer.seal_with(provenance)
    async with running(synthesizer, rate=RATE) as graph:
        await graph.push(TTSSpeakFrame("w1 w2"), TTSSpeakFrame("w3"))
        await graph.until(lambda: len(graph.down(TTSStoppedFrame)) == 2)
        chunks = [frame.chunk for frame in graph.down(SealedAudioFrame)]
        assert len(chunks) == len(graph.down(TTSAudioRawFrame))
    assert {chunk.licence for chunk in chunks} == {voice.licence}
    assert {chunk.utterance for chunk in chunks} == {1, 2}
    assert [provenance.refusal(chunk) for chunk in chunks] == [None] * len(chunks)


async def test_our_own_synthesizer_seals_nothing_for_nobody() -> None:
    async with running(SpeechSynthesizer(NumberedEngine(), "stock"), rate=RATE) as graph:
        await graph.push(TTSSpeakFrame("w1"))
        await graph.until(lambda: graph.down(TTSStoppedFrame))
        assert graph.down(TTSAudioRawFrame)
        assert not graph.down(SealedAudioFrame)
