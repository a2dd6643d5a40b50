"""DTMF tones carry the two frequencies of their digit and nothing like them elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from ringtrue.streaming.tones import FREQUENCIES, GAP_FRAMES, TONE_FRAMES, dtmf_frames


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("digit", sorted(FREQUENCIES))
def test_spectrum(digit: str, rate: int) -> None:
    frames = dtmf_frames(digit, rate)
    assert len(frames) == TONE_FRAMES + GAP_FRAMES
    pcm = b"".join(pcm for pcm, event in frames if event is not None)
    samples = np.frombuffer(pcm, np.int16).astype(float)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), rate))
    strongest = sorted(np.argsort(spectrum)[::-1][:1])
    low, high = FREQUENCIES[digit]
    for expected in (low, high):
        peak = expected - 15 + int(np.argmax(spectrum[expected - 15 : expected + 16]))
        assert abs(peak - expected) <= 0.015 * expected  # ITU-T Q.23 asks for 1.5 %
    assert strongest[0] in range(low - 15, low + 16) or strongest[0] in range(high - 15, high + 16)
    assert np.abs(samples).max() < 32767


def test_steps() -> None:
    events = [event for _, event in dtmf_frames("7", 8000)]
    steps = [event for event in events if event is not None]
    assert [step.elapsed for step in steps] == [160, 320, 480, 640, 800]
    assert [step.first for step in steps] == [True, False, False, False, False]
    assert [step.last for step in steps] == [False, False, False, False, True]
    assert events[TONE_FRAMES:] == [None] * GAP_FRAMES
