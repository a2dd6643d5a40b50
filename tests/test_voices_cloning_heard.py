"""What is kept of the base voices as heard: found by what was rendered, and still true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ringtrue.voices.cloning import bases, heard
from ringtrue.voices.cloning.analysis import Frames
from ringtrue.voices.cloning.bases import MEASURED, embedding_of, material, measure, rendered
from ringtrue.voices.cloning.fit import LIVELINESS
from ringtrue.voices.cloning.script import LEARNING
from ringtrue.voices.encoder import SpeakerEncoder, similarity
from ringtrue.voices.flite import VOICES, Flite, FliteVoice, spoken_tokens


def given(name: str) -> Frames:
    voice = FliteVoice(Flite(), name)
    phrases = [voice.analyse(spoken_tokens(text)) for text in LEARNING[:MEASURED]]
    return rendered(phrases, LIVELINESS)


@pytest.mark.parametrize("name", VOICES)
def test_what_is_kept_is_what_analysis_finds(name: str) -> None:
    """Where this fails, ``python scripts/hear_bases.py`` writes it anew."""
    frames = given(name)
    known = heard.kept(heard.digest(frames, neural=True))
    assert known is not None
    kept = known.frames
    found = measure(frames, neural=True)
    assert len(kept) == len(found) == len(frames) - 1
    assert ((kept.f0 > 0) == (found.f0 > 0)).mean() > 0.99
    both = (kept.f0 > 0) & (found.f0 > 0)
    np.testing.assert_allclose(np.median(kept.f0[both]), np.median(found.f0[both]), rtol=1e-3)
    assert np.abs(kept.mcep - found.mcep).mean() < 0.01
    assert np.abs(kept.strengths - found.strengths).mean() < 0.01
    embedding = embedding_of(FliteVoice(Flite(), name), SpeakerEncoder.load())
    assert similarity(known.embedding, embedding) > 0.999


def test_a_fit_analyses_no_base_voice_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(*_: object, **__: object) -> Frames:
        raise AssertionError("analysed anew")

    monkeypatch.setattr(bases, "measure", measured)
    found = material(FliteVoice(Flite(), "awb"), LEARNING, neural=True, liveliness=LIVELINESS)
    assert len(found.measured) == len(found.given)
    assert found.known_embedding is not None


def test_another_voice_another_vocoder_or_other_words_are_not_taken_for_it() -> None:
    frames = given("slt")
    known = heard.digest(frames, neural=True)
    others = [
        heard.digest(frames, neural=False),
        heard.digest(replace(frames, f0=frames.f0 * 1.01), neural=True),
        heard.digest(replace(frames, mcep=frames.mcep + 0.001), neural=True),
        heard.digest(frames.where(np.arange(len(frames)) > 0), neural=True),
    ]
    assert len({known, *others}) == 5
    assert all(heard.kept(other) is None for other in others)


def test_it_goes_through_the_archive_with_the_precision_a_fit_needs() -> None:
    frames = given("slt")
    embedding = np.random.default_rng(1).normal(size=256).astype(np.float32)
    packed = heard.packed({"one": heard.Heard(frames, embedding)})
    assert len(packed) < 400_000
    known = heard.unpacked(packed)["one"]
    np.testing.assert_array_equal(known.embedding, embedding)
    back = known.frames
    np.testing.assert_allclose(back.f0, frames.f0, rtol=1e-6)
    np.testing.assert_allclose(back.mcep, frames.mcep, atol=5e-3)
    np.testing.assert_allclose(back.strengths, frames.strengths, atol=1e-3)
