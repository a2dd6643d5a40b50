"""Recordings as people and browsers give them, read into one form.

The container is recognised by its first bytes and only its own demuxer and known audio decoders
are used: left to guess, FFmpeg would also follow playlists to files and addresses. Size, length,
channels and rate are bounded before anything is kept, so a few bytes can't unpack into gigabytes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.engine import SPEECH_RATE
from ringtrue.voices.enrolment.errors import RecordingError
from ringtrue.voices.enrolment.levels import clipped_share, high_band

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer

MAX_BYTES: Final = 12 * 1024 * 1024
"""A minute of 48 kHz stereo in 16 bits."""

MAX_SECONDS: Final = 60.0
"""Longest recording that is read at all; how long it may be is a check's question."""

MIN_RATE: Final = 8000
MAX_RATE: Final = 192000
MAX_CHANNELS: Final = 2

FORMATS: Final = "WAV, FLAC, AIFF, Ogg, WebM, MP3, M4A"

_CODECS: Final = ("pcm_", "flac", "opus", "vorbis", "mp3", "aac", "alac", "adpcm_ima_wav", "gsm_ms")
_MAX_PACKETS: Final = 60_000
"""Packets read at most: a minute of the shortest any of these codecs makes (2.5 ms) fits twice."""

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording, with what its conversion would hide."""

    samples: FloatArray = field(repr=False)
    """Mono at 16 kHz, full scale 1.0, shape ``(n,)``; finite."""

    source_rate: int
    """Rate in Hz it was recorded or coded at."""

    channels: int
    """1 or 2; two were averaged."""

    codec: str
    """As FFmpeg names it, e.g. ``pcm_s16le``."""

    clipped_share: float
    """Share of samples near the top, 0 to 1, at the source's rate (:mod:`.levels`)."""

    high_band: float
    """Level in dB of the speech above 4.5 kHz, at the source's rate (:mod:`.levels`)."""

    sha256: str
    """Of the bytes it was read from, in hexadecimal."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / SPEECH_RATE


def read_recording(data: bytes) -> Recording:
    """Read WAV, FLAC, AIFF, Ogg, WebM/Matroska, MP3 or M4A/MP4 (its first audio track).

    Blocking: some 10 ms of CPU for 30 s. Raises :class:`RecordingError` for anything else and for
    what goes beyond :data:`MAX_BYTES`, :data:`MAX_SECONDS`, :data:`MAX_CHANNELS` or the rates
    from :data:`MIN_RATE` to :data:`MAX_RATE`.
    """
    if len(data) > MAX_BYTES:
        raise RecordingError(
            f"the recording has {len(data) / 1e6:.1f} MB; allowed: {MAX_BYTES / 1e6:.1f} MB"
        )
    source, rate, codec = _decoded(data, _container_of(data))
    mono = np.ascontiguousarray(source.mean(axis=0), np.float32)
    return Recording(
        samples=_at_speech_rate(mono, rate),
        source_rate=rate,
        channels=len(source),
        codec=codec,
        clipped_share=max(clipped_share(channel) for channel in source),
        high_band=high_band(mono, rate),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _container_of(data: bytes) -> str:
    """The demuxer for ``data``, by its first bytes."""
    head = data[:12]
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        return "aiff"
    for magic, name in ((b"fLaC", "flac"), (b"OggS", "ogg"), (b"\x1aE\xdf\xa3", "matroska")):
        if head.startswith(magic):
            return name
    if head[4:8] == b"ftyp":
        return "mov"
    # MPEG audio: an ID3 tag, or a frame's sync, of layer III.
    if head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2):
        return "mp3"
    raise RecordingError(
        f"the file is in no format that is taken; allowed: {FORMATS}"
        if data
        else f"the file is empty; allowed: {FORMATS}"
    )


def _decoded(data: bytes, container: str) -> tuple[FloatArray, int, str]:
    """Samples of shape (channels, n), their rate, and the codec."""
    import av  # 30 ms, and only enrolment needs it

    try:
        with av.open(io.BytesIO(data), "r", format=container, metadata_errors="ignore") as opened:
            if not opened.streams.audio:
                raise RecordingError("the file holds no audio track")
            stream = opened.streams.audio[0]
            codec = stream.codec_context
            name = codec.name if codec is not None else "unknown"  # not seen by PyAV's types
            if not name.startswith(_CODECS):
                raise RecordingError(f"audio coded as {name!r} is not taken; allowed: {FORMATS}")
            _check_form(codec.rate, codec.layout.nb_channels)
            blocks = list(_blocks(opened, stream))
            rate = codec.rate
    except (av.FFmpegError, ValueError, OverflowError, MemoryError) as error:
        raise RecordingError(
            f"the file can't be decoded as {container}: {type(error).__name__}; it may be cut off"
        ) from None
    if not blocks:
        raise RecordingError("the file holds no sound")
    samples = np.concatenate(blocks, axis=1)
    if not np.isfinite(samples).all():
        raise RecordingError("the file holds samples that are no numbers")
    return np.clip(samples, -4.0, 4.0), rate, name


def _blocks(container: InputContainer, stream: AudioStream) -> Iterator[FloatArray]:
    """Decoded blocks of shape (channels, n); at most :data:`MAX_SECONDS` in all."""
    import av

    resampler = av.AudioResampler(format="fltp")
    form: tuple[int, int] | None = None
    total, packets = 0, 0
    for packet in container.demux(stream):
        packets += 1
        if packets > _MAX_PACKETS:
            raise RecordingError(f"the file has more than {_MAX_PACKETS} packets")
        for frame in packet.decode():
            if not isinstance(frame, av.AudioFrame):
                continue
            found = (frame.sample_rate, frame.layout.nb_channels)
            _check_form(*found)
            if form is not None and form != found:
                raise RecordingError("the rate or the channels change within the file")
            form = found
            total += frame.samples
            if total > MAX_SECONDS * frame.sample_rate:
                raise RecordingError(
                    f"the recording is longer than {MAX_SECONDS:.0f} s; allowed: 30 s"
                )
            for plain in resampler.resample(frame):
                yield np.asarray(plain.to_ndarray(), np.float32)


def _check_form(rate: int, channels: int) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise RecordingError(f"sample rate {rate} Hz; allowed: {MIN_RATE} to {MAX_RATE} Hz")
    if not 1 <= channels <= MAX_CHANNELS:
        raise RecordingError(f"{channels} channels; allowed: 1 or {MAX_CHANNELS}")


def _at_speech_rate(mono: FloatArray, rate: int) -> FloatArray:
    if rate == SPEECH_RATE:
        return mono
    import soxr

    return np.ascontiguousarray(soxr.resample(mono, rate, SPEECH_RATE, quality="HQ"), np.float32)
