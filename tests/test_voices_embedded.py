"""Cloned voices of the embedded engine: streams like any other, and no state can hurt."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio
import soxr
from ge2e_reference import prompt

from ringtrue.streaming.ports import SpeechChunk
from ringtrue.voices import embedded
from ringtrue.voices.cloning.model import CloneModel, PitchMap
from ringtrue.voices.cloning.phones import CLASSES
from ringtrue.voices.embedded import MAX_STATE, EmbeddedEngine, EmbeddedVoice
from ringtrue.voices.embedded_job import MAX_SECONDS, Request
from ringtrue.voices.encoder import SpeakerEncoder, similarity
from ringtrue.voices.engine import SPEECH_RATE, PreparedVoice, Progress, Speech, VoiceEngine
from ringtrue.voices.errors import CloningAbortedError, CloningError, EngineStateError
from ringtrue.voices.flite.frontend import BANDS, COEFFICIENTS
from ringtrue.voices.quality.script import MEASURED
from ringtrue.voices.renderer import RenderedVoice, Renderer, active_level
from ringtrue.voices.stock import FliteEngine
from ringtrue.voices.utterance import FIRST_FRAMES, SLICE_FRAMES, RenderedStream

PHRASES = ("Thank you for calling,", "how can I help you today?", "It's 5:30 pm.")


def model(base: str = "slt", ratio: float = 1.2) -> CloneModel:
    """A voice whose pitch is ``ratio`` times its base's, with formants of its own."""
    matrices = np.stack([np.eye(COEFFICIENTS)] * 2)
    matrices[:, 1:, 1:] *= 0.95
    offsets = np.zeros((2, CLASSES, COEFFICIENTS))
    offsets[:, :, 1:6] = np.random.default_rng(7).normal(0, 0.05, (2, CLASSES, 5))
    strengths = np.stack([np.ones(BANDS), np.zeros(BANDS)])
    pitch = PitchMap(math.log(150.0), math.log(150.0 * ratio), 1.0)
    return CloneModel(base, pitch, matrices, offsets, strengths, postfilter=0.3)


@pytest_asyncio.fixture
async def stock() -> AsyncIterator[FliteEngine]:
    made = FliteEngine(threads=2)
    await made.warm()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def engine(stock: FliteEngine) -> AsyncIterator[EmbeddedEngine]:
    made = EmbeddedEngine(stock)
    await made.warm()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def voice(engine: EmbeddedEngine) -> EmbeddedVoice:
    return await engine.prepare(model().to_bytes())


async def drain(stream: RenderedStream, *phrases: str) -> list[SpeechChunk]:
    for phrase in phrases:
        stream.feed(phrase)
    stream.finish()
    return [chunk async for chunk in stream.frames()]


async def say(voice: EmbeddedVoice, *phrases: str, rate: int = 16000) -> list[SpeechChunk]:
    return await drain(voice.open(rate), *(phrases or PHRASES))


def pcm(chunks: list[SpeechChunk]) -> bytes:
    return b"".join(chunk.pcm for chunk in chunks)


def samples(chunks: list[SpeechChunk]) -> npt.NDArray[np.float64]:
    return np.frombuffer(pcm(chunks), "<i2") / 32768


def pitch(sound: npt.NDArray[np.float64], rate: int = 16000) -> float:
    """Median F0 in Hz of the strongly periodic 40 ms blocks, by autocorrelation."""
    size, found = rate // 25, []
    lags = np.arange(rate // 400, rate // 60)
    for start in range(0, len(sound) - 2 * size, size // 2):
        block = sound[start : start + 2 * size]
        power = (block**2).sum()
        if power < 1e-2:
            continue
        likeness = np.array([(block[:-lag] * block[lag:]).sum() for lag in lags]) / power
        best = int(likeness.argmax())
        if likeness[best] > 0.6:
            found.append(rate / lags[best])
    return float(np.median(found))


async def test_it_is_an_engine(engine: EmbeddedEngine, voice: EmbeddedVoice) -> None:
    contract: VoiceEngine = engine
    prepared: PreparedVoice = voice
    assert contract.id == "embedded-1"
    assert prepared.speaks_markup


@pytest.mark.parametrize("rate", [8000, 16000])
async def test_a_stream_equals_one_shot_bit_for_bit(
    stock: FliteEngine, voice: EmbeddedVoice, rate: int
) -> None:
    kept = CloneModel.from_bytes(model().to_bytes())
    whole = Renderer(
        RenderedVoice(kept.source(await stock.base("slt")), kept.postfilter, neural=kept.neural),
        rate,
    )
    expected = b""
    for phrase in PHRASES:
        whole.begin(phrase)
        while not whole.idle:
            expected += whole.next_slice(10**6).pcm
    expected += whole.finish().pcm
    chunks = await say(voice, rate=rate)
    assert pcm(chunks) == expected
    sizes = [len(chunk.pcm) // 2 for chunk in chunks if chunk.pcm]
    assert sizes[: len(FIRST_FRAMES)] == [frames * rate // 200 for frames in FIRST_FRAMES]
    assert max(sizes) <= SLICE_FRAMES * rate // 200


@pytest.mark.parametrize("rate", [8000, 16000])
async def test_a_neural_stream_equals_one_shot_too_and_says_the_same(
    stock: FliteEngine, engine: EmbeddedEngine, voice: EmbeddedVoice, rate: int
) -> None:
    state = replace(model(), neural=True).to_bytes()
    kept = CloneModel.from_bytes(state)
    whole = Renderer(
        RenderedVoice(kept.source(await stock.base("slt")), kept.postfilter, neural=True), rate
    )
    expected = b""
    for phrase in PHRASES:
        whole.begin(phrase)
        while not whole.idle:
            expected += whole.next_slice(10**6).pcm
    expected += whole.finish().pcm
    chunks = await say(await engine.prepare(state), rate=rate)
    plain = await say(voice, rate=rate)
    assert pcm(chunks) == expected
    assert pcm(chunks) != pcm(plain)
    assert max(len(chunk.pcm) // 2 for chunk in chunks) <= SLICE_FRAMES * rate // 200
    assert [mark.text for chunk in chunks for mark in chunk.words] == [
        mark.text for chunk in plain for mark in chunk.words
    ]
    assert active_level(samples(chunks), rate) == pytest.approx(-22.0, abs=1.5)


async def test_it_is_another_voice_at_the_common_level(
    stock: FliteEngine, voice: EmbeddedVoice
) -> None:
    cloned = samples(await say(voice))
    base = samples(await drain(stock.open("slt", 16000), *PHRASES))
    assert pitch(cloned) / pitch(base) == pytest.approx(1.2, abs=0.05)
    assert active_level(cloned, 16000) == pytest.approx(-22.0, abs=1.5)


async def test_fifty_streams_at_once_are_what_each_is_alone(engine: EmbeddedEngine) -> None:
    voices = [
        await engine.prepare(model(base, ratio).to_bytes())
        for base, ratio in (("slt", 0.9), ("awb", 1.3), ("rms", 1.1), ("rms", 0.8))
    ]
    jobs = [
        (voices[number % len(voices)], (8000, 16000)[number % 2], f"This is caller {number}.")
        for number in range(50)
    ]
    alone = [await say(voice, text, rate=rate) for voice, rate, text in jobs]
    together = await asyncio.gather(*(say(voice, text, rate=rate) for voice, rate, text in jobs))
    assert together == alone
    assert len({pcm(chunks) for chunks in alone}) == len(jobs)


async def test_cut_returns_within_a_frame(voice: EmbeddedVoice) -> None:
    """The next thing a reader gets after a cut is the end, also while a slice is being made."""
    stream = voice.open(8000)
    stream.feed("This sentence is never going to be heard to its very end, I am afraid.")
    heard = 0
    ended = asyncio.Event()

    async def read() -> None:
        nonlocal heard
        async for _ in stream.frames():
            heard += 1
        ended.set()

    reading = asyncio.create_task(read())
    while heard < 3:
        await asyncio.sleep(0)
    before = heard
    stream.cut()
    for _ in range(5):  # turns of the loop, no time
        await asyncio.sleep(0)
    assert ended.is_set()
    assert heard == before
    await reading


async def test_words_are_marked_where_they_end(voice: EmbeddedVoice) -> None:
    chunks = await say(voice, "Go,", "no.", "Three?")
    sound = samples(chunks)
    marks = [mark for chunk in chunks for mark in chunk.words]
    assert [mark.text for mark in marks] == ["Go,", "no.", "Three?"]
    position = 0
    for chunk in chunks:
        end = position + len(chunk.pcm) // 2
        assert all(position <= mark.end <= end for mark in chunk.words)
        position = end
    for mark in marks:
        before, after = sound[mark.end - 1600 : mark.end], sound[mark.end : mark.end + 800]
        assert (before**2).sum() > 0.9 * ((before**2).sum() + (after**2).sum())


async def test_markup_shapes_a_cloned_voice(voice: EmbeddedVoice) -> None:
    text = "the weather in Boston is fine"
    plain = samples(await say(voice, text))

    async def marked(markup: str) -> npt.NDArray[np.float64]:
        return samples(await say(voice, markup))

    slow = await marked(f'<prosody rate="50%">{text}</prosody>')
    assert 1.8 < len(slow) / len(plain) < 2.1
    high = await marked(f'<prosody pitch="+6st">{text}</prosody>')
    assert pitch(high) / pitch(plain) == pytest.approx(2**0.5, abs=0.08)
    loud = await marked(f'<prosody volume="-6dB">{text}</prosody>')
    assert active_level(loud, 16000) - active_level(plain, 16000) == pytest.approx(-6, abs=0.7)
    paused = await marked('the weather in <break time="500ms"/> Boston is fine')
    assert len(paused) > len(plain) + 4000
    strong = await marked("the weather in <emphasis>Boston</emphasis> is fine")
    assert len(strong) > len(plain)
    spelled = await marked('the weather in <say-as interpret-as="characters">BOS</say-as>')
    assert len(spelled) > 16000


async def test_bad_rates_and_states_are_named(engine: EmbeddedEngine, voice: EmbeddedVoice) -> None:
    with pytest.raises(ValueError, match="rate must be one of 8000, 16000 Hz, got 24000"):
        voice.open(24000)
    with pytest.raises(EngineStateError, match=f"at most {MAX_STATE} bytes"):
        await engine.prepare(bytes(MAX_STATE + 1))
    for state in (b"", b"\0" * 100, b"{}"):
        with pytest.raises(EngineStateError):
            await engine.prepare(state)


async def test_hostile_states_are_refused_or_harmless(engine: EmbeddedEngine) -> None:
    """Bits flipped, cut and grown at random: an error of the documented kind, or a voice."""
    rng = np.random.default_rng(3)
    whole = model().to_bytes()
    for _ in range(150):
        state = bytearray(whole)
        kind = rng.integers(4)
        if kind == 0:
            for _ in range(rng.integers(1, 4)):
                state[rng.integers(len(state))] ^= 1 << rng.integers(8)
        elif kind == 1:
            del state[rng.integers(len(state)) :]
        elif kind == 2:
            state += rng.bytes(int(rng.integers(1, 50)))
        else:
            at = rng.integers(len(state))
            state[at : at + 8] = rng.bytes(8)
        try:
            prepared = await engine.prepare(bytes(state))
        except EngineStateError:
            continue
        assert np.abs(samples(await say(prepared, "Still here."))).max() < 0.99


def speech(seconds: float = 6.0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).normal(0, 0.1, int(seconds * SPEECH_RATE)).astype(np.float32)


def test_a_request_comes_out_as_it_went_in() -> None:
    said = speech(2.0)
    sent = Request(Speech(speech(), said, "I consent, née Ada"))
    got = Request.decode(sent.encode())
    assert np.array_equal(got.speech.samples, sent.speech.samples)
    assert got.speech.statement is not None
    assert np.array_equal(got.speech.statement, said)
    assert got.speech.transcript == "I consent, née Ada"
    bare = Request.decode(Request(Speech(speech())).encode())
    assert bare.speech.statement is None
    assert bare.search == ()
    assert bare.library_dir is None


async def test_what_cant_be_cloned_is_said(engine: EmbeddedEngine) -> None:
    def ignore(progress: Progress) -> None: ...

    with pytest.raises(CloningError, match=r"the speech must be mono, shape \(n,\), got \(2, 16\)"):
        await engine.clone(Speech(np.zeros((2, 16), np.float32)), ignore)
    with pytest.raises(CloningError, match=r"the statement lasts 121\.0 s; at most 120 s"):
        await engine.clone(Speech(speech(), speech(MAX_SECONDS + 1)), ignore)


async def test_a_crash_while_cloning_is_an_error(
    engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flite ends its process on errors of its own."""
    monkeypatch.setattr(embedded, "_JOB", "os:_exit")
    with pytest.raises(CloningAbortedError):
        await engine.clone(Speech(speech()), lambda progress: None)


@pytest.mark.timeout(300)
async def test_from_a_recording_to_a_voice(engine: EmbeddedEngine, stock: FliteEngine) -> None:
    """The real job in its process; how good the voice gets is the quality bench's matter."""
    parts = [prompt("it_IT_m_Carlo", name) for name in ("demo-congrats", "conf-usermenu")]
    recording = np.concatenate([soxr.resample(part, rate, SPEECH_RATE) for part, rate in parts])
    recording = recording[: 10 * SPEECH_RATE]
    heard: list[Progress] = []
    state = await engine.clone(Speech(recording), heard.append)
    assert [progress.done for progress in heard] == sorted(progress.done for progress in heard)
    assert heard[-1].done == 1.0
    assert len({progress.doing for progress in heard}) >= 3
    cloned = samples(await say(await engine.prepare(state), *MEASURED[:6]))
    encoder = SpeakerEncoder.load()
    speaker = encoder.embed(recording, SPEECH_RATE)

    def likeness(sound: npt.NDArray[np.float64]) -> float:
        return similarity(encoder.embed(sound.astype(np.float32), SPEECH_RATE), speaker)

    bases = [
        likeness(samples(await drain(stock.open(name, SPEECH_RATE), *MEASURED[:6])))
        for name in stock.voices
    ]
    assert likeness(cloned) > max(bases) + 0.1
