"""Analysis of rendered speech, whose parameters are known."""

from __future__ import annotations

import numpy as np
import pytest

from ringtrue.voices.cloning.analysis import analyse, speech_mask
from ringtrue.voices.cloning.warp import cosines
from ringtrue.voices.errors import CloningError
from ringtrue.voices.flite import Flite, FliteVoice, Parameters, spoken_tokens
from ringtrue.voices.renderer import scaled
from ringtrue.voices.vocoder import Vocoder, VocoderState


@pytest.fixture(scope="module")
def found() -> Parameters:
    voice = FliteVoice(Flite(), "slt")
    return voice.analyse(spoken_tokens("we were away a year ago when your lawyer rang me up."))


@pytest.fixture(scope="module")
def samples(found: Parameters) -> np.ndarray:
    voiced = Vocoder().render(VocoderState(), found.f0, scaled(found.mcep), found.strengths)
    return voiced


def test_rendered_parameters_are_found_again(found: Parameters, samples: np.ndarray) -> None:
    frames = analyse(samples)
    length = min(len(frames), len(found.f0)) - 1
    # The vocoder's output trails its input by one frame.
    seen, told = frames.f0[1 : length + 1], found.f0[:length]
    both = (seen > 0) & (told > 0)
    assert both.sum() > 0.9 * (told > 0).sum()
    assert np.median(np.abs(seen[both] / told[both] - 1)) < 0.02
    envelope = frames.mcep[1 : length + 1][both] - scaled(found.mcep)[:length][both]
    # Below F0 there is nothing to find, and analysis fills it in.
    bins = np.arange(257) * 16000 / 512 > 200
    decibels = (envelope @ cosines(257)[bins].T).mean(axis=0) * 8.686
    assert np.abs(decibels).max() < 3.0
    assert np.abs(decibels).mean() < 1.0
    periodic = frames.strengths[1 : length + 1][both][:, 0]
    assert np.median(periodic) > 0.7


def test_level_moves_only_the_first_coefficient(samples: np.ndarray) -> None:
    loud, quiet = analyse(samples), analyse(samples * 0.25)
    voiced = loud.voiced & quiet.voiced & speech_mask(loud.mcep)
    change = np.median((loud.mcep - quiet.mcep)[voiced], axis=0)
    assert change[0] == pytest.approx(np.log(4), abs=0.02)
    assert np.abs(change[1:]).max() < 0.02


def test_noise_is_refused() -> None:
    with pytest.raises(CloningError, match="at least 1 s is needed"):
        analyse(np.random.default_rng(0).normal(0, 0.05, 48000))


def test_silence_is_refused() -> None:
    with pytest.raises(CloningError, match="0.00 s of voiced speech"):
        analyse(np.zeros(48000))
