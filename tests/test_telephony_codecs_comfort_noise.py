"""Comfort noise: how loud, of what colour, and that a pause told by it is no loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rtp_link import FAR, Speaker, packets, plan, stream, voice

from ringtrue.telephony.codecs import PCMU
from ringtrue.telephony.codecs.comfort_noise import CN, ComfortNoise, noise_payload
from ringtrue.telephony.rtp.packet import RtpPacket
from ringtrue.telephony.rtp.sender import NOISE_EVERY, PAUSE_AFTER
from ringtrue.telephony.rtp.stream import RtpStream


def level(pcm: bytes) -> float:
    samples = np.frombuffer(pcm, "<i2").astype(float)
    return float(20 * np.log10(samples.std() / 32768 + 1e-9))


@pytest.mark.parametrize("dbov", [30, 45, 60])
@pytest.mark.parametrize("spectrum", [b"", bytes((200, 90, 127))])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_the_level_is_the_one_told(dbov: int, spectrum: bytes, rate: int) -> None:
    noise = ComfortNoise(rate)
    noise.update(bytes((dbov,)) + spectrum)
    noise.generate(rate // 50)
    assert level(noise.generate(rate)) == pytest.approx(-dbov, abs=0.7)


def test_reflection_coefficients_colour_it() -> None:
    white, dark = ComfortNoise(8000), ComfortNoise(8000)
    white.update(b"\x1e")
    dark.update(bytes((30, 20)))  # k = -0.84: a pole near 0 Hz
    powers = []
    for noise in (white, dark):
        noise.generate(160)
        spectrum = np.abs(np.fft.rfft(np.frombuffer(noise.generate(16000), "<i2"))) ** 2
        powers.append(spectrum[: len(spectrum) // 4].sum() / spectrum.sum())
    assert powers[0] == pytest.approx(0.25, abs=0.03)
    assert powers[1] > 0.8


def test_what_we_tell_is_what_we_hear() -> None:
    rng = np.random.default_rng(1)
    pcm = rng.normal(0, 100, 16000).astype("<i2").tobytes()
    noise = ComfortNoise(8000)
    noise.update(noise_payload(pcm))
    noise.generate(160)
    assert level(noise.generate(8000)) == pytest.approx(level(pcm), abs=1)
    assert noise_payload(bytes(320)) == noise_payload(b"") == b"\x7f"


def test_silence_before_the_first_payload_and_at_the_lowest_level() -> None:
    noise = ComfortNoise(8000)
    assert not any(noise.generate(160))
    noise.update(b"")
    assert not any(noise.generate(160))
    noise.update(b"\x7f")
    assert not any(noise.generate(160))


@settings(max_examples=40)
@given(st.binary(max_size=40), st.integers(1, 400))
def test_any_payload_makes_as_much_noise_as_asked(payload: bytes, samples: int) -> None:
    noise = ComfortNoise(8000)
    noise.update(payload)
    assert len(noise.generate(samples)) == 2 * samples


def conversation() -> list[tuple[int, RtpPacket]]:
    """Tick and packet: 2 s of speech, 3 s of pause, a packet of noise each 0.5 s, 2 s more."""
    speech = packets(voice(4))
    sent = [(n, p) for n, p in enumerate(speech[:100])]
    for tick in range(100, 250, 25):
        sent.append((tick, RtpPacket(13, len(sent), 1000 + tick * 160, 0xCAFE, b"\x32")))
    for n, packet in enumerate(speech[100:200]):
        sent.append(
            (250 + n, RtpPacket(0, len(sent), 1000 + (250 + n) * 160, 0xCAFE, packet.payload))
        )
    return sent


def listen(call: RtpStream, sent: list[tuple[int, RtpPacket]], ticks: int = 352) -> list[bytes]:
    heard = []
    for tick in range(ticks):
        for at, packet in sent:
            if at == tick:
                call.receive(packet.serialize(), FAR, tick * 0.02 + 0.003)
        step = call.pull(tick * 0.02 + 0.005)
        assert not step.concealed or tick < 4 or tick > 348
        heard.append(step.pcm)
    return heard


def taking_noise() -> RtpStream:
    call, agreed = stream(), plan()
    receive = {**agreed.receive, 13: CN}
    call.receiver.configure(receive, frozenset(), receiving=True)
    return call


def test_a_pause_told_by_noise_sounds_and_is_no_loss() -> None:
    call = taking_noise()
    heard = listen(call, conversation())
    for pcm in heard[110:245]:
        assert level(pcm) == pytest.approx(-50, abs=2.5)
    assert call.stats.packets_lost == 0
    assert call.stats.packets_late == 0
    assert level(b"".join(heard[260:340])) > -30
    assert call.receiver.buffer.depth < 0.060


def test_noise_in_a_lost_packets_place_where_the_pause_goes_on() -> None:
    call = taking_noise()
    sent = conversation()
    without = [item for n, item in enumerate(sent) if n != 102]
    heard = listen(call, without)
    assert call.stats.packets_lost == 1
    assert all(level(pcm) == pytest.approx(-50, abs=2.5) for pcm in heard[110:245])


def test_our_pauses_are_noise_where_agreed_on() -> None:
    call, speaker = stream(), Speaker()
    call.sender.configure(PCMU, 0, None, sending=True, noise_type=13)
    speech = voice(1)[:160].tobytes()
    script = [speech] * 20 + [None] * 100 + [speech] * 20
    kinds, marks, stamps = [], [], []
    for n, pcm in enumerate(script):
        for data in call.send(speaker.frame(pcm, n * 0.02), n * 0.02):
            packet = RtpPacket.parse(data)
            kinds.append((n, packet.payload_type))
            stamps.append((n, packet.timestamp))
            if packet.marker:
                marks.append(n)
    noise = [n for n, kind in kinds if kind == 13]
    assert noise == list(range(20 + PAUSE_AFTER, 120, NOISE_EVERY))
    audio = [n for n, kind in kinds if kind == 0]
    assert audio == [*range(20 + PAUSE_AFTER), *range(120, 140)]
    assert marks[-1] == 120, "speech after the pause is marked"
    first = stamps[0]
    assert all((at - first[1]) & 0xFFFFFFFF == (n - first[0]) * 160 for n, at in stamps)


def test_both_ends_of_a_pause_fit_together() -> None:
    near, far, speaker = stream(), taking_noise(), Speaker()
    near.sender.configure(PCMU, 0, None, sending=True, noise_type=13)
    said = voice(10)
    concealed = 0
    for n in range(500):
        pcm = None if n // 100 % 2 else said[n * 160 : (n + 1) * 160].tobytes()
        for data in near.send(speaker.frame(pcm, n * 0.02), n * 0.02):
            far.receive(data, FAR, n * 0.02 + 0.004)
        concealed += far.pull(n * 0.02 + 0.006).concealed
    assert concealed < 5
    assert far.stats.packets_lost == 0
    assert near.stats.packets_sent < 350
