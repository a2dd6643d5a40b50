"""Audio files of any usual kind, block by block, for whoever looks for marks in them.

Unlike an enrolment's recording a file may be hours long, so it is never held as a whole. Only
demuxers and decoders of media files are allowed: left to guess freely, FFmpeg would also follow
playlists to other files and addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Final, Self

import numpy as np
import numpy.typing as npt

from ringtrue.voices.watermark.carrier import MAX_RATE, MIN_RATE
from ringtrue.voices.watermark.errors import AudioFileError

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream

MAX_CHANNELS: Final = 8

_DEMUXERS: Final = (
    "aac,ac3,aiff,amr,amrnb,amrwb,asf,au,avi,caf,eac3,flac,gsm,matroska,webm,mov,mp4,m4a,mp3,"
    "mpegts,mpeg,ogg,opus,tta,w64,wav,wv"
)
_DECODERS: Final = (
    "pcm_", "adpcm_", "aac", "ac3", "eac3", "alac", "amr", "flac", "g722", "g723", "g726", "g729",
    "gsm", "libgsm", "libopencore_amr", "libopus", "libspeex", "mp1", "mp2", "mp3", "opus",
    "speex", "vorbis", "wavpack", "wma", "tta", "ilbc", "libilbc",
)  # fmt: skip


class AudioFile:
    """An open file and its first audio track."""

    def __init__(self, source: Path | BinaryIO) -> None:
        """Open ``source``; blocking. Raises :class:`AudioFileError` naming what is wrong."""
        import av

        self._file = source.open("rb") if isinstance(source, Path) else source
        self._owned = isinstance(source, Path)
        try:
            self._container = av.open(
                self._file,
                "r",
                options={"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"},
                metadata_errors="ignore",
            )
        except (av.FFmpegError, ValueError, OSError) as error:
            self._close_file()
            raise AudioFileError(
                f"no audio file that can be read ({type(error).__name__}); allowed: WAV, FLAC, "
                "AIFF, Ogg, Opus, WebM, MP3, M4A, MP4, AMR and the like"
            ) from None
        try:
            self._stream = self._checked()
        except BaseException:
            self.close()
            raise

    def _checked(self) -> AudioStream:
        if not self._container.streams.audio:
            raise AudioFileError("the file holds no audio track")
        stream = self._container.streams.audio[0]
        codec = stream.codec_context
        if not codec.name.startswith(_DECODERS):
            raise AudioFileError(f"audio coded as {codec.name!r} is not taken")
        _check_form(codec.rate, codec.layout.nb_channels)
        return stream

    @property
    def rate(self) -> int:
        """Samples per second."""
        return self._stream.codec_context.rate

    @property
    def channels(self) -> int:
        """1 to :data:`MAX_CHANNELS`."""
        return self._stream.codec_context.layout.nb_channels

    @property
    def codec(self) -> str:
        """As FFmpeg names it."""
        return self._stream.codec_context.name

    @property
    def container(self) -> str:
        """As FFmpeg names it."""
        return self._container.format.name

    @property
    def seconds(self) -> float | None:
        """How long the file says it is; None where it doesn't say."""
        import av

        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        if self._container.duration is not None:
            return self._container.duration / av.time_base
        return None

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """Decoded blocks, ``(channels, n)``, full scale 1.0. What can't be decoded is left out.

        Raises :class:`AudioFileError` where the rate or the channels change.
        """
        import av

        resampler = av.AudioResampler(format="fltp")
        form = (self.rate, self.channels)
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
                frames = packet.decode()
            except StopIteration:
                return
            except av.InvalidDataError:
                continue
            except (av.FFmpegError, ValueError) as error:
                raise AudioFileError(
                    f"the file can't be read to its end: {type(error).__name__}"
                ) from None
            for frame in frames:
                if not isinstance(frame, av.AudioFrame):
                    continue
                if (frame.sample_rate, frame.layout.nb_channels) != form:
                    raise AudioFileError("the rate or the channels change within the file")
                for plain in resampler.resample(frame):
                    yield _finite(plain)

    def close(self) -> None:
        """Close it. Idempotent."""
        self._container.close()
        self._close_file()

    def _close_file(self) -> None:
        if self._owned:
            self._file.close()

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


def _finite(frame: av.AudioFrame) -> npt.NDArray[np.float32]:
    samples = np.asarray(frame.to_ndarray(), np.float32)
    return np.clip(np.nan_to_num(samples, nan=0.0, posinf=4.0, neginf=-4.0), -4.0, 4.0)


def _check_form(rate: int, channels: int) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioFileError(f"sample rate {rate} Hz; allowed: {MIN_RATE} to {MAX_RATE} Hz")
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioFileError(f"{channels} channels; allowed: 1 to {MAX_CHANNELS}")
