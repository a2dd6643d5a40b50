"""Codecs: equal to FFmpeg's both ways, packets of any length, nothing held back."""

from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rtp_link import voice

from ringtrue.streaming.ports import frame_bytes
from ringtrue.telephony.codecs import CODEC_NAMES, CODECS, G722, PCMA, PCMU, Codec, by_name
from ringtrue.telephony.codecs.rerate import decoder_at, encoder_at

FFMPEG = {"PCMU": "pcm_mulaw", "PCMA": "pcm_alaw", "G722": "g722"}

WAVEFORM = (G722, PCMU, PCMA)
every_codec = pytest.mark.parametrize("codec", WAVEFORM, ids=lambda codec: codec.name)


def reference(codec: Codec, mode: str) -> av.AudioCodecContext:
    context = av.CodecContext.create(FFMPEG[codec.name], mode)
    context.sample_rate, context.layout, context.format = codec.pcm_rate, "mono", "s16"
    return context


def encode_reference(codec: Codec, pcm: bytes) -> bytes:
    context, size = reference(codec, "w"), frame_bytes(codec.pcm_rate)
    coded = b""
    for at in range(0, len(pcm), size):
        samples = np.frombuffer(pcm[at : at + size], "<i2")[np.newaxis]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts = codec.pcm_rate, at // 2
        coded += b"".join(map(bytes, context.encode(frame)))
    return coded + b"".join(map(bytes, context.encode(None)))


def decode_reference(codec: Codec, coded: bytes) -> bytes:
    context = reference(codec, "r")
    frames = [*context.decode(av.Packet(coded)), *context.decode(None)]
    return b"".join(frame.to_ndarray().astype("<i2").tobytes() for frame in frames)


def encode(codec: Codec, pcm: bytes) -> list[bytes]:
    encoder, size = codec.encoder(), frame_bytes(codec.pcm_rate)
    return [encoder.encode(pcm[at : at + size]) for at in range(0, len(pcm), size)]


def decode(codec: Codec, coded: bytes, size: int) -> bytes:
    decoder = codec.decoder()
    return b"".join(decoder.decode(coded[at : at + size]) for at in range(0, len(coded), size))


@every_codec
def test_encodes_as_ffmpeg_does_and_holds_nothing_back(codec: Codec) -> None:
    pcm = voice(2, codec.pcm_rate).tobytes()
    packets = encode(codec, pcm)
    assert {len(packet) for packet in packets} == {160}
    ours, theirs = b"".join(packets), encode_reference(codec, pcm)
    if codec is G722:
        assert ours == theirs
    else:  # G.711 leaves a choice at the decision levels, so the bytes may differ there
        ours_error, theirs_error = (
            np.abs(_samples(codec.decoder().decode(coded)) - _samples(pcm))
            for coded in (ours, theirs)
        )
        assert ours_error.max() <= theirs_error.max()
        assert ours_error.mean() <= theirs_error.mean() * 1.01


@every_codec
def test_decodes_as_ffmpeg_does_in_packets_of_any_length(codec: Codec) -> None:
    coded = b"".join(encode(codec, voice(2, codec.pcm_rate).tobytes()))
    expected = decode_reference(codec, coded)
    for size in (80, 160, 240, 320, 37):
        assert decode(codec, coded, size) == expected


@every_codec
def test_the_way_there_and_back_keeps_the_signal(codec: Codec) -> None:
    pcm = voice(2, codec.pcm_rate)
    back = _samples(decode(codec, b"".join(encode(codec, pcm.tobytes())), 160))
    delay = 22 if codec is G722 else 0  # of the two QMF banks
    sent, got = pcm[: len(pcm) - delay].astype(float), back[delay:].astype(float)
    noise = got - sent
    assert 10 * np.log10((sent @ sent) / (noise @ noise)) > 20


@every_codec
def test_two_calls_share_no_state(codec: Codec) -> None:
    pcm = voice(1, codec.pcm_rate).tobytes()
    size = frame_bytes(codec.pcm_rate)
    one, two = codec.encoder(), codec.encoder()
    mixed = []
    for at in range(0, len(pcm), size):
        mixed.append(one.encode(pcm[at : at + size]))
        two.encode(bytes(size))
    assert mixed == encode(codec, pcm)


@every_codec
def test_durations_are_in_timestamp_units(codec: Codec) -> None:
    assert codec.duration(bytes(160)) == 160
    assert codec.clock_rate == 8000


@every_codec
@given(payload=st.binary(max_size=400))
def test_any_payload_decodes(codec: Codec, payload: bytes) -> None:
    pcm = codec.decoder().decode(payload)
    assert len(pcm) == 2 * len(payload) * codec.pcm_rate // 8000


def test_names() -> None:
    assert tuple(codec.name for codec in CODECS) == CODEC_NAMES
    assert by_name("pcmu") is PCMU
    assert by_name("OPUS") is by_name("opus")
    with pytest.raises(ValueError, match="'G729'; known: opus, G722, PCMU, PCMA"):
        by_name("G729")


@pytest.mark.parametrize(("codec", "rate"), [(PCMA, 16000), (G722, 8000)])
def test_a_codec_at_another_rate_keeps_the_narrow_band(codec: Codec, rate: int) -> None:
    time = np.arange(rate) / rate
    tone = (8000 * np.sin(2 * np.pi * 1000 * time)).astype("<i2").tobytes()
    encoder, decoder = encoder_at(codec, rate), decoder_at(codec, rate)
    size = frame_bytes(rate)
    back = b"".join(
        decoder.decode(encoder.encode(tone[at : at + size])) for at in range(0, len(tone), size)
    )
    assert len(back) == len(tone)
    spectrum = np.abs(np.fft.rfft(_samples(back)[rate // 2 :] * np.hanning(rate // 2)))
    peak = int(np.argmax(spectrum)) * 2
    assert peak == 1000
    assert _samples(back)[rate // 2 :].std() == pytest.approx(8000 / 2**0.5, rel=0.05)
    outside = np.delete(spectrum, range(490, 511))
    assert outside.max() < spectrum.max() / 50


def test_only_half_and_double_rates_are_made() -> None:
    with pytest.raises(ValueError, match="half or double"):
        encoder_at(PCMU, 48000)


def _samples(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<i2").astype(np.int32)
