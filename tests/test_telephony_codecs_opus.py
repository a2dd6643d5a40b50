"""Opus: what a packet tells of itself, what the far end may ask, what replaces a lost one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rtp_link import FAR, Speaker, plan, stream, voice

from ringtrue.telephony.codecs import OPUS, PCMU, Codec
from ringtrue.telephony.codecs.opus import OpusDecoder, OpusEncoder, OpusWishes, packet_units
from ringtrue.telephony.codecs.opus_library import CodecUnavailableError, OpusLibrary, opus_library
from ringtrue.telephony.codecs.rerate import decoder_at, encoder_at
from ringtrue.telephony.rtp.packet import RtpPacket
from ringtrue.telephony.rtp.rtcp import Goodbye, SenderReport, parse_compound

FRAME = 640
WITH_FEC = "useinbandfec=1"


def coded(pcm: np.ndarray, parameters: str = WITH_FEC) -> list[bytes]:
    encoder = OPUS.tuned(parameters).encoder()
    raw = pcm.tobytes()
    return [encoder.encode(raw[at : at + FRAME]) for at in range(0, len(raw) - FRAME + 1, FRAME)]


def rtp(payloads: list[bytes], codec: Codec = OPUS, first: int = 0) -> list[RtpPacket]:
    units = codec.clock_rate // 50
    return [
        RtpPacket(codec.payload_type, first + n, 5000 + (first + n) * units, 0xCAFE, payload)
        for n, payload in enumerate(payloads)
    ]


def snr(reference: np.ndarray, heard: np.ndarray) -> float:
    noise = heard - reference
    return float(10 * np.log10((reference @ reference) / (noise @ noise)))


def decoded(payloads: list[bytes], lost: set[int] = frozenset(), how: str = "") -> np.ndarray:  # type: ignore[assignment]
    decoder, pieces = OpusDecoder(), []
    for n, payload in enumerate(payloads):
        if n not in lost:
            pieces.append(decoder.decode(payload))
        elif how == "recover":
            pieces.append(decoder.recover(payloads[n + 1], 320))
        else:
            pieces.append(decoder.conceal(320))
    return np.frombuffer(b"".join(pieces), "<i2").astype(float)


def test_every_frame_is_one_packet_of_20_ms() -> None:
    for payload in coded(voice(2, 16000)):
        assert packet_units(payload) == OPUS.duration(payload) == 960
        assert 0 < len(payload) < 300


def test_there_and_back_sounds_the_same() -> None:
    pcm = voice(4, 16000)
    back = decoded(coded(pcm))
    assert len(back) == len(pcm)
    lag = max(range(300), key=lambda k: float(np.corrcoef(back[k:40000], pcm[: 40000 - k])[0, 1]))
    assert lag < 200, "the codec's own delay is 6.5 ms"
    assert np.corrcoef(back[lag:40000], pcm[: 40000 - lag])[0, 1] > 0.8


@pytest.mark.parametrize(
    ("head", "units"),
    [
        (b"", 0),
        (b"\x08", 960),  # configuration 1: SILK, 20 ms
        (b"\x09", 1920),  # two of them
        (b"\xe0", 120),  # configuration 28: CELT, 2.5 ms
        (b"\x78", 960),  # configuration 15: hybrid, 20 ms
        (b"\x1b\x02", 5760),  # configuration 3: two of 60 ms
        (b"\x1b\x03", 0),  # 180 ms is more than there may be
        (b"\x0b", 0),  # the count is missing
        (b"\x0b\x00", 0),
    ],
)
def test_a_packet_tells_its_length(head: bytes, units: int) -> None:
    assert packet_units(head) == units


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 2000))
def test_no_bytes_at_all_make_the_decoder_raise(payload: bytes, samples: int) -> None:
    decoder = OpusDecoder()
    assert len(decoder.decode(payload)) in (0, 2 * packet_units(payload) // 3)
    assert len(decoder.recover(payload, samples)) == 2 * samples
    assert len(decoder.conceal(samples)) == 2 * samples


def test_the_next_packet_tells_what_the_lost_one_said() -> None:
    payloads = coded(voice(8, 16000))
    lost = set(range(5, len(payloads) - 1, 10))
    whole = decoded(payloads)
    recovered, concealed = decoded(payloads, lost, "recover"), decoded(payloads, lost)
    assert snr(whole, recovered) > snr(whole, concealed) + 6
    plain = coded(voice(8, 16000), "")
    without = snr(decoded(plain), decoded(plain, lost, "recover"))
    assert without < snr(whole, recovered) - 6, "unasked, nothing is repeated"


@pytest.mark.parametrize(
    ("parameters", "wishes"),
    [
        ("", OpusWishes(fec=False)),
        ("minptime=10;useinbandfec=1", OpusWishes()),
        ("useinbandfec=1; maxaveragebitrate=16000 ;cbr=1", OpusWishes(16000, constant=True)),
        ("maxaveragebitrate=510000;useinbandfec=1", OpusWishes()),
        ("maxaveragebitrate=1", OpusWishes(6000, fec=False)),
        ("maxplaybackrate=8000", OpusWishes(bandwidth=1101, fec=False)),
        ("maxplaybackrate=12000", OpusWishes(bandwidth=1102, fec=False)),
        ("maxplaybackrate=-1;useinbandfec=x;=;;a=b=c", OpusWishes(fec=False)),
    ],
)
def test_the_far_ends_wishes(parameters: str, wishes: OpusWishes) -> None:
    assert OpusWishes.read(parameters) == wishes
    assert OPUS.tuned(parameters) is OPUS.tuned(parameters)


def test_a_lower_bit_rate_is_kept_to() -> None:
    pcm = voice(6, 16000)
    size = sum(map(len, coded(pcm, "maxaveragebitrate=12000;cbr=1")))
    assert size * 8 / 6 == pytest.approx(12000, rel=0.05)


def test_a_narrow_far_end_gets_no_wide_band() -> None:
    rng = np.random.default_rng(1)
    pcm = (rng.normal(size=32000) * 3000).astype("<i2")
    spectrum = np.abs(np.fft.rfft(decoded(coded(pcm, "maxplaybackrate=8000"))))
    bins = np.fft.rfftfreq(32000, 1 / 16000)
    assert spectrum[bins > 4500].mean() < spectrum[bins < 3500].mean() / 30


@pytest.mark.parametrize("rate", [8000, 16000])
def test_on_either_leg_and_at_any_length(rate: int) -> None:
    encoder, decoder = encoder_at(OPUS, rate), decoder_at(OPUS, rate)
    frame = bytes(rate // 50 * 2)
    assert len(decoder.decode(encoder.encode(frame))) == len(frame)
    assert len(decoder.conceal(rate // 50)) == len(frame)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="bytes of PCM"):
        OpusEncoder().encode(frame + b"\0\0")


def test_a_stream_hears_a_lost_packet_in_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the buffer holds the next packet already: with the delay that jitter asks for."""
    recovered: list[int] = []
    recover = OpusDecoder.recover

    def counted(self: OpusDecoder, payload: bytes, samples: int) -> bytes:
        recovered.append(samples)
        return recover(self, payload, samples)

    monkeypatch.setattr(OpusDecoder, "recover", counted)
    sent = rtp(coded(voice(20, 16000)))
    lost = {n for n in range(len(sent)) if n % 10 == 5}
    rng, call = np.random.default_rng(2), stream(OPUS)
    arrivals = sorted(
        (n * 0.02 + abs(rng.normal(0, 0.015)), packet.serialize())
        for n, packet in enumerate(sent)
        if n not in lost
    )
    heard, at = b"", 0
    for tick in range(1, 1000):
        now = tick * 0.02
        while at < len(arrivals) and arrivals[at][0] <= now:
            call.receive(arrivals[at][1], FAR, arrivals[at][0])
            at += 1
        heard += call.pull(now).pcm
    assert call.stats.packets_lost == pytest.approx(len(lost), abs=2)
    assert len([samples for samples in recovered if samples == 320]) > 0.7 * len(lost)
    assert call.receiver.buffer.depth < 0.120
    whole = decoded([packet.payload for packet in sent])
    assert np.frombuffer(heard, "<i2").astype(float).std() == pytest.approx(whole.std(), rel=0.1)


def test_discontinuous_transmission_is_a_pause_and_no_loss() -> None:
    payloads = coded(voice(4, 16000))
    before, after = rtp(payloads[:100]), rtp(payloads[100:], first=150)
    for n, packet in enumerate(after):
        packet.sequence_number = 101 + n
    silent = RtpPacket(OPUS.payload_type, 100, 5000 + 100 * 960, 0xCAFE, b"\x08")
    call = stream(OPUS)
    for tick in range(1, 251):
        now = tick * 0.02
        for packet in (*before, silent, *after):
            if (packet.timestamp - 5000) // 960 == tick - 1:
                call.receive(packet.serialize(), FAR, now)
        step = call.pull(now + 0.001)
        if 105 < tick < 145:
            assert not step.concealed
    assert call.stats.packets_lost == 0
    assert call.stats.packets_received == 201


def test_a_codec_of_another_clock_may_follow() -> None:
    """A far end may change from Opus (48 kHz) to G.711 (8 kHz) and back within one SSRC."""
    wide, narrow = voice(4, 16000), voice(4, 8000)
    call = stream(OPUS)
    call.configure(plan(OPUS), 0.0)
    opus, pcmu = coded(wide), PCMU.encoder().encode(narrow.tobytes())
    sent = []
    for n in range(300):
        if 100 <= n < 200:
            payload = pcmu[(n - 100) * 160 : (n - 99) * 160]
            sent.append(RtpPacket(0, n, 7_000_000 + n * 160, 0xCAFE, payload))
        else:
            sent.append(RtpPacket(OPUS.payload_type, n, 9_000 + n * 960, 0xCAFE, opus[n % 200]))
    loud = []
    for n, packet in enumerate(sent):
        call.receive(packet.serialize(), FAR, n * 0.02)
        pcm = np.frombuffer(call.pull(n * 0.02 + 0.005).pcm, "<i2").astype(float)
        assert len(pcm) == 320
        loud.append(pcm.std())
    for stretch in (loud[20:100], loud[120:200], loud[220:300]):
        assert np.mean(stretch) > 500
    assert call.stats.packets_lost == 0
    assert call.stats.extra["timeline_resets"] == 2
    late = RtpPacket(0, 150, 7_000_000 + 150 * 160, 0xCAFE, pcmu[:160])
    call.receive(late.serialize(), FAR, 6.0)
    assert call.stats.extra["timeline_resets"] == 2, "a straggler turns no clock back"


def test_a_missing_library_is_named() -> None:
    assert opus_library() is opus_library()
    assert opus_library().version.startswith("libopus")
    with pytest.raises(OSError, match="nowhere"):
        OpusLibrary("/nowhere/libopus.so")
    assert issubclass(CodecUnavailableError, Exception)


def test_a_change_of_our_own_clock_is_a_change_of_source() -> None:
    """Otherwise a far end could not tell one time line from the other (RFC 7160 §4)."""
    call, speaker = stream(OPUS), Speaker(16000)
    sent = []
    for n in range(1, 101):
        if n == 51:
            call.configure(plan(PCMU), n * 0.02)
        sent += call.send(speaker.frame(now=n * 0.02), n * 0.02)
    read = [RtpPacket.parse(data) for data in sent]
    first, second = read[:50], read[50:]
    assert {p.payload_type for p in first} == {OPUS.payload_type}
    assert {p.payload_type for p in second} == {0}
    assert len({p.ssrc for p in first} | {p.ssrc for p in second}) == 2
    assert {len(p.payload) for p in second} == {160}
    assert second[0].marker
    assert call.stats.packets_sent == 100
    report, *_, goodbye = parse_compound(call.report(51 * 0.02) or b"")
    assert isinstance(report, SenderReport)
    assert (report.ssrc, report.packet_count) == (second[0].ssrc, 50)
    assert goodbye == Goodbye((first[0].ssrc,)), "at once (RFC 3550 §8.2)"
    later = parse_compound(call.report(60.0) or b"")
    assert not any(isinstance(packet, Goodbye) for packet in later)
