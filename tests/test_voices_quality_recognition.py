"""Word error rates: counted right, low for clear speech, high for the wrong words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from speech import say

from ringtrue.voices.quality.recognition import ScriptRecognizer, word_errors

SCRIPT = (
    "Which day would suit you best, Monday or Tuesday?",
    "The guarantee covers parts and labour for three years.",
    "Your key card is waiting for you at the desk downstairs.",
)
OTHERS = ("There is no charge for that.", "Please hold while I look up the details.")


def spoken(*texts: str) -> list[npt.NDArray[np.float64]]:
    return [say(text, 16000, "slt") / 32768 for text in texts]


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "", 3),
        ("", "a b", 2),
        ("a b c", "a x c", 1),
        ("a b c d", "b c d e", 2),
        ("a b", "b a", 2),
    ],
)
def test_errors_are_counted(said: str, heard: str, errors: int) -> None:
    assert word_errors(said.split(), heard.split()) == errors


@pytest.mark.parametrize("general", [False, True])
def test_clear_speech_is_understood_and_other_words_are_not(general: bool) -> None:
    recognizer = ScriptRecognizer(SCRIPT, OTHERS, general=general)
    right = spoken(*SCRIPT)
    rate = recognizer.error_rate(SCRIPT, right)
    assert rate <= (0.3 if general else 0.05)
    assert recognizer.error_rate(SCRIPT, right) == rate
    assert recognizer.error_rate(SCRIPT, right[1:] + right[:1]) > 0.7
    noise = np.random.default_rng(0)
    drowned = [one + noise.normal(0, 0.5, len(one)) for one in right]
    assert recognizer.error_rate(SCRIPT, drowned) > rate + 0.2
    recognizer.close()


def test_where_enough_is_understood_the_rest_is_not_asked_for() -> None:
    recognizer = ScriptRecognizer(SCRIPT, OTHERS, general=False)
    right = spoken(*SCRIPT)
    asked: list[int] = []

    def given(order: tuple[int, ...]) -> Iterator[npt.NDArray[np.float64]]:
        for number in order:
            asked.append(number)
            yield right[number]

    assert recognizer.error_rate(SCRIPT, given((0, 1, 2)), enough=2) == 0.0
    assert asked == [0, 1]
    asked.clear()
    assert recognizer.error_rate(SCRIPT, given((0, 2, 1)), enough=2) > 0.3
    assert asked == [0, 2, 1]
    recognizer.close()
