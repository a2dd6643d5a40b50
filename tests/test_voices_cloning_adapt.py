"""The statistical fit: a known transform of a voice is found again."""

from __future__ import annotations

import numpy as np
import pytest

from ringtrue.voices.cloning.adapt import adapted, eased, pitch_map, spectral_map
from ringtrue.voices.cloning.analysis import Frames
from ringtrue.voices.cloning.bases import BaseMaterial, material
from ringtrue.voices.cloning.script import JUDGING, LEARNING
from ringtrue.voices.flite import Flite, FliteVoice


@pytest.fixture(scope="module")
def base() -> BaseMaterial:
    return material(FliteVoice(Flite(), "slt"), LEARNING[:6])


def test_a_tilt_of_the_spectrum_is_found_though_other_words_are_said(base: BaseMaterial) -> None:
    tilt = np.zeros(25)
    tilt[1:4] = 0.4, -0.3, 0.2
    source = base.measured.speech().mcep
    other = material(base.voice, JUDGING[:6]).measured.speech().mcep
    found = spectral_map(source, other + tilt, np.random.default_rng(0))
    moved = (found(source) - source).mean(axis=0)
    np.testing.assert_allclose(moved[1:4], tilt[1:4], atol=0.12)
    assert np.abs(moved[4:]).max() < 0.12


def test_the_base_voice_itself_needs_next_to_no_change(base: BaseMaterial) -> None:
    model = adapted(base, base.measured, np.random.default_rng(0))
    found = base.phrases[0]
    made = model.transform(found)
    loud = found.mcep[:, 0] > np.percentile(found.mcep[:, 0], 50)
    assert np.abs((made.mcep - found.mcep)[loud].mean(axis=0)).max() < 0.1
    both = (found.f0 > 0) & (made.f0 > 0)
    assert np.median(np.abs(np.log(made.f0[both] / found.f0[both]))) < 0.03


def test_an_eased_map_moves_the_spectrum_by_its_share_and_the_pitch_wholly(
    base: BaseMaterial,
) -> None:
    other = base.measured.mcep + np.linspace(0.5, -0.5, 25)
    target = Frames(base.measured.f0 * 1.2, other, base.measured.strengths)
    model = adapted(base, target, np.random.default_rng(0))
    found = base.phrases[0]
    none, part, whole = (eased(model, share).transform(found) for share in (0.0, 0.8, 1.0))
    np.testing.assert_allclose(none.mcep, found.mcep, atol=1e-5)
    np.testing.assert_allclose(part.mcep - found.mcep, 0.8 * (whole.mcep - found.mcep), atol=1e-4)
    assert np.abs(whole.mcep - found.mcep).mean() > 0.1
    np.testing.assert_array_equal(part.f0, whole.f0)


def test_pitch_goes_from_median_to_median() -> None:
    rng = np.random.default_rng(1)
    source = np.exp(rng.normal(np.log(170), 0.05, 4000))
    target = np.exp(rng.normal(np.log(110), 0.10, 4000))
    source[::3] = target[::4] = 0.0
    found = pitch_map(source, target)
    assert np.exp(found.source) == pytest.approx(170, rel=0.01)
    assert np.exp(found.target) == pytest.approx(110, rel=0.01)
    assert found.spread == pytest.approx(2.0, rel=0.1)


def test_a_monotone_speaker_and_few_frames_are_no_error(base: BaseMaterial) -> None:
    few = base.measured.speech().where(np.arange(len(base.measured.speech())) < 400)
    flat = Frames(np.where(few.voiced, 150.0, 0.0), few.mcep, few.strengths)
    model = adapted(base, flat, np.random.default_rng(0))
    assert model.pitch.spread == 0.8
    assert np.isfinite(model.matrices).all()


def test_a_voice_without_f0_marks_is_devoiced(base: BaseMaterial) -> None:
    assert not base.always_voiced
    rms = material(FliteVoice(Flite(), "rms"), LEARNING[:3])
    assert rms.always_voiced
    model = adapted(rms, base.measured, np.random.default_rng(0))
    assert model.devoice
    assert (model.transform(rms.phrases[0]).f0 == 0).sum() > (rms.phrases[0].f0 == 0).sum()
