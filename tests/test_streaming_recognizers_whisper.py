"""Whisper: a tiny model with random weights, converted as a real one is; words are noise, but
loading, streaming, windows, bounds and failures are real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import ctranslate2
import numpy as np
import pytest
from faster_whisper.tokenizer import _LANGUAGE_CODES
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from ringtrue.streaming.errors import RecognizerError
from ringtrue.streaming.recognizers.agreement import TimedWord
from ringtrue.streaming.recognizers.whisper import (
    MODEL_RATE,
    WhisperPolicy,
    WhisperRecognizer,
    WhisperStream,
)

POLICY = WhisperPolicy(
    step=0.5, window=3.0, max_seconds=9.0, no_speech_threshold=None, log_prob_threshold=None,
    threads=1,
)  # fmt: skip
TEXT_IDS = 50257
"""Text tokens of the multilingual Whisper, before its specials."""


def _tokenizer() -> Tokenizer:
    """A byte-level tokenizer with Whisper's layout: 51,865 ids, the specials where it has them."""
    vocabulary = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for i in range(len(vocabulary), TEXT_IDS):
        vocabulary[f"Ġw{i}"] = i
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ["endoftext", "startoftranscript", *_LANGUAGE_CODES[:99], "translate", "transcribe",
             "startoflm", "startofprev", "nospeech", "notimestamps"]  # fmt: skip
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in names])
    tokenizer.add_tokens([AddedToken(f"<|{i * 0.02:.2f}|>") for i in range(1501)])
    assert tokenizer.get_vocab_size() == 51865
    return tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's directory."""
    torch = pytest.importorskip("torch", reason="torch is in the extra: models")
    pytest.importorskip("transformers", reason="transformers is in the extra: models")
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(1)
    torch.set_num_threads(1)
    source = tmp_path_factory.mktemp("whisper") / "transformers"
    config = WhisperConfig(
        vocab_size=51865, num_mel_bins=80, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, decoder_start_token_id=50258, eos_token_id=50257, bos_token_id=50257,
        pad_token_id=50257,
    )  # fmt: skip
    WhisperForConditionalGeneration(config).save_pretrained(source)
    _tokenizer().save(str(source / "tokenizer.json"))
    (source / "preprocessor_config.json").write_text("{}")
    converter = ctranslate2.converters.TransformersConverter(
        str(source), copy_files=["tokenizer.json"]
    )
    return Path(converter.convert(str(source.parent / "converted"), quantization="int8"))


@pytest.fixture
async def recognizer(model: Path) -> AsyncIterator[WhisperRecognizer]:
    recognizer = WhisperRecognizer(model, device="cpu", compute_type="int8", policy=POLICY)
    await recognizer.load()
    yield recognizer
    await recognizer.close()


def noise(seconds: float, rate: int = 8000) -> bytes:
    random = np.random.default_rng(5)
    return random.normal(0, 2000, int(seconds * rate)).astype(np.int16).tobytes()


async def settle(stream: WhisperStream) -> None:
    """Let a partial decode under way end."""
    if stream._steps:
        await asyncio.wait(set(stream._steps))


async def test_partials_come_before_the_final_text(recognizer: WhisperRecognizer) -> None:
    stream = recognizer.open(8000)
    await stream.start()
    partials = []
    pcm = noise(2.0)
    for start in range(0, len(pcm), 640):
        text = await stream.accept(pcm[start : start + 640])
        if text:
            partials.append(text)
        await settle(stream)
    assert partials
    final = await stream.finish()
    assert final.text
    assert 0.0 < final.confidence < 1.0
    await stream.close()


async def test_held_audio_stays_within_the_window(recognizer: WhisperRecognizer) -> None:
    stream = recognizer.open(16000)
    await stream.start()
    pcm = noise(8.0, 16000)
    for start in range(0, len(pcm), 1280):
        await stream.accept(pcm[start : start + 1280])
        await settle(stream)
        utterance = stream._utterance
        assert utterance is not None
        held = len(utterance.held) / 2 / MODEL_RATE
        assert held <= POLICY.window + POLICY.step + 0.05
    assert utterance.offset > 0
    assert (await stream.finish()).text


async def test_streams_side_by_side_and_again(recognizer: WhisperRecognizer) -> None:
    async def call() -> list[str]:
        stream, found = recognizer.open(8000), []
        for _ in range(2):
            await stream.start()
            await stream.accept(noise(0.4))  # shorter than a step: one decode, of everything
            found.append((await stream.finish()).text)
        return found

    texts = await asyncio.gather(*(call() for _ in range(4)))
    assert len({text for found in texts for text in found}) == 1


async def test_cancelled_utterance_leaves_nothing_in_the_next(
    recognizer: WhisperRecognizer,
) -> None:
    stream = recognizer.open(8000)
    await stream.start()
    await stream.accept(noise(1.0))
    await stream.cancel()
    await stream.start()
    assert (await stream.finish()).text == ""
    await stream.close()


async def test_length_is_bounded(recognizer: WhisperRecognizer) -> None:
    stream = recognizer.open(8000)
    await stream.start()
    for _ in range(8):
        await stream.accept(noise(1.0))
        await settle(stream)
    with pytest.raises(RecognizerError, match="longer than 9 s"):
        await stream.accept(noise(1.1))
    with pytest.raises(RecognizerError, match="start one first"):
        await stream.finish()


async def test_a_failing_decode_fails_the_utterance_only(
    recognizer: WhisperRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> list[TimedWord]:
        raise RuntimeError("out of memory\nand more")

    stream = recognizer.open(8000)
    with monkeypatch.context() as patch:
        patch.setattr(recognizer, "_decode", broken)
        await stream.start()
        await stream.accept(noise(0.6))
        await settle(stream)
        with pytest.raises(RecognizerError, match="Whisper failed: out of memory$"):
            await stream.accept(noise(0.1))
    await stream.start()
    await stream.accept(noise(0.4))
    assert (await stream.finish()).text


async def test_unreachable_hub_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    # Nothing listens there, as on a machine without a way out.
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    recognizer = WhisperRecognizer("acme/whisper-nowhere", cache=tmp_path)
    with pytest.raises(RecognizerError) as caught:
        await recognizer.load()
    for part in ("acme/whisper-nowhere", "directory", "HF_HUB_OFFLINE=1", "hub"):
        assert part in str(caught.value)
    await recognizer.close()


async def test_unknown_size_is_named() -> None:
    recognizer = WhisperRecognizer("gigantic")
    with pytest.raises(RecognizerError, match="'gigantic'"):
        await recognizer.load()
    await recognizer.close()


@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json"])
async def test_incomplete_directory_is_named(name: str, model: Path, tmp_path: Path) -> None:
    for file in model.iterdir():
        if file.name != name:
            (tmp_path / file.name).symlink_to(file)
    recognizer = WhisperRecognizer(tmp_path)
    with pytest.raises(RecognizerError, match=f"lacks {name}"):
        await recognizer.load()
    await recognizer.close()


async def test_missing_directory_is_no_hub_name() -> None:
    recognizer = WhisperRecognizer("/nonexistent/model")
    with pytest.raises(RecognizerError, match="directory '/nonexistent/model' lacks"):
        await recognizer.load()
    await recognizer.close()


async def test_not_loaded_is_said(model: Path) -> None:
    recognizer = WhisperRecognizer(model)
    stream = recognizer.open(8000)
    await stream.start()
    await stream.accept(noise(0.1))
    with pytest.raises(RecognizerError, match="not loaded"):
        await stream.finish()
    with pytest.raises(ValueError, match="got 44100"):
        recognizer.open(44100)
    await recognizer.close()
