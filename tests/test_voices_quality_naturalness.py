"""DNSMOS: the same marks as its own package gives, and clean speech above noisy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from speech import say

from ringtrue.voices.errors import EngineUnavailableError
from ringtrue.voices.quality import naturalness
from ringtrue.voices.quality.naturalness import PEAK, ListenersMark

TEXT = "Your key card is waiting for you at the desk downstairs. Please bring the form with you."


def speech(repeats: int = 1) -> npt.NDArray[np.float64]:
    return np.tile(say(TEXT, 16000, "slt") / 32768, repeats)


@pytest.fixture(scope="module")
def mark() -> ListenersMark:
    pytest.importorskip("speechmos", reason="DNSMOS needs the extra bench")
    return ListenersMark()


@pytest.mark.parametrize("seconds", [9.2, 9.9])
def test_marks_are_those_of_its_own_package(mark: ListenersMark, seconds: float) -> None:
    original = pytest.importorskip("speechmos.dnsmos", reason="needs librosa and requests")
    samples = speech(3)[: int(seconds * 16000)]
    expected = original.run(samples * PEAK / np.abs(samples).max(), sr=16000)["p808_mos"]
    assert mark(samples) == pytest.approx(float(expected), abs=0.005)


def test_noise_is_heard_and_level_is_not(mark: ListenersMark) -> None:
    clean = speech()
    noisy = clean + np.random.default_rng(0).normal(0, 0.05, len(clean))
    assert mark(clean) > mark(noisy) + 0.3
    assert mark(0.01 * clean) == pytest.approx(mark(clean), abs=1e-3)
    with pytest.raises(ValueError, match="got none"):
        mark(np.zeros(0))


def test_a_missing_network_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naturalness.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineUnavailableError, match=r"install ringtrue\[bench\]"):
        ListenersMark()
