"""Cosines and centroids."""

from __future__ import annotations

import numpy as np
import pytest

from ringtrue.voices.encoder import DIMENSION, centroid, similarity


def axis(i: int, length: float = 1.0) -> np.ndarray:
    vector = np.zeros(DIMENSION, np.float32)
    vector[i] = length
    return vector


def test_similarity_is_the_cosine_whatever_the_length() -> None:
    assert similarity(axis(3), axis(3, 70)) == 1.0
    assert similarity(axis(3), axis(4)) == 0.0
    assert similarity(axis(3), -axis(3)) == -1.0
    assert similarity(axis(3), axis(3) + axis(4)) == pytest.approx(0.5**0.5)


def test_similarity_never_leaves_its_range() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        vector = rng.random(DIMENSION).astype(np.float32)
        assert similarity(vector, vector * np.float32(3)) <= 1.0


def test_a_centroid_weighs_all_alike() -> None:
    middle = centroid([axis(0, 100), axis(1)])
    assert middle.dtype == np.float32
    np.testing.assert_allclose(middle[:2], [0.5**0.5] * 2, rtol=1e-6)
    np.testing.assert_allclose(centroid(np.stack([axis(0), axis(1)])), middle, rtol=1e-6)


@pytest.mark.parametrize(
    ("vector", "complaint"),
    [
        (np.ones(255, np.float32), r"b has shape \(255,\); an embedding has \(256,\)"),
        (np.ones((1, 256), np.float32), r"shape \(1, 256\)"),
        (np.zeros(256, np.float32), "no direction: its norm is 0"),
        (np.full(256, np.nan, np.float32), "its norm is nan"),
    ],
)
def test_what_is_no_embedding_is_named(vector: np.ndarray, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        similarity(axis(0), vector)


def test_a_centroid_needs_a_direction() -> None:
    with pytest.raises(ValueError, match="at least one"):
        centroid([])
    with pytest.raises(ValueError, match="the mean has no direction"):
        centroid([axis(0), -axis(0)])
    with pytest.raises(ValueError, match=r"embeddings\[1\] has shape"):
        centroid([axis(0), np.ones(3, np.float32)])
