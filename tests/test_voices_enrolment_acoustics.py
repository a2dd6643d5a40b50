import numpy as np
import pytest
from enrolment_material import RATE, TEXTS, in_room, spoken, with_noise

from ringtrue.voices.enrolment.acoustics import (
    BREAKS,
    breaks,
    channel,
    dead_seconds,
    difference,
    levels,
)


def test_levels_are_relative_to_the_loud_parts() -> None:
    one, two = levels(spoken()), levels(0.1 * spoken())
    assert one is not None
    assert two is not None
    assert np.allclose(one.overall, two.overall, atol=0.01)
    assert abs(np.quantile(one.overall, 0.95)) < 0.5


@pytest.mark.parametrize(
    "samples", [np.zeros(RATE, np.float32), np.zeros(0, np.float32), np.ones(100, np.float32)]
)
def test_says_nothing_of_silence_and_scraps(samples: np.ndarray) -> None:
    assert levels(samples) is None
    assert channel(samples) is None
    assert breaks(samples) is None
    assert dead_seconds(samples) == 0.0


def test_one_channel_differs_little_from_itself_and_much_from_another() -> None:
    one, two = channel(spoken(TEXTS[0])), channel(spoken(TEXTS[1]))
    far = channel(with_noise(in_room(spoken(TEXTS[1]), 0.6, 0.0), -40.0))
    assert one is not None
    assert two is not None
    assert far is not None
    assert np.all(difference(one, one) == 0.0)
    assert np.allclose(difference(one, two), difference(two, one))
    assert difference(one, far)[1] > difference(one, two)[1] + 5.0
    assert far.decay < one.decay


def test_a_hard_cut_is_a_click_and_a_fall() -> None:
    whole = spoken()
    middle = int(np.argmax(np.convolve(np.abs(whole), np.ones(1600), "same")))
    quiet = np.random.default_rng(1).normal(0, 1e-4, RATE // 4).astype(np.float32)
    cut = np.concatenate([whole[:middle], quiet, whole[middle:]])
    before, after = breaks(whole), breaks(cut)
    assert before is not None
    assert after is not None
    assert len(before) == len(BREAKS)
    at = BREAKS.index("fall 1")
    assert after[at] > before[at] + 10.0


def test_a_step_in_the_noise_is_seen() -> None:
    pause = np.zeros(RATE // 2, np.float32)
    word = spoken()[RATE // 2 : 2 * RATE]
    even = with_noise(np.concatenate([word, pause, word, pause, word]), -64.0)
    uneven = even.copy()
    uneven[len(even) // 2 :] = with_noise(uneven[len(even) // 2 :], -56.0, seed=4)
    steps = [
        found[BREAKS.index("step")] for x in (even, uneven) if (found := breaks(x)) is not None
    ]
    assert steps[0] < 1.5
    assert steps[1] > 5.0


def test_counts_dead_silence_between_words_only() -> None:
    silence = np.zeros(RATE // 4, np.float32)
    word = spoken()[RATE // 2 : 2 * RATE]
    assert dead_seconds(np.concatenate([silence, word, silence])) < 0.02
    found = dead_seconds(np.concatenate([silence, word, silence, word, silence]))
    assert found == pytest.approx(0.25, abs=0.03)
