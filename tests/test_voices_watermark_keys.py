import numpy as np
import pytest

from ringtrue.voices.watermark.errors import WatermarkError
from ringtrue.voices.watermark.keys import PERIOD, SYMBOL_CHIPS, SYMBOLS, DetectionKey, MarkKey


def test_the_detection_key_alone_gives_the_pilot():
    key = MarkKey(bytes(range(32)))
    published = DetectionKey(key.detection.key)
    assert published.id == key.id
    assert np.array_equal(published.pilot, key.detection.pilot)
    assert set(np.unique(published.pilot)) == {-1.0, 1.0}


def test_data_chips_are_balanced_against_the_pilot_in_every_symbol():
    key = MarkKey.generate()
    product = (key.carrier * key.detection.pilot).reshape(SYMBOLS, SYMBOL_CHIPS)
    assert not product.sum(axis=1).any()


def test_keys_have_nothing_in_common():
    one, other = MarkKey(b"1" * 32), MarkKey(b"2" * 32)
    for a, b in ((one.detection.pilot, other.detection.pilot), (one.carrier, other.carrier)):
        assert abs(float(a @ b)) < 5 * PERIOD**0.5


def test_keys_are_not_shown_and_lengths_are_checked():
    key = MarkKey(b"shown? " * 4 + b"shoo")
    assert "shown" not in repr(key)
    assert key.detection.key.hex() not in repr(key.detection)
    with pytest.raises(WatermarkError, match="32 bytes, got 5"):
        MarkKey(b"short")
    with pytest.raises(WatermarkError, match="32 bytes, got 31"):
        DetectionKey(bytes(31))


def test_arrays_are_shared_and_therefore_read_only():
    with pytest.raises(ValueError, match="read-only"):
        MarkKey(bytes(32)).carrier[0] = 0.0
