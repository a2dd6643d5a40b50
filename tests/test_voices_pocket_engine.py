"""The pocket engine end to end: a voice made in its own process, spoken in many streams at once."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from pocket_model import make_model

torch = pytest.importorskip("torch", reason="torch is in the extra: pocket")
pytest.importorskip("pocket_tts", reason="pocket-tts is in the extra: pocket")

from ringtrue.streaming.errors import SynthesisError  # noqa: E402
from ringtrue.streaming.ports import SpeechChunk  # noqa: E402
from ringtrue.voices.engine import Progress, Speech  # noqa: E402
from ringtrue.voices.errors import (  # noqa: E402
    CloningError,
    EngineStateError,
    EngineUnavailableError,
)
from ringtrue.voices.pocket.backend import Backend, load  # noqa: E402
from ringtrue.voices.pocket.cloning import make_state, prompt_of  # noqa: E402
from ringtrue.voices.pocket.engine import PocketEngine, PocketVoice  # noqa: E402
from ringtrue.voices.pocket.files import open_directory  # noqa: E402
from ringtrue.voices.pocket.service import AHEAD_SECONDS  # noqa: E402
from ringtrue.voices.pocket.state import MAX_STATE, dump  # noqa: E402
from ringtrue.voices.pocket.state import load as load_state  # noqa: E402
from ringtrue.voices.pocket.stream import MAX_QUEUED, PocketStream  # noqa: E402
from ringtrue.voices.renderer import TARGET_DBFS, active_level  # noqa: E402


def speech(seed: int = 1, seconds: float = 5.0) -> Speech:
    """Bursts of noise with pauses; the random model hears no more in real speech."""
    random = np.random.default_rng(seed)
    samples = random.standard_normal(int(16000 * seconds)) * 0.1
    samples *= np.sin(2 * np.pi * 1.5 * np.arange(len(samples)) / 16000) > -0.5
    return Speech(samples.astype(np.float32))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("pocket") / "small")


@pytest.fixture(scope="module")
def backend(directory: Path) -> Backend:
    return load(open_directory(directory))


@pytest.fixture(scope="module")
def state(backend: Backend) -> bytes:
    return make_state(backend, prompt_of(speech()), lambda _: None)


@pytest.fixture
async def engine(directory: Path) -> AsyncIterator[PocketEngine]:
    engine = PocketEngine(directory, batch=4)
    yield engine
    await engine.close()


@pytest.fixture
async def voice(engine: PocketEngine, state: bytes) -> PocketVoice:
    return await engine.prepare(state)


async def read(stream: PocketStream) -> list[SpeechChunk]:
    return [chunk async for chunk in stream.frames()]


def pcm(chunks: list[SpeechChunk]) -> bytes:
    return b"".join(chunk.pcm for chunk in chunks)


async def test_a_voice_is_made_in_another_process_and_speaks(engine: PocketEngine) -> None:
    told: list[Progress] = []
    state = await engine.clone(speech(), told.append)
    done = [progress.done for progress in told]
    assert done == sorted(done)
    assert done[-1] > 0.5
    stream = (await engine.prepare(state)).open(16000)
    stream.feed("Good morning.")
    stream.finish()
    samples = np.frombuffer(pcm(await read(stream)), "<i2") / 32768
    assert len(samples) > 8000
    assert abs(active_level(samples, 16000) - TARGET_DBFS) < 6


async def test_cancelling_a_cloning_ends_its_process(engine: PocketEngine) -> None:
    begun = asyncio.Event()
    task = asyncio.ensure_future(engine.clone(speech(), lambda _: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("rate", [8000, 16000])
async def test_phrases_come_in_order_with_their_words(voice: PocketVoice, rate: int) -> None:
    phrases = ["Good morning to you.", "...", "This is Example Limited."]
    stream = voice.open(rate)
    for phrase in phrases:
        stream.feed(phrase)
    stream.finish()
    chunks = await read(stream)
    assert sum(chunk.phrase_end for chunk in chunks) == len(phrases)
    position, words, said = 0, [], []
    for chunk in chunks:
        end = position + len(chunk.pcm) // 2
        assert all(mark.end <= end for mark in chunk.words)
        assert len(chunk.pcm) <= 2 * rate // 10
        words += [mark.text for mark in chunk.words]
        position = end
        if chunk.phrase_end:
            said.append(" ".join(words))
            words = []
    assert said == phrases
    assert position > rate


async def test_streams_at_once_sound_as_each_alone(engine: PocketEngine, state: bytes) -> None:
    voice = await engine.prepare(state)
    texts = [
        f"Caller number {word}, hello there."
        for word in ["one", "two", "three", "four", "five", "six"]
    ]

    async def say(text: str) -> np.ndarray:
        stream = voice.open(8000)
        for phrase in (text, "Thank you."):
            stream.feed(phrase)
        stream.finish()
        return np.frombuffer(pcm(await read(stream)), "<i2").astype(float)

    alone = [await say(text) for text in texts]
    together = await asyncio.gather(*(say(text) for text in texts))
    for one, other in zip(alone, together, strict=True):
        assert len(one) == len(other)
        assert np.abs(one).max() > 300
        np.testing.assert_allclose(one, other, atol=0.01 * np.abs(one).max())


async def test_a_stream_nobody_reads_stops_ahead_and_holds_up_nobody(voice: PocketVoice) -> None:
    slow, quick = voice.open(8000), voice.open(8000)
    for _ in range(8):
        slow.feed("This sentence is long enough to fill the buffer.")
    slow.finish()
    quick.feed("Hello.")
    quick.finish()
    assert pcm(await read(quick))
    before = -1
    while before != len(slow._chunks):
        before = len(slow._chunks)
        await asyncio.sleep(0.4)
    held = sum(len(chunk.pcm) // 2 for chunk in slow._chunks if isinstance(chunk, SpeechChunk))
    assert AHEAD_SECONDS * 8000 < held < (AHEAD_SECONDS + 0.2) * 8000
    chunks = await read(slow)
    assert sum(chunk.phrase_end for chunk in chunks) == 8


async def test_cut_ends_at_once_and_frees_the_model(voice: PocketVoice) -> None:
    stream = voice.open(8000)
    for _ in range(50):
        stream.feed("This is a very long story.")
    heard = []
    async for chunk in stream.frames():
        heard.append(chunk)
        if len(heard) == 3:
            stream.cut()
            stream.feed("Nothing of this.")
    assert len(heard) == 3
    stream.cut()
    again = voice.open(8000)
    again.feed("Hello.")
    again.finish()
    assert pcm(await read(again))


async def test_cut_wakes_a_reader_that_waits(voice: PocketVoice) -> None:
    stream = voice.open(8000)
    task = asyncio.ensure_future(read(stream))
    await asyncio.sleep(0)
    stream.cut()
    assert await task == []


async def test_a_stream_is_read_once_and_bounded(voice: PocketVoice) -> None:
    stream = voice.open(8000)
    stream.feed("Hello.")
    stream.feed("x" * MAX_QUEUED)
    with pytest.raises(SynthesisError, match=f"more than {MAX_QUEUED} characters"):
        await read(stream)
    with pytest.raises(SynthesisError, match="only once"):
        await read(stream)
    with pytest.raises(ValueError, match="8000, 16000 Hz, got 44100"):
        voice.open(44100)


async def test_an_empty_utterance_ends(voice: PocketVoice) -> None:
    stream = voice.open(8000)
    stream.finish()
    assert await read(stream) == []


async def test_closing_ends_open_streams(directory: Path, state: bytes) -> None:
    engine = PocketEngine(directory)
    voice = await engine.prepare(state)
    stream = voice.open(8000)
    stream.feed("Hello there, this goes on.")
    task = asyncio.ensure_future(read(stream))
    await asyncio.sleep(0)
    await engine.close()
    await task
    with pytest.raises(SynthesisError, match="closed"):
        voice.open(8000)


async def test_a_failing_model_ends_the_utterance_with_an_error_and_serves_the_next(
    engine: PocketEngine, voice: PocketVoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.warm()
    generator = engine._thread._generator
    assert generator is not None
    monkeypatch.setattr(generator, "_draw", None)
    stream = voice.open(8000)
    stream.feed("Hello.")
    with pytest.raises(SynthesisError, match="pocket engine failed: TypeError"):
        await read(stream)
    monkeypatch.undo()
    again = voice.open(8000)
    again.feed("Hello.")
    again.finish()
    assert pcm(await read(again))


async def test_warming_is_done_once_and_names_the_model(
    engine: PocketEngine, directory: Path
) -> None:
    assert engine.id == "pocket-1"
    await asyncio.gather(engine.warm(), engine.warm())
    assert engine.name == f"pocket-tts/small/{open_directory(directory).digest:.12}"


async def test_a_missing_model_is_said(tmp_path: Path) -> None:
    engine = PocketEngine(tmp_path / "nowhere")
    with pytest.raises(EngineUnavailableError, match="nowhere is no directory"):
        await engine.warm()
    with pytest.raises(EngineUnavailableError, match="nowhere is no directory"):
        await engine.clone(speech(), lambda _: None)
    await engine.close()


def test_weights_that_don_t_fit_are_said(directory: Path, tmp_path: Path) -> None:
    for name in ("model.yaml", "tokenizer.json"):
        (tmp_path / name).write_bytes((directory / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(EngineUnavailableError, match="can't be loaded as a pocket-tts model"):
        load(open_directory(tmp_path))
    (tmp_path / "model.yaml").write_text("flow_lm: 3")
    with pytest.raises(EngineUnavailableError, match="no pocket-tts configuration"):
        load(open_directory(tmp_path))


def test_no_address_of_the_configuration_is_followed(directory: Path) -> None:
    from ringtrue.voices.pocket.backend import local_config

    assert "hf://" in (directory / "model.yaml").read_text()
    assert "hf://" not in json.dumps(local_config(open_directory(directory)))


def test_a_state_is_read_back_and_small(backend: Backend, state: bytes) -> None:
    loaded = load_state(backend, state)
    again = load_state(backend, dump(backend, loaded.prompt, loaded.gain))
    assert again.gain == loaded.gain
    for name, entries in loaded.prompt.items():
        assert torch.equal(again.prompt[name]["cache"], entries["cache"])
        assert torch.equal(again.prompt[name]["offset"], entries["offset"])
    assert len(state) < 2_000_000


def test_a_state_of_another_model_is_refused(
    state: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = load(open_directory(make_model(tmp_path_factory.mktemp("other"), seed=2)))
    with pytest.raises(EngineStateError, match="made with another pocket-tts model"):
        load_state(other, state)


def test_bytes_that_are_no_state_are_refused(backend: Backend, state: bytes) -> None:
    header = int.from_bytes(state[:8], "little")
    head = json.loads(state[8 : 8 + header])

    def changed(**metadata: str) -> bytes:
        text = json.dumps({**head, "__metadata__": {**head["__metadata__"], **metadata}}).encode()
        return struct.pack("<Q", len(text)) + text + state[8 + header :]

    broken = np.frombuffer(state, np.uint8).copy()
    broken[-64:] = 0xFF  # not-a-numbers
    candidates = [
        b"", b"x", b"\xff" * 100, state[:-1], state[: header // 2], state[: header + 8],
        struct.pack("<Q", 1 << 60) + state[8:], changed(gain="nan"), changed(gain="0"),
        changed(gain="x"), changed(format="other"), broken.tobytes(), b"\0" * (MAX_STATE + 1),
        b"\x02\0\0\0\0\0\0\0[]", b"\x04\0\0\0\0\0\0\0null",
    ]  # fmt: skip
    for data in candidates:
        with pytest.raises(EngineStateError):
            load_state(backend, data)


def test_the_prompt_is_the_part_with_most_speech() -> None:
    silent, loud = np.zeros(16000 * 20, np.float32), speech(seconds=12).samples
    prompt = prompt_of(Speech(np.concatenate([silent, loud])))
    assert 10.5 * 16000 <= len(prompt) <= 12 * 16000
    assert np.sqrt(np.mean(prompt**2)) > 0.9 * np.sqrt(np.mean(loud**2))


@pytest.mark.parametrize(
    ("samples", "complaint"),
    [
        (np.zeros(16000 * 2, np.float32), "2.0 s; the pocket engine needs 3 s"),
        (np.zeros(16000 * 4, np.float32), "silent"),
        (np.full(16000 * 4, np.nan, np.float32), "finite"),
    ],
)
def test_speech_that_won_t_do_is_refused(samples: np.ndarray, complaint: str) -> None:
    with pytest.raises(CloningError, match=complaint):
        prompt_of(Speech(samples))
