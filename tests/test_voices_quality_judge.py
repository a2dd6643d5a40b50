"""The judge no voice is fitted to: it tells speakers apart, whatever the level and channel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ringtrue.voices.flite import VOICES, Flite, FliteVoice, spoken_tokens
from ringtrue.voices.quality.judge import CEPSTRA, DELTAS, CepstralJudge, features
from ringtrue.voices.renderer import scaled
from ringtrue.voices.vocoder import Vocoder, VocoderState

LEARNED = (
    "Good morning, you have reached the front desk.",
    "The engineer should be with you this afternoon.",
    "Zero one two three four five six seven eight nine.",
    "My brother threw the heavy leather jacket over the bench.",
)
TESTED = ("Which day would suit you best?", "The guarantee covers parts for three years.")

Recording = npt.NDArray[np.float64]


def recordings(name: str, sentences: tuple[str, ...]) -> list[Recording]:
    voice = FliteVoice(Flite(), name)
    vocoder = Vocoder(voice.alpha, postfilter=0.4)
    found = [voice.analyse(spoken_tokens(text)) for text in sentences]
    return [vocoder.render(VocoderState(), p.f0, scaled(p.mcep), p.strengths) for p in found]


@pytest.fixture(scope="module")
def judge() -> CepstralJudge:
    candidates = {name: recordings(name, LEARNED) for name in VOICES}
    background = [one for each in candidates.values() for one in each]
    return CepstralJudge(background, candidates, gaussians=16)


@pytest.mark.parametrize("name", VOICES)
def test_speakers_are_told_apart(judge: CepstralJudge, name: str) -> None:
    for recording in recordings(name, TESTED):
        ratios = judge.ratios(recording)
        assert max(ratios, key=ratios.__getitem__) == name
        assert ratios[name] > 0 > min(ratios.values())


def test_level_and_channel_are_taken_out(judge: CepstralJudge) -> None:
    (recording, _) = recordings("slt", TESTED)
    plain = judge.ratios(recording)["slt"]
    assert judge.ratios(0.01 * recording)["slt"] == pytest.approx(plain, abs=1e-3)
    telephone = np.convolve(recording, [1.0, 0.5])
    assert judge.ratios(telephone)["slt"] == pytest.approx(plain, abs=0.15)


def test_features_are_normalised_and_of_speech_only() -> None:
    (recording, _) = recordings("awb", TESTED)
    rows = features(recording)
    assert rows.shape[1] == CEPSTRA + DELTAS
    assert np.abs(rows.mean(axis=0)).max() < 1e-9
    assert np.abs(rows.std(axis=0) - 1).max() < 1e-3
    padded = np.pad(recording, 16000) + np.random.default_rng(0).normal(
        0, 1e-5, len(recording) + 32000
    )
    assert abs(len(features(padded)) - len(rows)) < 0.1 * len(rows)
    with pytest.raises(ValueError, match="50 ms, got 10 ms"):
        features(recording[:160])
    with pytest.raises(ValueError, match="need background"):
        CepstralJudge([], {"a": [recording]})
