"""From 8 kHz telephone audio to 16 kHz with the missing upper band filled by a mirror image.

A wideband acoustic model expects energy above 4 kHz; telephone audio has none, and the model
reads the gap as speech it never saw. Inserting a zero after every sample doubles the rate and
leaves an exact mirror image of 0-4 kHz in 4-8 kHz; one half-band filter then sets the image's
gain. Both output phases follow from that: the even one is the delayed input, the odd one the
interpolated input times ``(1 - gain) / (1 + gain)``.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

HALF: Final = 12
"""Input samples of look-ahead and of delay: 1.5 ms at 8 kHz."""


def _odd_phase() -> npt.NDArray[np.float32]:
    offsets = np.arange(-HALF, HALF) + 0.5
    taps = np.sinc(offsets) * np.kaiser(2 * HALF, 6.0)
    scaled: npt.NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
    return scaled


class BandMirror:
    """A stream from 8000 to 16000 Hz; chunked output is bit-identical to one-shot output."""

    def __init__(self, gain: float = 0.2) -> None:
        """``gain`` is the image's amplitude relative to the original's, 0 (none) to 1 (as loud).

        Raises ``ValueError`` outside that range.
        """
        if not 0.0 <= gain <= 1.0:
            raise ValueError(f"gain must lie in 0..1, got {gain}")
        self._taps = _odd_phase() * np.float32((1.0 - gain) / (1.0 + gain))
        self._history = np.zeros(2 * HALF - 1, np.float32)

    def push(self, pcm: bytes) -> bytes:
        """16-bit PCM at 8 kHz in, twice as many samples at 16 kHz out (delayed by 1.5 ms).

        An odd byte at the end is dropped.
        """
        samples = np.frombuffer(pcm[: len(pcm) & ~1], np.int16).astype(np.float32)
        if not samples.size:
            return b""
        padded = np.concatenate((self._history, samples))
        self._history = padded[-(2 * HALF - 1) :]
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * HALF)
        out = np.empty(2 * samples.size, np.float32)
        out[0::2] = padded[HALF - 1 : HALF - 1 + samples.size]
        # A sum per row, not a matrix product: BLAS rounds differently with the batch size.
        out[1::2] = (windows * self._taps).sum(axis=1, dtype=np.float32)
        np.clip(np.rint(out, out=out), -32768.0, 32767.0, out=out)
        return out.astype(np.int16).tobytes()

    def reset(self) -> None:
        """Forget the past: the next sample starts a new stream."""
        self._history = np.zeros(2 * HALF - 1, np.float32)
