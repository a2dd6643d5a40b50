"""A codec at another PCM rate than its own: 8 kHz codecs on a 16 kHz leg and the reverse.

Only needed where a far end changes between narrow and wide band within a call; the leg's rate
stays what it was. A half-band filter of 31 taps, 15 samples of delay at 16 kHz (0.9 ms).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.telephony.codecs import Codec, ConcealingDecoder, Decoder, Encoder

TAPS: Final = 31


def _half_band() -> npt.NDArray[np.float32]:
    offset = np.arange(TAPS) - TAPS // 2
    taps = np.sinc(offset / 2) / 2 * np.kaiser(TAPS, 6.0)
    normalised: npt.NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
    return normalised


_FILTER: Final = _half_band()


class _Filtered:
    """The filter's state over one stream at 16 kHz."""

    __slots__ = ("_past",)

    def __init__(self) -> None:
        self._past = np.zeros(TAPS - 1, np.float32)

    def run(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        joined = np.concatenate((self._past, samples))
        self._past = joined[len(samples) :]
        return np.convolve(joined, _FILTER, "valid")


class Halver:
    """16 kHz PCM to 8 kHz; pieces of an even number of samples."""

    __slots__ = ("_filter",)

    def __init__(self) -> None:
        self._filter = _Filtered()

    def convert(self, pcm: bytes) -> bytes:
        """Half as many samples."""
        if not pcm:
            return b""
        return _pcm(self._filter.run(np.frombuffer(pcm, "<i2").astype(np.float32))[::2])


class Doubler:
    """8 kHz PCM to 16 kHz."""

    __slots__ = ("_filter",)

    def __init__(self) -> None:
        self._filter = _Filtered()

    def convert(self, pcm: bytes) -> bytes:
        """Twice as many samples."""
        if not pcm:
            return b""
        samples = np.frombuffer(pcm, "<i2")
        spaced = np.zeros(2 * len(samples), np.float32)
        spaced[::2] = samples * 2.0
        return _pcm(self._filter.run(spaced))


def _pcm(samples: npt.NDArray[np.float32]) -> bytes:
    return np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()


class _Encoder:
    def __init__(self, inner: Encoder, converter: Halver | Doubler) -> None:
        self._inner, self._converter = inner, converter

    def encode(self, pcm: bytes) -> bytes:
        return self._inner.encode(self._converter.convert(pcm))


class _Decoder:
    def __init__(self, inner: Decoder, converter: Halver | Doubler) -> None:
        self._inner, self._converter = inner, converter

    def decode(self, payload: bytes) -> bytes:
        return self._converter.convert(self._inner.decode(payload))


class _ConcealingDecoder(_Decoder):
    def __init__(self, inner: ConcealingDecoder, converter: Halver) -> None:
        super().__init__(inner, converter)
        self._conceals = inner

    def conceal(self, samples: int) -> bytes:
        return self._converter.convert(self._conceals.conceal(2 * samples))

    def recover(self, payload: bytes, samples: int) -> bytes:
        return self._converter.convert(self._conceals.recover(payload, 2 * samples))


def encoder_at(codec: Codec, rate: int) -> Encoder:
    """An encoder of ``codec`` that takes PCM at ``rate`` Hz.

    Raises ``ValueError`` unless ``rate`` is the codec's own, its half or its double.
    """
    if rate == codec.pcm_rate:
        return codec.encoder()
    return _Encoder(codec.encoder(), _converter(rate, codec.pcm_rate))


def decoder_at(codec: Codec, rate: int) -> Decoder:
    """A decoder of ``codec`` that gives PCM at ``rate`` Hz; raises as :func:`encoder_at`."""
    if rate == codec.pcm_rate:
        return codec.decoder()
    decoder, converter = codec.decoder(), _converter(codec.pcm_rate, rate)
    if isinstance(decoder, ConcealingDecoder) and isinstance(converter, Halver):
        return _ConcealingDecoder(decoder, converter)
    return _Decoder(decoder, converter)


def _converter(source: int, target: int) -> Halver | Doubler:
    if source == 2 * target:
        return Halver()
    if target == 2 * source:
        return Doubler()
    raise ValueError(f"can't convert {source} Hz to {target} Hz; only half or double")
