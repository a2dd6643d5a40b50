"""DTMF as PCM: the tone pairs of ITU-T Q.23, in 20 ms frames."""

from __future__ import annotations

from typing import Final

import numpy as np

from ringtrue.streaming.gate import DigitEvent
from ringtrue.streaming.ports import frame_samples

ROWS: Final = (697, 770, 852, 941)
COLUMNS: Final = (1209, 1336, 1477, 1633)
KEYS: Final = ("123A", "456B", "789C", "*0#D")

FREQUENCIES: Final = {
    key: (ROWS[row], COLUMNS[column])
    for row, keys in enumerate(KEYS)
    for column, key in enumerate(keys)
}
"""Digit → its low and high frequency in Hz (ITU-T Q.23)."""

TONE_FRAMES: Final = 5
"""100 ms a digit; Q.24 asks receivers to accept 40 ms."""

GAP_FRAMES: Final = 4
"""80 ms between digits; Q.24 asks for 40 ms."""

LEVEL: Final = 10 ** (-10 / 20) * 32767 / 2
"""Peak of each of the two tones: together −10 dBFS."""


def dtmf_frames(digits: str, rate: int) -> list[tuple[bytes, DigitEvent | None]]:
    """20 ms PCM frames that dial ``digits``, each with its step, or None in the gaps.

    Raises ``ValueError`` naming the first character that is no DTMF digit.
    """
    samples = frame_samples(rate)
    frames: list[tuple[bytes, DigitEvent | None]] = []
    time = np.arange(samples * TONE_FRAMES) / rate
    for digit in digits.upper():
        pair = FREQUENCIES.get(digit)
        if pair is None:
            raise ValueError(f"no DTMF digit: {digit!r}; allowed: 0-9 * # A-D")
        tone = LEVEL * sum(np.sin(2 * np.pi * frequency * time) for frequency in pair)
        pcm = np.rint(tone).astype("<i2").reshape(TONE_FRAMES, samples)
        for step in range(TONE_FRAMES):
            event = DigitEvent(
                digit=digit,
                elapsed=(step + 1) * samples,
                first=step == 0,
                last=step == TONE_FRAMES - 1,
            )
            frames.append((pcm[step].tobytes(), event))
        frames.extend((bytes(2 * samples), None) for _ in range(GAP_FRAMES))
    return frames
