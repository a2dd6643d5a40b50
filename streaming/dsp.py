"""Sample-rate conversion for streams and whole segments."""

from __future__ import annotations

import av
import numpy as np
import numpy.typing as npt
import soxr


class StreamResampler:
    """16-bit PCM from one rate and channel count to mono at another, in a stream.

    FFmpeg's swresample holds back about 1 ms, where soxr's stream resampler holds up to 150 ms.
    """

    def __init__(self, source_rate: int, target_rate: int, *, channels: int = 1) -> None:
        """Convert ``channels`` interleaved channels at ``source_rate`` Hz to mono ``target_rate``.

        Raises ``ValueError`` for anything but one or two channels.
        """
        if channels not in (1, 2):
            raise ValueError(f"channels must be 1 or 2, got {channels}")
        self.source = (source_rate, channels)
        self._layout = "mono" if channels == 1 else "stereo"
        self._rate = source_rate
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=target_rate)

    def push(self, pcm: bytes) -> bytes:
        """Convert a piece; half a sample at its end is dropped."""
        width = 2 * self.source[1]
        samples = np.frombuffer(pcm[: len(pcm) // width * width], np.int16)
        if not samples.size:
            return b""
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="s16", layout=self._layout)
        frame.sample_rate = self._rate
        return self._join(self._resampler.resample(frame))

    def flush(self) -> bytes:
        """What was held back; the resampler can't be used afterwards."""
        return self._join(self._resampler.resample(None))

    @staticmethod
    def _join(frames: list[av.AudioFrame]) -> bytes:
        return b"".join(bytes(frame.planes[0])[: frame.samples * 2] for frame in frames)


def resample_segment(
    samples: npt.NDArray[np.int16], source_rate: int, target_rate: int
) -> npt.NDArray[np.float32]:
    """A whole segment as float32 in −1…1 at ``target_rate`` Hz."""
    floats = samples.astype(np.float32) / 32768.0
    if source_rate == target_rate:
        return floats
    resampled: npt.NDArray[np.float32] = soxr.resample(floats, source_rate, target_rate)
    return resampled
