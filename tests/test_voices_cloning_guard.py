"""Which strength the guard keeps, by word error rates it is told."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ringtrue.voices.cloning.guard import MAX_ADDED, Listener, Verdict, judged
from ringtrue.voices.flite import Flite, FliteVoice, Parameters
from ringtrue.voices.renderer import RenderedVoice

RATES = {1.0: 0.30, 0.8: 0.10, 0.5: 0.06, 0.0: 0.05}


class Told(Listener):
    """Word error rates by voice, instead of listening."""

    def __init__(self, rates: Mapping[object, float]) -> None:
        self.rates = rates

    def error_rate(self, voice: object) -> float:
        return self.rates[voice]


def decided(rates: Mapping[float, float], base: float) -> Verdict:
    shares: list[float] = []
    told = Told({"base": base} | dict(rates))
    verdict = judged("base", lambda s: s, told, shares.append, tuple(rates))  # type: ignore[arg-type]
    assert shares == sorted(shares)
    assert shares[-1] <= 1.0
    return verdict


def test_the_strongest_that_is_clear_enough_is_kept() -> None:
    assert decided(RATES, 0.05) == Verdict(0.5, 0.06, 0.05)
    assert decided(RATES, 0.09).strength == 0.8
    assert decided(RATES, 0.5).strength == 1.0


def test_the_allowance_is_counted_from_the_base() -> None:
    assert decided({1.0: 0.1 + MAX_ADDED - 1e-6, 0.0: 0.0}, 0.1).strength == 1.0
    assert decided({1.0: 0.1 + MAX_ADDED + 1e-6, 0.0: 0.0}, 0.1).strength == 0.0


def test_a_base_whose_word_cannot_matter_is_not_listened_to() -> None:
    told = Told({1.0: MAX_ADDED + 0.01, 0.5: MAX_ADDED})
    verdict = judged("base", lambda s: s, told, lambda _: None, (0.5,))  # type: ignore[arg-type]
    assert verdict == Verdict(0.5, MAX_ADDED, None)
    with pytest.raises(KeyError, match="base"):
        judged("base", lambda s: s, told, lambda _: None, (1.0, 0.5))  # type: ignore[arg-type]


def test_where_none_is_clear_the_clearest_is_kept() -> None:
    assert decided(RATES, 0.0) == Verdict(0.0, 0.05, 0.0)
    assert decided({1.0: 0.2, 0.5: 0.2, 0.0: 0.2}, 0.0).strength == 1.0


@pytest.fixture(scope="module")
def voice() -> FliteVoice:
    return FliteVoice(Flite(), "slt")


class Muffled:
    """A voice whose consonants and vowels all sound alike."""

    def __init__(self, voice: FliteVoice) -> None:
        self._voice = voice
        self.alpha = voice.alpha

    def analyse(self, tokens: list[str]) -> Parameters:
        found = self._voice.analyse(tokens)
        found.mcep[:, 1:] = found.mcep[:, 1:].mean(axis=0)
        return found


def test_it_hears_what_is_clear_and_what_is_not(voice: FliteVoice) -> None:
    script = ("Press the green button twice.", "Your appointment is on Wednesday.")
    listener = Listener(script, ("Could you tell me the last four digits of the card?",))
    try:
        assert listener.error_rate(RenderedVoice(voice)) < 0.1
        assert listener.error_rate(RenderedVoice(Muffled(voice))) > 0.3  # type: ignore[arg-type]
    finally:
        listener.close()
