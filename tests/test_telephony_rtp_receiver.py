"""What a receiver spends on its delay: a search for a join costs more than all else of a tick."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from rtp_link import packets, voice

from ringtrue.telephony.codecs import PCMU
from ringtrue.telephony.rtp import receiver as receiver_module
from ringtrue.telephony.rtp.receiver import RtpReceiver
from ringtrue.telephony.rtp.stretch import shorten

TICK = 0.020
SECONDS = 12


def noise() -> np.ndarray:
    """No stretch of it repeats, so that no join in it would go unheard."""
    samples = np.random.default_rng(5).standard_normal(SECONDS * 8000) * 6000
    return samples.clip(-32768, 32767).astype("<i2")


class Line:
    """A receiver that one packet reaches before each tick."""

    def __init__(self, pcm: np.ndarray) -> None:
        self.receiver = RtpReceiver(8000, 8000)
        self.receiver.configure({0: PCMU}, frozenset(), receiving=True)
        self._waiting = deque(packets(pcm))
        self._now = 0.0

    def arrive(self, count: int) -> None:
        """The next ``count`` packets are here."""
        for _ in range(count):
            assert self.receiver.packet(self._waiting.popleft(), self._now - 0.001)

    def run(self, ticks: int, *, steer: bool = True) -> None:
        """That many ticks."""
        for _ in range(ticks):
            self._now += TICK
            self.arrive(1)
            self.receiver.pull(self._now, steer=steer)

    def fall_behind(self, ticks: int) -> None:
        """Settle, then miss some ticks: delay that is to be taken out."""
        self.run(100)
        self._now += ticks * TICK
        self.arrive(ticks)
        self.run(1, steer=False)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for each search."""
    made: list[int] = []

    def counting(pcm: bytes, rate: int, most: int | None = None) -> bytes:
        made.append(len(pcm))
        return shorten(pcm, rate, most)

    monkeypatch.setattr(receiver_module, "shorten", counting)
    return made


@pytest.mark.parametrize(("ticks", "least", "most"), [(2, 15, 25), (6, 40, 90)])
def test_where_no_join_goes_unheard_searches_become_rare(
    searches: list[int], ticks: int, least: int, most: int
) -> None:
    line = Line(noise())
    line.fall_behind(ticks)
    searches.clear()
    line.run(340)
    assert line.receiver.joins == 0
    assert least <= len(searches) <= most  # of 340 ticks


def test_where_time_is_short_nothing_is_searched_and_delay_stands(searches: list[int]) -> None:
    line = Line(voice(SECONDS))
    line.fall_behind(3)
    searches.clear()
    joins, depth = line.receiver.joins, line.receiver.buffer.depth
    line.run(50, steer=False)
    assert searches == []
    assert line.receiver.joins == joins
    assert line.receiver.buffer.depth == pytest.approx(depth, abs=TICK)


def test_delay_left_standing_is_taken_out_once_there_is_time(searches: list[int]) -> None:
    line = Line(voice(SECONDS))
    line.fall_behind(3)
    line.run(50, steer=False)
    standing = line.receiver.buffer.depth
    line.run(250)
    assert searches
    assert line.receiver.buffer.depth < standing - 2 * TICK
