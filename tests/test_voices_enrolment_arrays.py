import io

import numpy as np
import pytest

from ringtrue.voices.enrolment import joins, likeness, texture
from ringtrue.voices.enrolment.arrays import Layers, packed, unpacked


class Two(Layers):
    LAYERS = 2

    def odds(self, seen: np.ndarray, /) -> np.ndarray:
        raise NotImplementedError


def network(count: int = 2) -> Two:
    rng = np.random.default_rng(count)
    weights = [rng.normal(0, 0.3, (5, 4)).astype(np.float32) for _ in range(count)]
    biases = [rng.normal(0, 0.3, 4).astype(np.float32) for _ in range(count)]
    return Two(tuple(weights), tuple(biases))


def test_layers_come_back_in_their_order() -> None:
    made = network()
    again = Two.from_bytes(made.to_bytes())
    assert isinstance(again, Two)
    for before, after in zip(
        (*made.weights, *made.biases), (*again.weights, *again.biases), strict=True
    ):
        assert after.dtype == np.float32
        assert np.allclose(before, after, atol=1e-3)


def test_what_was_read_is_written_as_it_was() -> None:
    shipped = [*joins.shipped().members, *texture.shipped().members, likeness.shipped()]
    for each in shipped:
        data = each.to_bytes()
        again, once_more = unpacked(data), unpacked(type(each).from_bytes(data).to_bytes())
        assert again.keys() == once_more.keys()
        assert all(np.array_equal(again[name], once_more[name]) for name in again)


def test_a_missing_layer_is_noticed() -> None:
    with pytest.raises(KeyError):
        Two.from_bytes(network(1).to_bytes())


def test_what_is_no_archive_is_refused() -> None:
    alone = io.BytesIO()
    np.save(alone, np.zeros(3))
    pickled = io.BytesIO()
    np.savez(pickled, x=np.array([{}], object))
    for data in (b"", b"nothing of the kind", alone.getvalue(), pickled.getvalue()):
        with pytest.raises((ValueError, EOFError)):
            unpacked(data)


def test_arrays_have_names() -> None:
    found = unpacked(packed({"mean": np.arange(3, dtype=np.float32)}))
    assert list(found) == ["mean"]
    assert found["mean"].tolist() == [0.0, 1.0, 2.0]
