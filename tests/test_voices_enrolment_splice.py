import numpy as np
from enrolment_material import RATE, TEXTS, evidence, spoken, with_noise
from real_speech import SPEAKERS, prompt

from ringtrue.voices.enrolment.checks import splice
from ringtrue.voices.enrolment.findings import Check

BODY = "demo-congrats"


def cut(samples: np.ndarray, seed: int, count: int = 10) -> list[np.ndarray]:
    """Pieces of 0.4 s from anywhere in it that is loud."""
    rng = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    while len(found) < count:
        start = int(rng.integers(0, len(samples) - RATE // 2))
        piece = samples[start : start + 2 * RATE // 5]
        if np.mean(piece**2) > 0.3 * np.mean(samples**2):
            found.append(piece)
    return found


def test_one_take_passes() -> None:
    # The fourth's prompts were gated, and end more abruptly than rooms do.
    for who in SPEAKERS[:3]:
        finding = splice.check(evidence(prompt(who, "vm-options"), prompt(who, BODY)))
        assert finding.check is Check.SPLICE
        assert finding.passed, finding


def test_words_cut_anywhere_are_found_mostly() -> None:
    refused = []
    for who in SPEAKERS:
        whole = prompt(who, BODY)
        for seed in range(3):
            joined = np.concatenate(cut(whole, seed))
            refused.append(not splice.check(evidence(joined, whole)).passed)
    assert sum(refused) >= len(refused) / 2


def test_dead_silence_between_words_is_refused() -> None:
    whole = spoken()
    words = [np.concatenate([piece, np.zeros(1600, np.float32)]) for piece in cut(whole, 1, 4)]
    finding = splice.check(evidence(np.concatenate(words), whole))
    assert not finding.passed
    assert "dead silence" in finding.message


def test_the_same_pauses_with_a_room_in_them_are_not_dead() -> None:
    whole = spoken()
    words = [np.concatenate([piece, np.zeros(1600, np.float32)]) for piece in cut(whole, 1, 4)]
    finding = splice.check(evidence(with_noise(np.concatenate(words), -60.0), whole))
    assert "dead silence" not in finding.message


def test_the_body_may_be_cut() -> None:
    statement = prompt("it_IT_m_Carlo", "vm-options")
    body = np.concatenate(cut(spoken(TEXTS[1]), 2))
    assert splice.check(evidence(statement, body)).passed


def test_an_empty_statement_does_not_pass() -> None:
    finding = splice.check(evidence(np.zeros(RATE, np.float32), spoken()))
    assert not finding.passed
    assert np.isfinite(finding.score)
