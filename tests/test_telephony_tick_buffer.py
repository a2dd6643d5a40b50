"""The buffer between bursts and the clock."""

import random

import numpy as np
import pytest

from ringtrue.telephony.tick_buffer import TickBuffer

FRAME = 320


def tone(frames: int, *, start: int = 0) -> bytes:
    time = (np.arange(frames * 160) + start * 160) / 8000
    return (8000 * np.sin(2 * np.pi * 250 * time)).astype("<i2").tobytes()


def test_it_gathers_stock_then_plays_everything_in_order() -> None:
    buffer = TickBuffer(8000, stock_ms=40)
    audio = tone(10)
    buffer.put(audio[:FRAME])
    assert buffer.take() == (bytes(FRAME), True)
    buffer.put(audio[FRAME:])
    played = b"".join(buffer.take()[0] for _ in range(10))
    assert played == audio
    assert buffer.take() == (bytes(FRAME), True)
    assert buffer.underflows == 1


def test_after_running_dry_it_gathers_stock_again() -> None:
    buffer = TickBuffer(8000, stock_ms=40)
    buffer.put(tone(2))
    assert [buffer.take()[1] for _ in range(3)] == [False, False, True]
    buffer.put(tone(1))
    assert buffer.take()[1]
    buffer.put(tone(1))
    assert not buffer.take()[1]


def test_a_partial_frame_is_played_out() -> None:
    buffer = TickBuffer(8000, stock_ms=20)
    buffer.put(b"\x01\x00" * 200)
    buffer.take()
    assert buffer.take() == (b"\x01\x00" * 40 + bytes(240), True)


def test_overflow_drops_the_oldest_and_counts_it() -> None:
    buffer = TickBuffer(8000, stock_ms=40, max_ms=100)
    audio = tone(50)
    buffer.put(audio)
    assert buffer.depth_ms == 100
    assert buffer.overflowed_ms == 900
    assert buffer.take()[0] == audio[-5 * FRAME : -4 * FRAME]


def test_a_hiccup_does_not_become_permanent_delay() -> None:
    buffer = TickBuffer(8000, stock_ms=40)
    buffer.put(tone(12))  # a burst after a stall: 240 ms stand
    depths = []
    for step in range(3000):
        buffer.put(tone(1, start=12 + step))
        pcm, missing = buffer.take()
        assert len(pcm) == FRAME
        assert not missing
        depths.append(buffer.depth_ms)
    assert depths[0] == 240
    assert depths[-1] <= 40
    assert buffer.drained_ms == 200
    assert buffer.underflows == 0


def test_draining_makes_no_click() -> None:
    buffer = TickBuffer(8000, stock_ms=40)
    buffer.put(tone(12))
    played = bytearray()
    for step in range(400):
        buffer.put(tone(1, start=12 + step))
        played += buffer.take()[0]
    assert buffer.drained_ms >= 40
    wave = np.frombuffer(bytes(played), "<i2").astype(int)
    steepest = np.abs(np.diff(np.frombuffer(tone(10), "<i2").astype(int))).max()
    assert np.abs(np.diff(wave)).max() <= 1.2 * steepest


def test_jitter_within_the_stock_is_not_drained() -> None:
    rng = random.Random(7)
    buffer = TickBuffer(8000, stock_ms=40)
    arrivals = sorted(index * 0.02 + rng.random() * 0.02 for index in range(2000))
    for tick in range(2000):
        now = (tick + 1) * 0.02
        while arrivals and arrivals[0] <= now:
            arrivals.pop(0)
            buffer.put(tone(1))
        buffer.take()
    assert buffer.drained_ms == 0
    assert buffer.underflows == 0


@pytest.mark.parametrize(("stock", "most"), [(0, 100), (100, 100), (200, 100)])
def test_nonsense_is_refused(stock: int, most: int) -> None:
    with pytest.raises(ValueError, match="stock_ms"):
        TickBuffer(8000, stock_ms=stock, max_ms=most)


def test_the_delay_of_a_long_stall_is_gone_within_seconds() -> None:
    buffer = TickBuffer(8000)
    frame = np.full(160, 500, np.int16).tobytes()
    for _ in range(18):  # 360 ms at once, after a stall
        buffer.put(frame)
    ticks = 0
    while buffer.depth_ms > 80 and ticks < 1000:
        buffer.take()
        buffer.put(frame)
        ticks += 1
    assert ticks * 0.02 < 6
    assert buffer.underflows == 0
