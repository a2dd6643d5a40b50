"""Sample-rate conversion for streams and whole segments."""

from __future__ import annotations

import av
import numpy as np
import numpy.typing as npt
import soxr

from ringtrue.streaming.ports import frame_bytes


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


class FrameRerater:
    """20 ms frames of a live stream at one rate to whole 20 ms frames at another.

    The first frame begins with as much silence as the resampler holds back (1 to 2 ms).
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        """From ``source_rate`` to ``target_rate`` Hz, mono 16-bit PCM."""
        self._resampler = StreamResampler(source_rate, target_rate)
        self._size = frame_bytes(target_rate)
        self._waiting = bytearray()

    def frame(self, pcm: bytes) -> bytes:
        """The frame that ``pcm``, one frame at the source's rate, becomes."""
        self._waiting += self._resampler.push(pcm)
        short = self._size - len(self._waiting)
        if short > 0:
            self._waiting[:0] = bytes(short)
        frame = bytes(self._waiting[: self._size])
        del self._waiting[: self._size]
        del self._waiting[: -self._size]  # never more than one frame late
        return frame


def mixed(*frames: bytes) -> bytes:
    """The sum of 16-bit PCM frames of one length, limited to what 16 bits hold."""
    if len(frames) == 1:
        return frames[0]
    total = np.sum([np.frombuffer(frame, "<i2") for frame in frames], axis=0, dtype=np.int32)
    return np.clip(total, -32768, 32767).astype("<i2").tobytes()


def resample_segment(
    samples: npt.NDArray[np.int16], source_rate: int, target_rate: int
) -> npt.NDArray[np.float32]:
    """A whole segment as float32 in −1…1 at ``target_rate`` Hz."""
    floats = samples.astype(np.float32) / 32768.0
    if source_rate == target_rate:
        return floats
    resampled: npt.NDArray[np.float32] = soxr.resample(floats, source_rate, target_rate)
    return resampled
