"""An echo is found by its delay; other speech is not taken for one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from lines import echoed, spoken

from ringtrue.streaming.echo.finder import EchoFinder, Found

FRAMES_A_LOOK = 24


def look(
    sent: npt.NDArray[np.int16], heard: npt.NDArray[np.int16], rate: int = 8000
) -> list[Found | None]:
    finder, frame = EchoFinder(rate), rate // 50
    found = []
    for number in range(len(heard) // frame):
        part = slice(number * frame, (number + 1) * frame)
        finder.push(sent[part].tobytes(), heard[part].tobytes())
        if number % FRAMES_A_LOOK == FRAMES_A_LOOK - 1:
            found.append(finder.look())
    return found


@pytest.mark.parametrize("delay_ms", [20, 45, 310, 740])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_the_delay_of_an_echo_is_found(delay_ms: int, rate: int) -> None:
    sent = spoken("rms", rate)[: 6 * rate]
    found = [each for each in look(sent, echoed(sent, delay_ms, -15, rate), rate) if each]
    assert found
    assert found[-1].delay / 8 == pytest.approx(delay_ms, abs=3)


def test_other_speech_is_no_echo() -> None:
    sent, heard = spoken("rms"), spoken("awb")
    length = min(len(sent), len(heard))
    assert not any(look(sent[:length], heard[:length]))


def test_an_echo_beyond_the_longest_delay_is_none() -> None:
    sent = spoken("rms")[: 6 * 8000]
    assert not any(look(sent, echoed(sent, 900, -6)))


def test_silence_is_not_looked_at() -> None:
    silence = np.zeros(4 * 8000, np.int16)
    assert not any(look(silence, spoken("rms")[: 4 * 8000]))
    assert not any(look(spoken("rms")[: 4 * 8000], silence))


def test_one_look_is_not_enough() -> None:
    sent = spoken("rms")[: 4 * 8000]
    found = look(sent, echoed(sent, 100, -10))
    assert found[0] is None
    assert any(found)


def test_what_was_found_can_be_forgotten() -> None:
    finder = EchoFinder(8000)
    sent = spoken("rms")[: 4 * 8000]
    heard = echoed(sent, 100, -10)
    for start in range(0, len(sent), 160):
        finder.push(sent[start : start + 160].tobytes(), heard[start : start + 160].tobytes())
    assert not finder.suspects
    assert finder.look() is None
    assert finder.suspects
    assert finder.look() is not None
    finder.restart()
    assert not finder.suspects
    assert finder.look() is None
