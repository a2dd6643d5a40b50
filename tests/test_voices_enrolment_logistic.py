import numpy as np
import pytest

from ringtrue.voices.enrolment.acoustics import BREAKS
from ringtrue.voices.enrolment.cues import NAMES
from ringtrue.voices.enrolment.joins import TRAITS
from ringtrue.voices.enrolment.logistic import LIMIT, Logistic
from ringtrue.voices.enrolment.texture import TRAITS as TEXTURE
from ringtrue.voices.enrolment.weights import CHANNEL, SPLICE, SYNTHESIS


def model(weights: list[list[float]], bias: list[float], quadratic: bool = False) -> Logistic:
    return Logistic(
        np.array([1.0, -1.0]),
        np.array([2.0, 0.5]),
        np.array(weights),
        np.array(bias),
        0.0,
        quadratic,
    )


def test_the_score_is_the_log_odds() -> None:
    one = model([[1.0, 2.0]], [0.5])
    assert one.score(np.array([1.0, -1.0])) == pytest.approx(0.5)
    assert one.score(np.array([3.0, -0.5])) == pytest.approx(0.5 + 1.0 + 2.0)


def test_several_kinds_are_any_of_them() -> None:
    both = model([[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0])
    assert both.score(np.array([1.0, -1.0])) == pytest.approx(np.log(2))
    assert both.score(np.array([5.0, -1.0])) == pytest.approx(both.score(np.array([-3.0, -1.0])))


def test_squares_see_too_little_as_well_as_too_much() -> None:
    square = model([[0.0, 0.0, 1.0, 0.0]], [0.0], quadratic=True)
    assert square.score(np.array([3.0, -1.0])) == pytest.approx(1.0)
    assert square.score(np.array([-1.0, -1.0])) == pytest.approx(1.0)


def test_no_trait_counts_for_more_than_the_limit() -> None:
    one = model([[1.0, 0.0]], [0.0])
    assert one.score(np.array([1e9, -1.0])) == pytest.approx(LIMIT)
    assert one.score(np.array([-1e9, -1.0])) == pytest.approx(-LIMIT)


@pytest.mark.parametrize(
    ("shipped", "traits"),
    [(SYNTHESIS, len((*NAMES, *TEXTURE))), (CHANNEL, 5), (SPLICE, len((*BREAKS, *TRAITS)))],
)
def test_what_is_shipped_fits_what_is_measured(shipped: Logistic, traits: int) -> None:
    assert shipped.mean.shape == shipped.spread.shape == (traits,)
    assert shipped.weights.shape == (len(shipped.bias), traits * (1 + shipped.quadratic))
    assert np.isfinite(shipped.score(np.zeros(traits)))
    assert shipped.threshold > 0.0
