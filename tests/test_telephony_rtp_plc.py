"""Loss concealment and time joins: what is made up, how it fades, how it meets the real thing."""

from __future__ import annotations

import numpy as np
import pytest
from rtp_link import voice

from ringtrue.telephony.rtp.plc import FADED, HOLD, Concealer
from ringtrue.telephony.rtp.stretch import lengthen, shorten

RATES = pytest.mark.parametrize("rate", [8000, 16000])


def tone(rate: int, seconds: float = 1.0, pitch: float = 125.0) -> np.ndarray:
    """Harmonics of a steady pitch."""
    time = np.arange(int(rate * seconds)) / rate
    wave = sum(np.sin(2 * np.pi * pitch * k * time + k) / k for k in range(1, 8))
    return (wave * 5000).astype("<i2")


def play(pcm: np.ndarray, rate: int, lost: set[int]) -> np.ndarray:
    """``pcm`` in frames of 20 ms, those in ``lost`` concealed."""
    concealer, size = Concealer(rate), rate // 50
    frames = [
        concealer.conceal(size)
        if number in lost
        else concealer.good(pcm[number * size : (number + 1) * size].tobytes())
        for number in range(len(pcm) // size)
    ]
    return np.frombuffer(b"".join(frames), "<i2")


def jumps(samples: np.ndarray) -> float:
    return float(np.abs(np.diff(samples.astype(float))).max())


@RATES
def test_without_loss_nothing_changes(rate: int) -> None:
    pcm = voice(1, rate)
    assert np.array_equal(play(pcm, rate, set()), pcm)


@RATES
def test_a_steady_sound_goes_on_through_a_loss(rate: int) -> None:
    pcm, size = tone(rate), rate // 50
    heard = play(pcm, rate, {20})
    lost = slice(20 * size, 20 * size + int(HOLD * rate))
    error = heard[lost].astype(float) - pcm[lost]
    signal = pcm[lost].astype(float)
    assert (error @ error) < 0.05 * (signal @ signal)


@RATES
def test_there_are_no_clicks_at_either_end(rate: int) -> None:
    pcm = tone(rate)
    assert jumps(play(pcm, rate, {20, 30, 31, 32})) < 1.6 * jumps(pcm)


@RATES
def test_a_long_loss_fades_to_silence_and_audio_returns(rate: int) -> None:
    pcm, size = tone(rate), rate // 50
    heard = play(pcm, rate, set(range(10, 20)))
    start = 10 * size
    faded = start + int(FADED * rate)
    power = [heard[start + n * size : start + (n + 1) * size].astype(float).std() for n in range(3)]
    assert power[0] > power[1] > power[2] > 0
    assert not heard[faded : 20 * size].any()
    assert np.array_equal(heard[21 * size :], pcm[21 * size :])


@RATES
def test_concealment_never_gets_louder_than_what_was_heard(rate: int) -> None:
    pcm = voice(10, rate)
    rng = np.random.default_rng(3)
    lost = {n for n in range(10, 490) if rng.random() < 0.2}
    heard, size = play(pcm, rate, lost), rate // 50
    for number in lost - {n + 1 for n in lost}:
        before = np.abs(pcm[max(0, (number - 4) * size) : number * size].astype(int)).max()
        made = np.abs(heard[number * size : (number + 1) * size].astype(int)).max()
        assert made <= before + 1


def test_concealment_beats_silence_on_speech() -> None:
    pcm = voice(20)
    lost = set(range(25, 990, 17))
    concealed = play(pcm, 8000, lost).astype(float)
    muted = pcm.astype(float).copy()
    for number in lost:
        muted[number * 160 : (number + 1) * 160] = 0

    def noise(x: np.ndarray) -> float:
        return float(((x - pcm) ** 2).sum())

    assert noise(concealed) < 0.5 * noise(muted)


def test_a_loss_before_anything_was_heard_is_silence() -> None:
    assert not any(Concealer(8000).conceal(160))


def test_concealment_of_odd_lengths_is_one_continuation() -> None:
    pcm = tone(8000)
    whole, pieces = Concealer(8000), Concealer(8000)
    for concealer in (whole, pieces):
        concealer.good(pcm[:4000].tobytes())
    one = whole.conceal(80)
    assert one == pieces.conceal(34) + pieces.conceal(46)


@RATES
def test_shortening_takes_out_whole_periods_without_a_click(rate: int) -> None:
    pcm = tone(rate, 0.04)
    shorter = np.frombuffer(shorten(pcm.tobytes(), rate), "<i2")
    period = rate / 125
    taken = (len(pcm) - len(shorter)) / period
    assert taken == pytest.approx(round(taken), abs=0.03)
    assert round(taken) >= 1
    assert jumps(shorter) < 1.2 * jumps(pcm)


@RATES
def test_lengthening_puts_in_whole_periods_without_a_click(rate: int) -> None:
    pcm = tone(rate, 0.04)
    longer = np.frombuffer(lengthen(pcm.tobytes(), rate), "<i2")
    put_in = (len(longer) - len(pcm)) / (rate / 125)
    assert put_in == pytest.approx(round(put_in), abs=0.03)
    assert round(put_in) >= 1
    assert jumps(longer) < 1.2 * jumps(pcm)


def test_noise_that_repeats_nowhere_is_left_alone() -> None:
    noise = (np.random.default_rng(1).normal(size=320) * 3000).astype("<i2").tobytes()
    assert shorten(noise, 8000) == noise
    assert lengthen(noise, 8000) == noise


def test_near_silence_is_shortened_by_the_most_allowed() -> None:
    quiet = (np.random.default_rng(1).normal(size=320) * 20).astype("<i2").tobytes()
    assert len(shorten(quiet, 8000)) == len(quiet) - 2 * 120
    assert len(shorten(quiet, 8000, 40)) == len(quiet) - 2 * 40


def test_too_little_audio_is_left_alone() -> None:
    assert shorten(bytes(160), 8000) == bytes(160)
    assert shorten(bytes(640), 8000, 5) == bytes(640)
    assert lengthen(b"", 8000) == b""
