"""The model's bytes, its bounds, and that frames are transformed one by one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ringtrue.voices.cloning.hush import KNEE, START, loud_level
from ringtrue.voices.cloning.model import CloneModel, PitchMap
from ringtrue.voices.cloning.phones import CLASSES
from ringtrue.voices.errors import EngineStateError
from ringtrue.voices.flite import Flite, FliteVoice, Parameters, spoken_tokens


def model(**changes: object) -> CloneModel:
    rng = np.random.default_rng(1)
    plain = CloneModel(
        base="slt",
        pitch=PitchMap(np.log(170.0), np.log(120.0), 1.5),
        matrices=np.stack([np.eye(25), np.eye(25)]) + rng.normal(0, 0.02, (2, 25, 25)),
        offsets=rng.normal(0, 0.05, (2, CLASSES, 25)),
        strengths=np.stack([np.ones(5), np.full(5, 0.5)]),
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def identity() -> CloneModel:
    return model(
        pitch=PitchMap(5.0, 5.0, 1.0),
        matrices=np.stack([np.eye(25), np.eye(25)]),
        offsets=np.zeros((2, CLASSES, 25)),
        strengths=np.stack([np.ones(5), np.zeros(5)]),
    )


@pytest.fixture(scope="module")
def voice() -> FliteVoice:
    return FliteVoice(Flite(), "slt")


@pytest.fixture(scope="module")
def found(voice: FliteVoice) -> Parameters:
    return voice.analyse(spoken_tokens("please hold the line, it takes a moment."))


def test_an_eased_pitch_map_goes_its_shares_of_the_way_in_log() -> None:
    whole = PitchMap(np.log(100.0), np.log(200.0), 1.5)
    part = whole.eased(0.5, 0.2)
    half = pytest.approx(np.log(2.0**0.5 * 100))
    assert part == PitchMap(whole.source, half, pytest.approx(1.1))
    assert whole.eased(1.0, 1.0) == whole
    assert whole.eased(0.0, 0.0)(np.array([0.0, 90.0])) == pytest.approx([0.0, 90.0])


def test_bytes_give_the_same_voice_to_the_bit(found: Parameters) -> None:
    kept = CloneModel.from_bytes(model().to_bytes())
    again = CloneModel.from_bytes(kept.to_bytes())
    assert kept.to_bytes() == again.to_bytes() == model().to_bytes()
    first, second = kept.transform(found), again.transform(found)
    for name in ("f0", "mcep", "strengths"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("cut", [0, 3, 7, 15, 16, 100, -1])
def test_shortened_bytes_are_refused(cut: int) -> None:
    with pytest.raises(EngineStateError):
        CloneModel.from_bytes(model().to_bytes()[:cut])


def test_longer_bytes_are_refused() -> None:
    with pytest.raises(EngineStateError, match="bytes"):
        CloneModel.from_bytes(model().to_bytes() + b"\0")


@pytest.mark.parametrize(("version", "scalars"), [(1, 6), (2, 7), (3, 8)])
def test_a_voice_of_an_earlier_version_opens_and_sounds_as_it_did(
    version: int, scalars: int
) -> None:
    """What the version didn't know is as if it weren't there."""
    made = model(neural=version > 1, liveliness=0.5 if version > 2 else 0.0).to_bytes()
    numbers, rest = made[16 : 16 + 4 * scalars], made[16 + 10 * 4 :]
    kept = CloneModel.from_bytes(made[:7] + bytes([version]) + made[8:16] + numbers + rest)
    assert kept.neural == (version > 1)
    assert kept.liveliness == (0.5 if version > 2 else 0.0)
    assert kept.hush == 0.0
    assert kept.to_bytes() == made


def test_the_hush_is_kept_and_lowers_only_what_is_quiet(found: Parameters) -> None:
    plain = identity().transform(found).mcep
    loud = loud_level(plain)
    kept = CloneModel.from_bytes(dataclasses.replace(identity(), hush=2.0, loud=loud).to_bytes())
    lowered = plain - kept.transform(found).mcep
    quiet = plain[:, 0] < loud - START - KNEE
    assert 0.05 < quiet.mean() < 0.7
    np.testing.assert_allclose(lowered[quiet, 0], 2.0, atol=1e-5)
    np.testing.assert_allclose(lowered[plain[:, 0] > loud - START + 1e-3], 0.0, atol=1e-5)
    np.testing.assert_allclose(lowered[:, 1:], 0.0, atol=1e-5)


def test_the_vocoder_and_the_liveliness_are_kept() -> None:
    lively = CloneModel.from_bytes(model(neural=True, liveliness=0.5).to_bytes())
    assert (lively.neural, lively.liveliness) == (True, 0.5)
    plain = CloneModel.from_bytes(model().to_bytes())
    assert (plain.neural, plain.liveliness) == (False, 0.0)


def test_another_version_is_refused() -> None:
    data = bytearray(model().to_bytes())
    data[7] += 1
    with pytest.raises(EngineStateError, match="version 5; known are 1, 2, 3, 4"):
        CloneModel.from_bytes(bytes(data))


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_give_a_bounded_model_or_a_refusal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(model().to_bytes())
    for at in rng.choice(len(data), 40):
        data[at] = rng.integers(256)
    try:
        kept = CloneModel.from_bytes(bytes(data))
    except EngineStateError:
        return
    assert np.isfinite(kept.matrices).all()


def test_numbers_no_fit_gives_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"matrices must be finite and within"):
        model(matrices=np.full((2, 25, 25), np.nan))
    with pytest.raises(ValueError, match=r"offsets have shape \(2, 3\)"):
        model(offsets=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"rate is 3; allowed: 0.7 to 1.4"):
        model(rate=3.0)
    with pytest.raises(ValueError, match=r"base voice is 'kal'; allowed: slt, awb, rms"):
        model(base="kal")


def test_another_base_voice_is_refused(voice: FliteVoice) -> None:
    with pytest.raises(ValueError, match="made from voice rms, got slt"):
        model(base="rms").source(voice)


def test_the_identity_leaves_parameters_alone(found: Parameters) -> None:
    made = identity().transform(found)
    np.testing.assert_allclose(made.f0, found.f0, rtol=1e-6)
    np.testing.assert_allclose(made.mcep, found.mcep, atol=1e-6)
    np.testing.assert_allclose(made.strengths, np.clip(found.strengths, 1e-3, 0.999), atol=1e-5)


def test_a_lively_clone_moves_more(found: Parameters) -> None:
    """Frame by frame further from its running mean, the mean of the phrase where it was."""
    plain, lively = (
        dataclasses.replace(identity(), liveliness=gain).transform(found).mcep
        for gain in (0.0, 0.5)
    )
    still = slice(20, -20)
    steps = [np.abs(np.diff(made[still], axis=0)).mean() for made in (plain, lively)]
    assert 1.05 < steps[1] / steps[0] < 1.5
    np.testing.assert_allclose(lively.mean(axis=0), plain.mean(axis=0), atol=0.05)


def test_a_frame_is_the_same_in_any_company(found: Parameters) -> None:
    made = model().transform(found)
    cut = found.phones[4][1]
    # Phone classes blend over two frames to either side of a boundary.
    part = dataclasses.replace(
        found, f0=found.f0[:cut], mcep=found.mcep[:cut], strengths=found.strengths[:cut]
    )
    alone = model().transform(part)
    np.testing.assert_array_equal(alone.mcep[: cut - 2], made.mcep[: cut - 2])
    np.testing.assert_array_equal(alone.f0, made.f0[:cut])


def test_pitch_is_mapped_in_the_log_domain_and_bounded() -> None:
    pitch = PitchMap(np.log(170.0), np.log(120.0), 2.0)
    np.testing.assert_allclose(pitch(np.array([0.0, 170.0, 340.0])), [0.0, 120.0, 480.0])
    assert pitch(np.array([600.0]))[0] == 700.0


def test_the_rate_changes_durations_alone(found: Parameters) -> None:
    made = model(rate=1.25).transform(found)
    assert len(made.f0) == round(len(found.f0) / 1.25)
    assert made.phones[-1][1] <= len(made.f0) + 1
    assert [name for name, _ in made.phones] == [name for name, _ in found.phones]


def test_a_clone_is_rendered_like_a_stock_voice(voice: FliteVoice) -> None:
    source = model().source(voice)
    tokens = spoken_tokens("good morning.")
    assert source.alpha == voice.alpha
    assert len(source.analyse(tokens).f0) == len(voice.analyse(tokens).f0)
