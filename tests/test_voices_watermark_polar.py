import numpy as np
import pytest

from ringtrue.voices.watermark.polar import LENGTH, decode, encode, positions


def bits(seed: int, count: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, count).astype(np.uint8)


@pytest.mark.parametrize("count", [1, 96, 256, 511])
def test_a_clean_word_decodes(count: int):
    sent = bits(count, count)
    assert np.array_equal(decode(1.0 - 2.0 * encode(sent), count)[0], sent)


def test_the_code_is_linear():
    assert np.array_equal(encode(bits(1) ^ bits(2)), encode(bits(1)) ^ encode(bits(2)))


def test_noise_at_twice_the_energy_of_a_symbol_is_corrected():
    # Eb/N0 of 2 dB: 96 bits over 512 symbols.
    deviation = np.sqrt(1 / (2 * 96 / LENGTH * 10**0.2))
    failures = 0
    for seed in range(30):
        sent = bits(seed)
        word = 1.0 - 2.0 * encode(sent)
        noisy = word + np.random.default_rng(1000 + seed).normal(0, deviation, LENGTH)
        failures += not any(np.array_equal(found, sent) for found in decode(noisy, 96))
    assert failures <= 1


def test_known_bits_help_with_the_others():
    deviation = np.sqrt(1 / (2 * 96 / LENGTH * 10**-0.1))
    failures = [0, 0]
    for seed in range(60):
        sent = bits(seed)
        word = 1.0 - 2.0 * encode(sent)
        noisy = word + np.random.default_rng(1000 + seed).normal(0, deviation, LENGTH)
        for n, head in enumerate(((), sent[:10].tolist())):
            candidates = decode(noisy, 96, head=head)
            assert all(found[: len(head)].tolist() == head for found in candidates if n)
            failures[n] += not any(np.array_equal(found, sent) for found in candidates)
    assert failures[1] < failures[0]


def test_erasures_are_corrected():
    sent = bits(5)
    word = 1.0 - 2.0 * encode(sent)
    word[np.random.default_rng(5).permutation(LENGTH)[:300]] = 0.0
    assert any(np.array_equal(found, sent) for found in decode(word, 96))


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match="got 512"):
        positions(LENGTH)
    with pytest.raises(ValueError, match=r"\(512,\), got \(511,\)"):
        decode(np.zeros(511), 96)
