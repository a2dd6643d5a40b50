"""The ear finds what was put into the audio, at the sample where it was put."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtrue.loadtest.ear import (
    GapKind,
    Span,
    SpeechDetector,
    answer_after,
    find_gaps,
    find_speech,
    stop_after,
    utterances,
)
from ringtrue.telephony.codecs.g711 import UlawCodec

RATE = 8000


def tape(seconds: float, *bursts: tuple[int, int], level: int = 3000, noise: int = 0) -> np.ndarray:
    """Silence with bursts of random-sign samples, loud from the first to the last."""
    random = np.random.default_rng(7)
    samples = random.integers(-noise, noise + 1, int(seconds * RATE))
    for start, end in bursts:
        samples[start:end] = random.choice([-level, level], end - start)
    return samples.astype("<i2")


def swell(length: int, level: int = 6000) -> np.ndarray:
    """A sound that fades in and out, as speech does around a pause of its own."""
    window = np.hanning(length) ** 0.5
    carrier = np.sin(2 * np.pi * 210 / RATE * np.arange(length))
    return (level * window * carrier).astype("<i2")


@pytest.mark.parametrize("noise", [0, 8, 40])
@pytest.mark.parametrize(("start", "end"), [(4000, 9600), (4001, 9777), (4039, 9601)])
def test_speech_is_found_to_the_sample(start: int, end: int, noise: int) -> None:
    audio = tape(2, (start, end), noise=noise)
    assert find_speech(audio.tobytes(), RATE) == [Span(start, end)]


def test_quiet_speech_is_found_and_clicks_are_not() -> None:
    audio = tape(3, (8000, 12000), level=200)
    audio[2000:2060] = 20000
    assert find_speech(audio.tobytes(), RATE) == [Span(8000, 12000)]


def test_a_steady_noise_becomes_the_floor() -> None:
    audio = tape(30, (27 * RATE, 28 * RATE), level=4000, noise=250)
    spans = find_speech(audio.tobytes(), RATE)
    assert spans[-1] == Span(27 * RATE, 28 * RATE)
    assert sum(len(span) for span in spans[:-1]) < 18 * RATE


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=60))
def test_pieces_of_any_length_give_the_same_spans(sizes: list[int]) -> None:
    audio = tape(1.5, (900, 3000), (6000, 7003), noise=20).tobytes()
    detector = SpeechDetector(RATE)
    position = 0
    for size in sizes:
        detector.feed(audio[2 * position : 2 * (position + size)])
        position += size
    detector.feed(audio[2 * position :])
    detector.close()
    assert detector.spans == find_speech(audio, RATE) == [Span(900, 3000), Span(6000, 7003)]


def test_live_state_follows_the_speech() -> None:
    audio = tape(1, (1600, 4000)).tobytes()
    detector = SpeechDetector(RATE)
    detector.feed(audio[: 2 * 1600])
    assert not detector.speaking
    assert detector.last_speech is None
    detector.feed(audio[2 * 1600 : 2 * 2400])
    assert detector.speaking
    assert detector.speech_start == 1600
    assert detector.last_speech == 2400
    detector.feed(audio[2 * 2400 :])
    assert not detector.speaking
    assert detector.last_speech == 4000


def test_pauses_within_an_utterance_join_it() -> None:
    spans = [Span(0, 800), Span(4000, 8000), Span(14000, 15000)]
    assert utterances(spans, RATE) == [Span(0, 8000), Span(14000, 15000)]


def test_the_answer_is_the_first_speech_after_the_question() -> None:
    spans = [Span(0, 800), Span(4000, 8000), Span(14000, 15000)]
    assert answer_after(spans, 900) == Span(4000, 8000)
    assert answer_after(spans, 4001) == Span(14000, 15000)
    assert answer_after(spans, 14001) is None


@pytest.mark.parametrize(
    ("spans", "stop"),
    [
        ([Span(0, 10_400), Span(30_000, 40_000)], 2400),
        ([Span(0, 9000), Span(11_000, 12_000), Span(30_000, 40_000)], 4000),
        ([Span(0, 7900), Span(30_000, 40_000)], 0),
        ([Span(0, 7900), Span(9000, 9500)], 1500),
        ([Span(0, 40_000)], 32_000),
        ([], 0),
    ],
)
def test_a_barge_in_stops_at_the_last_sample_before_silence(spans: list[Span], stop: int) -> None:
    assert stop_after(spans, 8000, RATE) == stop


def speech_with(*gaps: tuple[int, int]) -> tuple[bytes, list[Span]]:
    audio = tape(3, (1600, 20_000))
    for start, end in gaps:
        audio[start:end] = 0
    return audio.tobytes(), [Span(1600, 20_000)]


def test_a_dropped_block_is_a_dropout() -> None:
    audio, spoken = speech_with((8000, 8160), (9600, 10_080))
    gaps = find_gaps(audio, RATE, spoken)
    assert [(gap.span, gap.kind) for gap in gaps] == [
        (Span(8000, 8160), GapKind.DROPOUT),
        (Span(9600, 10_080), GapKind.DROPOUT),
    ]


@pytest.mark.parametrize("block", [(8000, 8160), (9600, 10_080)])
def test_comfort_noise_in_the_place_of_speech_is_a_dropout(block: tuple[int, int]) -> None:
    audio = tape(3, (1600, 20_000))
    noise = np.random.default_rng(5).normal(0, 8, block[1] - block[0])
    audio[slice(*block)] = np.round(noise)
    codec = UlawCodec()
    heard = codec.decode(codec.encode(audio.tobytes()))
    (gap,) = find_gaps(heard, RATE, [Span(1600, 20_000)])
    assert (gap.kind, gap.span) == (GapKind.DROPOUT, Span(*block))


def test_a_silence_shorter_than_a_frame_is_nothing() -> None:
    audio, spoken = speech_with((8000, 8150))
    assert find_gaps(audio, RATE, spoken) == []


def test_what_is_explained_otherwise_is_left_out() -> None:
    audio, spoken = speech_with((8000, 8160), (9600, 10_080))
    gaps = find_gaps(audio, RATE, spoken, ignore=[Span(8100, 8120)])
    assert [gap.span for gap in gaps] == [Span(9600, 10_080)]


def test_a_pause_of_its_own_is_no_dropout() -> None:
    audio = np.zeros(3 * RATE, "<i2")
    audio[1600:6400] = swell(4800)
    audio[7000:12_000] = swell(5000)
    audio[12_150:16_000] = swell(3850)
    gaps = find_gaps(audio.tobytes(), RATE, [Span(1600, 16_000)])
    assert [gap.kind for gap in gaps] == [GapKind.PAUSE]
    assert abs(gaps[0].span.start - 6400) < 40
    assert abs(gaps[0].span.end - 7000) < 40


def test_an_abrupt_sound_after_a_pause_counts_only_on_the_grid() -> None:
    burst = tape(1, (0, RATE))[:4000]
    for start, expected in ((8000, [GapKind.DROPOUT]), (8080, [GapKind.PAUSE])):
        audio = np.zeros(3 * RATE, "<i2")
        audio[1600:7200] = tape(1, (0, RATE))[:5600]
        audio[7000:7200] = (audio[7000:7200] * np.linspace(1, 0.02, 200)).astype("<i2")
        audio[start : start + 4000] = burst
        gaps = find_gaps(audio.tobytes(), RATE, [Span(1600, start + 4000)])
        assert [gap.kind for gap in gaps] == expected
