import numpy as np
import pytest
from enrolment_material import RATE, TEXTS, in_room, sped, spoken, with_noise
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.voices.enrolment.checks.replay import THRESHOLD
from ringtrue.voices.enrolment.fingerprint import (
    MAX_FRAMES,
    NO_MATCH,
    Fingerprint,
    FingerprintError,
    best_match,
    fingerprint,
)


def score(new: np.ndarray, old: np.ndarray) -> float:
    return best_match(fingerprint(new), [fingerprint(old)]).score


def test_goes_through_bytes_unchanged() -> None:
    made = fingerprint(spoken())
    read = Fingerprint.from_bytes(made.to_bytes())
    assert np.array_equal(made.signs, read.signs)
    assert len(made.to_bytes()) / (len(spoken()) / RATE) < 200


@given(st.binary(max_size=200))
def test_reads_nothing_else(data: bytes) -> None:
    with pytest.raises(FingerprintError):
        Fingerprint.from_bytes(data)


def test_every_truncation_is_refused() -> None:
    data = fingerprint(spoken()[: 2 * RATE]).to_bytes()
    for size in range(len(data)):
        with pytest.raises(FingerprintError, match="fingerprint"):
            Fingerprint.from_bytes(data[:size])


def test_a_minute_is_the_most_it_keeps() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 70 * RATE).astype(np.float32)
    assert len(fingerprint(noise).signs) <= MAX_FRAMES


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("copy", lambda x: x),
        ("quieter", lambda x: 0.1 * x),
        ("noisy", lambda x: with_noise(x, -38.0)),
        ("2 % faster", lambda x: sped(x, 1.02)),
        ("2 % slower", lambda x: sped(x, 0.98)),
        ("in a room", in_room),
        ("inverted and cut", lambda x: -x[RATE // 2 : RATE // 2 + 7 * RATE // 2]),
        ("shifted", lambda x: np.concatenate([np.zeros(12345, np.float32), x])),
    ],
)
def test_a_changed_copy_is_found(what: str, change) -> None:
    original = spoken()
    assert score(change(original), original) > THRESHOLD, what


def test_tells_where_and_how_fast() -> None:
    original = np.concatenate([spoken(TEXTS[0]), spoken(TEXTS[1])])
    start = int(2.0 * RATE)
    match = best_match(fingerprint(sped(original[start:], 1.02)), [fingerprint(original)])
    assert match.speed == 1.02
    # Pieces start every 2 s; whichever agreed best, it lies on the same line.
    assert (match.at - 2.0) % 2.0 == pytest.approx(0.0, abs=0.1) or match.at >= 2.0


def test_other_words_of_one_speaker_do_not_match() -> None:
    assert score(spoken(TEXTS[0]), spoken(TEXTS[1])) < 0.25
    assert score(spoken(TEXTS[0]), spoken(TEXTS[2])) < 0.25


def test_other_speakers_with_the_same_words_do_not_match() -> None:
    assert score(spoken(TEXTS[0], "rms"), spoken(TEXTS[0], "slt")) < THRESHOLD


def test_silence_and_scraps_match_nothing() -> None:
    silent = np.zeros(5 * RATE, np.float32)
    original = spoken()
    assert score(silent, silent) == 0.0
    assert score(original, silent) == 0.0
    assert best_match(fingerprint(original[: RATE // 2]), [fingerprint(original)]) == NO_MATCH
    assert best_match(fingerprint(original[:100]), [fingerprint(original)]) == NO_MATCH
    assert best_match(fingerprint(original), []) == NO_MATCH


def test_is_found_among_others_of_other_lengths() -> None:
    originals = [spoken(text) for text in TEXTS]
    long = np.tile(originals[2], 4)
    earlier = [fingerprint(x) for x in (originals[0][: 2 * RATE], long, originals[1])]
    assert best_match(fingerprint(originals[1]), earlier).score > 0.9
