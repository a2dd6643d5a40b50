import numpy as np
import pytest
from enrolment_material import RATE, spoken
from real_speech import SPEAKERS, prompt

from ringtrue.voices.enrolment.joins import (
    BANDS,
    DILATIONS,
    HOP,
    TRAITS,
    JoinNetwork,
    course,
    prepared,
    shipped,
    strongest,
)

CHANNELS = 6


def network(seed: int = 1) -> JoinNetwork:
    rng = np.random.default_rng(seed)
    sizes = [BANDS, *[CHANNELS] * (len(DILATIONS) - 1)]
    weights = [rng.normal(0, 0.2, (3 * size, CHANNELS)).astype(np.float32) for size in sizes]
    biases = [rng.normal(0, 0.2, CHANNELS).astype(np.float32) for _ in sizes]
    weights.append(rng.normal(0, 0.2, (CHANNELS, 1)).astype(np.float32))
    biases.append(np.zeros(1, np.float32))
    return JoinNetwork(tuple(weights), tuple(biases))


def test_is_the_network_that_was_taught() -> None:
    torch = pytest.importorskip("torch")
    made = network()
    seen = np.random.default_rng(2).normal(0, 1, (90, BANDS)).astype(np.float32)
    values = torch.from_numpy(prepared(seen).T[None])
    for number, dilation in enumerate(DILATIONS):
        size = len(made.weights[number]) // 3
        kernel = made.weights[number].reshape(3, size, CHANNELS).transpose(2, 1, 0).copy()
        heard = torch.nn.functional.conv1d(
            values,
            torch.from_numpy(kernel),
            torch.from_numpy(made.biases[number]),
            padding=dilation,
            dilation=dilation,
        ).relu()
        values = values + heard if number else heard
    wanted = (values[0].T.numpy() @ made.weights[-1] + made.biases[-1])[:, 0]
    assert np.allclose(made.odds(seen), wanted, atol=1e-4)


def test_looks_no_further_than_it_says() -> None:
    made, reach = network(), sum(DILATIONS)
    seen = np.random.default_rng(4).normal(0, 1, (4 * reach, BANDS)).astype(np.float32)
    other = seen.copy()
    other[: reach - 1] = other[reach - 2 :: -1]  # the same mean, in another order
    at = 2 * reach
    assert np.allclose(made.odds(seen)[at], made.odds(other)[at], atol=1e-4)
    assert not np.allclose(made.odds(seen)[reach // 2], made.odds(other)[reach // 2], atol=1e-3)


def test_the_course_is_relative_to_the_loud_frames() -> None:
    samples = spoken()
    one, two = course(samples), course(0.1 * samples)
    assert one is not None
    assert two is not None
    assert one.shape == ((len(samples) - 400) // HOP + 1, BANDS)
    assert np.allclose(one, two, atol=0.01)
    assert -2.0 <= one.min() < one.max() <= 2.0


@pytest.mark.parametrize("samples", [np.zeros(RATE, np.float32), np.ones(100, np.float32)])
def test_says_nothing_of_silence_and_scraps(samples: np.ndarray) -> None:
    assert course(samples) is None


def test_the_strongest_are_apart() -> None:
    odds = np.full(400, -5.0, np.float32)
    odds[[50, 51, 52, 150, 250]] = 4.0, 5.0, 4.0, 3.0, 1.0
    found = strongest(odds)
    assert len(found) == len(TRAITS)
    assert found[0] == pytest.approx(5.0)
    assert found[1] == pytest.approx((5.0 + 3.0 + 1.0) / 3)
    assert strongest(odds[:20]).shape == (len(TRAITS),)


def test_hears_words_that_do_not_run_on() -> None:
    higher = []
    for who in SPEAKERS:
        whole = prompt(who, "demo-congrats")
        pieces = [whole[at : at + 2 * RATE // 5] for at in range(RATE, 8 * RATE, RATE)]
        order = np.random.default_rng(5).permutation(len(pieces))
        scores = []
        for samples in (whole[: 6 * RATE], np.concatenate([pieces[i] for i in order])):
            seen = course(samples)
            assert seen is not None
            scores.append(strongest(shipped().odds(seen))[1])
        higher.append(scores[1] > scores[0])
    assert sum(higher) >= 3
