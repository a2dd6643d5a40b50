"""The phone classifier: what it tells apart, and that its slope is that of its cross entropy."""

from __future__ import annotations

import numpy as np
import pytest

from ringtrue.voices.cloning.clarity import HIGHEST, LOWEST, PhoneClassifier
from ringtrue.voices.cloning.phones import PAUSE, PHONES, phone_numbers
from ringtrue.voices.cloning.script import JUDGING, LEARNING
from ringtrue.voices.flite import Flite, FliteVoice, Parameters, spoken_tokens


@pytest.fixture(scope="module")
def voices() -> list[list[Parameters]]:
    flite = Flite()
    return [
        [FliteVoice(flite, name).analyse(spoken_tokens(text)) for text in LEARNING[:10]]
        for name in ("slt", "rms")
    ]


@pytest.fixture(scope="module")
def classifier(voices: list[list[Parameters]]) -> PhoneClassifier:
    return PhoneClassifier(voices)


def frames(phrases: list[Parameters]) -> tuple[np.ndarray, np.ndarray]:
    mcep = np.concatenate([found.mcep for found in phrases])
    phones = np.concatenate([phone_numbers(found.phones, len(found.f0)) for found in phrases])
    return mcep[phones != PAUSE], phones[phones != PAUSE]


@pytest.fixture(scope="module")
def unheard() -> tuple[np.ndarray, np.ndarray]:
    """A voice and sentences it has not learned from."""
    voice = FliteVoice(Flite(), "awb")
    return frames([voice.analyse(spoken_tokens(text)) for text in JUDGING[:6]])


def test_it_tells_the_phones_of_a_voice_it_never_heard(
    classifier: PhoneClassifier, unheard: tuple[np.ndarray, np.ndarray]
) -> None:
    mcep, phones = unheard
    share = classifier.posteriors(mcep)
    assert share.shape == (len(mcep), len(PHONES))
    np.testing.assert_allclose(share.sum(axis=1), 1.0, atol=1e-5)
    most = np.bincount(phones).max() / len(phones)
    assert (share.argmax(axis=1) == phones).mean() > 3 * most


def test_a_channel_and_a_level_change_nothing(
    classifier: PhoneClassifier, unheard: tuple[np.ndarray, np.ndarray]
) -> None:
    mcep, _ = unheard
    moved = mcep + np.linspace(1.0, -0.5, 25, dtype=np.float32)
    np.testing.assert_allclose(classifier.posteriors(moved), classifier.posteriors(mcep), atol=1e-3)


def test_the_slope_is_that_of_the_cross_entropy(
    classifier: PhoneClassifier, unheard: tuple[np.ndarray, np.ndarray]
) -> None:
    mcep, phones = (part[:300] for part in unheard)
    along = np.random.default_rng(0).normal(0, 0.02, mcep.shape).astype(np.float32)

    def loss(at: np.ndarray) -> float:
        share = classifier.posteriors(at)[np.arange(len(phones)), phones].astype(np.float64)
        known = classifier.known[phones]
        return -float(np.where(known, np.log(np.maximum(share, 1e-30)), 0.0).mean())

    slope = classifier.slope(mcep, phones)
    numeric = loss(mcep + 0.5 * along) - loss(mcep - 0.5 * along)
    assert float((slope * along).sum()) == pytest.approx(numeric, rel=0.02)
    outside = np.ones(25, bool)
    outside[LOWEST : HIGHEST + 1] = False
    assert not slope[:, outside].any()


def test_pauses_alone_are_refused(voices: list[list[Parameters]]) -> None:
    quiet = voices[0][0]
    nothing = Parameters(
        quiet.f0, quiet.mcep, quiet.strengths, (("pau", len(quiet.f0)),), quiet.token_ends
    )
    with pytest.raises(ValueError, match="no phone is said"):
        PhoneClassifier([[nothing]])
