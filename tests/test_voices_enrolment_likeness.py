import numpy as np
import pytest

from ringtrue.voices.encoder.speaker import SpeakerEncoder
from ringtrue.voices.enrolment.likeness import Likeness, shipped

SIZE = 256


def direction(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=SIZE)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def test_what_varies_within_people_counts_for_little() -> None:
    spread, mine, theirs = direction(1), direction(2), direction(3)
    squeezed = np.eye(SIZE) - 0.99 * np.outer(spread, spread)
    alike = Likeness(np.zeros(SIZE, np.float32), squeezed.astype(np.float32))
    plain = Likeness(np.zeros(SIZE, np.float32), np.eye(SIZE, dtype=np.float32))
    # One person on two days, and two people on one: a cosine takes the days for the person.
    days = mine + 2 * spread, mine - 2 * spread
    assert plain(*days) < plain(mine + 2 * spread, theirs + 2 * spread)
    assert alike(*days) > 0.9
    assert alike(mine + 2 * spread, theirs + 2 * spread) < 0.3


def test_is_symmetric_and_one_for_the_same() -> None:
    space = shipped()
    one, two = np.abs(direction(4)), np.abs(direction(5))
    assert space(one, two) == pytest.approx(space(two, one), abs=1e-5)
    assert space(one, one) == pytest.approx(1.0, abs=1e-5)
    assert -1.0 <= space(one, two) <= 1.0


def test_says_nothing_of_what_is_at_the_mean() -> None:
    space = shipped()
    assert space(space.mean, direction(6)) == 0.0


def test_tells_people_apart() -> None:
    from real_speech import SPEAKERS, prompt

    encoder, space = SpeakerEncoder.load(), shipped()
    heard = {
        who: [encoder.embed(prompt(who, name), 16000) for name in ("vm-options", "demo-congrats")]
        for who in SPEAKERS
    }
    same = [space(*pair) for pair in heard.values()]
    other = [
        space(mine[0], theirs[1])
        for who, mine in heard.items()
        for rival, theirs in heard.items()
        if who != rival
    ]
    assert min(same) > max(other)
