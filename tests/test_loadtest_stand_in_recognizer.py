"""The recognizer that is none: it knows the prompts by their sound, through codecs and noise."""

from __future__ import annotations

import numpy as np
import pytest

from ringtrue.loadtest.prompts import load_prompts, voices
from ringtrue.loadtest.stand_ins.recognizer import PromptRecognizer, recognize, shape_of
from ringtrue.telephony.codecs.g711 import UlawCodec

CODEC = UlawCodec()


def through_a_telephone(pcm: bytes, *, before: float = 0.2, noise: float = 60) -> bytes:
    rng = np.random.default_rng(1)
    quiet = np.zeros(round(before * 8000))
    samples = np.concatenate([quiet, np.frombuffer(pcm, "<i2"), np.zeros(1600)])
    samples = np.clip(samples + rng.normal(0, noise, len(samples)), -32768, 32767)
    return CODEC.decode(CODEC.encode(samples.astype("<i2").tobytes()))


@pytest.mark.parametrize("voice", voices())
def test_every_prompt_is_told_from_every_other(voice: str) -> None:
    for prompt in load_prompts(voice).values():
        heard = recognize(shape_of(through_a_telephone(prompt.pcm), 8000))
        assert heard.text == prompt.text
        assert heard.confidence > 0.8


def test_what_is_no_prompt_is_not_recognized() -> None:
    noise = np.random.default_rng(2).normal(0, 3000, 16000).astype("<i2").tobytes()
    assert recognize(shape_of(noise, 8000)).text == ""
    assert recognize(shape_of(b"", 8000)).text == ""


async def test_partial_texts_grow_into_the_final_one() -> None:
    prompt = load_prompts("rms")["order_number"]
    for rate in (8000, 16000):
        stream = PromptRecognizer(0.0).open(rate)
        await stream.start()
        pcm = prompt.at(rate).pcm
        partials = [await stream.accept(pcm[i : i + 1024]) for i in range(0, len(pcm), 1024)]
        said = [text for text in partials if text]
        assert len(said) >= 2
        assert all(prompt.text.startswith(text) for text in said)
        assert said == sorted(said, key=len)
        assert (await stream.finish()).text == prompt.text
        await stream.close()
