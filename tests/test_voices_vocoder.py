"""The vocoder: chunking changes nothing, and what is asked for is heard."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtrue.voices.vocoder import DELAY, HOP, RATE, TAIL, Vocoder, VocoderState

Array = npt.NDArray[np.float64]


def frames(count: int, seed: int = 3) -> tuple[Array, Array, Array]:
    """Random but speech-like parameters: pitch on and off, smooth cepstra."""
    rng = np.random.default_rng(seed)
    f0 = 110 + 60 * np.sin(np.arange(count) / 17) + rng.normal(size=count)
    f0[np.sin(np.arange(count) / 9) > 0.4] = 0.0
    walk = np.cumsum(rng.normal(size=(count, 25)) * 0.03, axis=0)
    mcep = walk / (1 + np.arange(25)) + np.r_[-5.0, 1.2, np.zeros(23)]
    return f0, mcep, np.clip(rng.normal(0.7, 0.3, size=(count, 5)), -0.2, 1.3)


def flat(count: int, f0: float, strength: float) -> tuple[Array, Array, Array]:
    """Steady parameters with a white envelope of unit gain."""
    return np.full(count, f0), np.zeros((count, 25)), np.full((count, 5), strength)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.sampled_from([0.0, 0.4]))
def test_any_chunking_gives_the_same_samples(sizes: list[int], postfilter: float) -> None:
    f0, mcep, strengths = frames(sum(sizes))
    vocoder = Vocoder(postfilter=postfilter)
    whole_state, state = VocoderState(), VocoderState()
    whole = vocoder.render(whole_state, f0, mcep, strengths)
    parts, at = [], 0
    for size in sizes:
        part = slice(at, at + size)
        parts.append(vocoder.render(state, f0[part], mcep[part], strengths[part]))
        at += size
    assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(vocoder.finish(state), vocoder.finish(whole_state))


def test_a_copied_state_goes_on_alike() -> None:
    f0, mcep, strengths = frames(60)
    vocoder, state = Vocoder(), VocoderState()
    vocoder.render(state, f0[:30], mcep[:30], strengths[:30])
    other = state.copy()
    one = vocoder.render(state, f0[30:], mcep[30:], strengths[30:])
    assert np.array_equal(one, vocoder.render(other, f0[30:], mcep[30:], strengths[30:]))


def test_finish_rings_out_and_starts_anew() -> None:
    f0, mcep, strengths = frames(20)
    vocoder, state = Vocoder(), VocoderState()
    first = vocoder.render(state, f0, mcep, strengths)
    tail = vocoder.finish(state)
    assert tail.shape == (TAIL,)
    assert np.array_equal(vocoder.render(state, f0, mcep, strengths), first)


@pytest.mark.parametrize("f0", [80.0, 125.0, 210.0])
def test_pitch_is_as_asked(f0: float) -> None:
    samples = Vocoder().render(VocoderState(), *flat(200, f0, 1.0))
    spectrum = np.abs(np.fft.rfft(samples[4000:12000] * np.hanning(8000)))
    peak = np.argmax(spectrum[20:150]) + 20
    assert peak * RATE / 8000 == pytest.approx(f0 * round(peak * RATE / 8000 / f0), abs=2.5)
    lags = np.correlate(samples[4000:8000], samples[4000:8000], "full")[4000:]
    assert np.argmax(lags[60:240]) + 60 + 1 == pytest.approx(RATE / f0, abs=1.5)


@pytest.mark.parametrize(("f0", "strength"), [(0.0, 0.0), (120.0, 0.0), (120.0, 0.5), (120.0, 1.0)])
def test_power_does_not_depend_on_excitation(f0: float, strength: float) -> None:
    samples = Vocoder().render(VocoderState(), *flat(400, f0, strength))
    assert np.mean(samples[RATE // 10 :] ** 2) == pytest.approx(1.0, rel=0.1)


def test_the_envelope_is_the_cepstrum() -> None:
    """Noise through c1 alone has the warped-cosine log spectrum."""
    f0, mcep, strengths = flat(4000, 0.0, 0.0)
    mcep[:, 1] = 0.8
    samples = Vocoder(alpha=0.42).render(VocoderState(), f0, mcep, strengths)
    blocks = samples[400 : 400 + 512 * 600].reshape(-1, 512) * np.hanning(512)
    level = 0.5 * np.log(
        (np.abs(np.fft.rfft(blocks)) ** 2).mean(axis=0) / (np.hanning(512) ** 2).sum()
    )
    omega = np.pi * np.arange(257) / 256
    warped = omega + 2 * np.arctan2(0.42 * np.sin(omega), 1 - 0.42 * np.cos(omega))
    np.testing.assert_allclose(level[5:250], 0.8 * np.cos(warped)[5:250], atol=0.15)


def test_the_postfilter_keeps_energy() -> None:
    f0, mcep, strengths = frames(400)
    power = [
        np.mean(Vocoder(postfilter=beta).render(VocoderState(), f0 * 0, mcep, strengths) ** 2)
        for beta in (0.0, 0.4)
    ]
    assert power[1] == pytest.approx(power[0], rel=0.15)


def test_no_direct_current() -> None:
    f0, mcep, strengths = frames(400)
    samples = Vocoder().render(VocoderState(), f0, mcep, strengths)
    assert abs(samples.mean()) < 1e-3 * samples.std()


def test_delay_is_one_frame() -> None:
    f0, mcep, strengths = flat(40, 0.0, 0.0)
    mcep[:20, 0] = -12.0
    power = Vocoder().render(VocoderState(), f0, mcep, strengths) ** 2
    assert power[: 20 * HOP].max() < 1e-6
    assert power[20 * HOP + DELAY : 24 * HOP].mean() > 0.5


def test_shapes_must_agree() -> None:
    f0, mcep, strengths = frames(5)
    with pytest.raises(ValueError, match=r"5 pitches need cepstra \(5, 25\)"):
        Vocoder().render(VocoderState(), f0, mcep[:4], strengths)


def test_the_postfilter_is_bounded() -> None:
    with pytest.raises(ValueError, match="postfilter must lie in 0..1, got 2"):
        Vocoder(postfilter=2)
