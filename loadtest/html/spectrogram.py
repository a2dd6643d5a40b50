"""Spectrograms as PNG (ISO/IEC 15948), made with numpy and zlib alone."""

from __future__ import annotations

import struct
import zlib
from typing import Final

import numpy as np
import numpy.typing as npt

RANGE_DB: Final = 65.0
"""Levels this far below the loudest and lower are black."""

MAX_COLUMNS: Final = 720
WINDOW_MS: Final = 24
QUIETEST_DB: Final = 20.0
"""The loudest level counts as at least this (dB over one LSB), so that silence stays dark."""

ANCHORS: Final = (
    (0, 0, 8),
    (62, 15, 110),
    (150, 44, 128),
    (230, 90, 90),
    (253, 180, 98),
    (252, 253, 210),
)
"""Colours from quiet to loud, with rising lightness."""


def spectrogram(pcm: bytes, rate: int) -> bytes:
    """A PNG of 16-bit mono PCM at ``rate`` Hz: time to the right, 0 Hz at the bottom.

    At most :data:`MAX_COLUMNS` wide. Raises ``ValueError`` for less than one window of sound.
    """
    window = rate * WINDOW_MS // 1000
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    if len(samples) < window:
        raise ValueError(f"{len(samples)} samples are too few; allowed: {window} and more")
    hop = max(window // 4, -(-(len(samples) - window) // (MAX_COLUMNS - 1)))
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    size = 1 << (window - 1).bit_length()
    power = np.abs(np.fft.rfft(frames * np.hanning(window), size)) ** 2
    level = 10 * np.log10(np.maximum(power / (window / 4) ** 2, 1e-3))
    loudest = max(QUIETEST_DB, float(level.max()))
    shade = np.clip(255 * (1 + (level - loudest) / RANGE_DB), 0, 255)
    return indexed_png(np.flipud(shade.T).astype(np.uint8), palette())


def palette() -> npt.NDArray[np.uint8]:
    """256 colours through :data:`ANCHORS`, shape (256, 3)."""
    at = np.linspace(0, 255, len(ANCHORS))
    channels = [np.interp(np.arange(256), at, [c[i] for c in ANCHORS]) for i in range(3)]
    return np.round(np.stack(channels, axis=1)).astype(np.uint8)


def indexed_png(pixels: npt.NDArray[np.uint8], colours: npt.NDArray[np.uint8]) -> bytes:
    """A PNG of palette indices ``pixels``, shape (height, width); ``colours`` is (256, 3)."""
    height, width = pixels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with filter type 0
    rows[:, 1:] = pixels
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", colours.tobytes()),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
