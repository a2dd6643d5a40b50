"""What may happen to a recorded call before somebody asks whether its speech was synthetic.

Each attack takes 8 kHz speech (float, scale of 16-bit PCM) and gives back what is left of it, at
8 kHz again. Codecs and filters run through PyAV (FFmpeg), sox and Debian's codec2; the rest is
made here. Everything random is seeded.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import av
import numpy as np
import numpy.typing as npt
import soxr

RATE: Final = 8000

Audio = npt.NDArray[np.float64]
Attack = Callable[[Audio], Audio]


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table."""

    name: str
    attack: Attack
    thorough: bool = False
    """Whether the speed changes, which only a thorough search follows."""


def to_pcm(samples: Audio) -> npt.NDArray[np.int16]:
    """Rounded and limited to 16 bits."""
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def coded(
    samples: Audio,
    codec: str,
    container: str,
    *,
    bit_rate: int | None = None,
    rate: int = RATE,
    options: Mapping[str, str] | None = None,
) -> Audio:
    """Through an encoder and its decoder."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono", options=dict(options or {}))
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        context = stream.codec_context
        frame = av.AudioFrame.from_ndarray(to_pcm(samples)[None], format="s16p", layout="mono")
        frame.sample_rate = RATE
        fit = av.AudioResampler(context.format, "mono", rate, context.frame_size or None)
        for ready in [*fit.resample(frame), *fit.resample(None), None]:
            out.mux(stream.encode(ready))
    file.seek(0)
    parts = []
    with av.open(file) as read:
        plain = av.AudioResampler("s16p", "mono")
        for decoded in read.decode(audio=0):
            parts += [each.to_ndarray()[0] for each in plain.resample(decoded)]
            heard = decoded.sample_rate
    return resampled(np.concatenate(parts).astype(np.float64), heard, RATE)


def filtered(samples: Audio, *filters: tuple[str, str]) -> Audio:
    """Through a chain of FFmpeg's filters."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=RATE, format="flt", layout="mono")
    nodes = [source, *(graph.add(name, values) for name, values in filters)]
    shape = f"sample_fmts=flt:sample_rates={RATE}:channel_layouts=mono"
    nodes += [graph.add("aformat", shape), graph.add("abuffersink")]
    graph.link_nodes(*nodes).configure()
    parts = []

    def drain() -> None:
        while True:
            try:
                parts.append(graph.pull().to_ndarray()[0])
            except (av.BlockingIOError, av.EOFError):
                return

    for at in range(0, len(samples), RATE):
        piece = (samples[at : at + RATE] / 32768).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(piece[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = RATE, at
        graph.push(frame)
        drain()
    graph.push(None)
    drain()
    return np.concatenate(parts).astype(np.float64) * 32768


def by_sox(samples: Audio, *effects: str, file_type: str | None = None) -> Audio:
    """Through sox's effects, or through one of its file types and back."""
    raw = ["-t", "raw", "-r", str(RATE), "-e", "signed", "-b", "16", "-c", "1", "-"]
    data = to_pcm(samples).tobytes()
    if file_type is not None:
        kind = ["-t", file_type, "-r", str(RATE), "-c", "1", "-"]
        data = _run(["sox", "-V1", "-D", *raw, *kind], data)
        raw_in = kind
    else:
        raw_in = raw
    data = _run(["sox", "-V1", "-D", *raw_in, *raw, *effects], data)
    return np.frombuffer(data, "<i2").astype(np.float64)


def codec2(samples: Audio, mode: str) -> Audio:
    """Codec 2, a vocoder for radio (Debian package codec2)."""
    with tempfile.TemporaryDirectory() as place:
        clear, bits, back = (str(Path(place) / name) for name in ("clear", "bits", "back"))
        Path(clear).write_bytes(to_pcm(samples).tobytes())
        _run(["c2enc", mode, clear, bits])
        _run(["c2dec", mode, bits, back])
        return np.frombuffer(Path(back).read_bytes(), "<i2").astype(np.float64)


def _run(command: list[str], data: bytes = b"") -> bytes:
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"{command[0]} is not installed")
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def resampled(samples: Audio, rate: float, to: float) -> Audio:
    """At another rate."""
    return samples if rate == to else np.asarray(soxr.resample(samples, rate, to), np.float64)


def mu_law(samples: Audio) -> Audio:
    """G.711 µ-law."""
    return coded(samples, "pcm_mulaw", "wav")


def a_law(samples: Audio) -> Audio:
    """G.711 A-law."""
    return coded(samples, "pcm_alaw", "wav")


def opus(samples: Audio, bit_rate: int, rate: int = 16000) -> Audio:
    """Opus for voice, 20 ms, constant bit rate; coded at ``rate`` as 8 kHz or wider band."""
    options = {"application": "voip", "vbr": "off", "frame_duration": "20"}
    return coded(samples, "libopus", "ogg", bit_rate=bit_rate, rate=rate, options=options)


def amr(samples: Audio, bit_rate: int) -> Audio:
    """AMR-NB, the codec of mobile telephony."""
    return coded(samples, "libopencore_amrnb", "amr", bit_rate=bit_rate)


def mp3(samples: Audio, bit_rate: int) -> Audio:
    """MP3 at 16 kHz."""
    return coded(samples, "libmp3lame", "mp3", bit_rate=bit_rate, rate=16000)


def active_level(samples: Audio) -> float:
    """rms of the frames within 30 dB of the loud ones."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    power = (frames**2).mean(axis=1)
    return float(np.sqrt(power[power > np.percentile(power, 95) * 1e-3].mean()))


def noisy(samples: Audio, snr: float, seed: int = 1) -> Audio:
    """With white noise, ``snr`` dB below the speech."""
    rng = np.random.default_rng(seed)
    level = active_level(samples) * 10 ** (-snr / 20)
    return to_pcm(samples + rng.normal(0, level, len(samples))).astype(np.float64)


def lossy(samples: Audio, share: float, *, concealed: bool, seed: int = 2) -> Audio:
    """With 20 ms frames lost: silence, or the last pitch period repeated and faded (G.711 I)."""
    rng = np.random.default_rng(seed)
    out = samples.copy()
    size, gain = 160, 1.0
    for at in range(3 * size, len(out) - size, size):
        if rng.random() >= share:
            gain = 1.0
            continue
        if not concealed:
            out[at : at + size] = 0.0
            continue
        past = out[at - 2 * size : at]
        tail = past[-80:]
        scores = [
            tail
            @ past[-80 - lag : len(past) - lag]
            / (np.linalg.norm(past[-80 - lag : len(past) - lag]) + 1.0)
            for lag in range(20, 121)
        ]
        period = 20 + int(np.argmax(scores))
        fade = gain * np.linspace(1.0, 0.75, size)
        out[at : at + size] = np.resize(past[-period:], size) * fade
        gain *= 0.75
    return out


def faster(samples: Audio, speed: float) -> Audio:
    """Played ``speed`` times too fast: pitch and all."""
    return resampled(samples, RATE * speed, RATE)


def in_a_room(samples: Audio, seconds: float = 0.3, snr: float = 20.0) -> Audio:
    """Played by a loudspeaker and recorded again: reverberation, a narrow band, noise."""
    rng = np.random.default_rng(3)
    count = int(RATE * seconds)
    response = rng.normal(0, 1, count) * 10 ** (-3 * np.arange(count) / count)
    response *= 0.35 / np.sqrt((response[1:] ** 2).sum())
    response[0] = 1.0
    size = len(samples) + count
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)
    band = ("highpass", "f=300"), ("lowpass", "f=3400")
    return noisy(filtered(0.8 * wet[: len(samples)], *band), snr)


def mixed(samples: Audio, caller: Audio, below: float) -> Audio:
    """With a caller talking all the time, ``below`` dB quieter."""
    other = np.resize(caller, len(samples))
    level = active_level(samples) / active_level(other) * 10 ** (-below / 20)
    return to_pcm(0.7 * (samples + level * other)).astype(np.float64)


def revocoded(samples: Audio) -> Audio:
    """Taken apart and spoken again by the WORLD vocoder, at 16 kHz."""
    import pyworld

    parts = []
    for at in range(0, len(samples), 20 * RATE):
        wide = resampled(samples[at : at + 20 * RATE] / 32768, RATE, 16000)
        pitch, times = pyworld.harvest(wide, 16000)
        envelope = pyworld.cheaptrick(wide, pitch, times, 16000)
        noise = pyworld.d4c(wide, pitch, times, 16000)
        spoken = pyworld.synthesize(pitch, envelope, noise, 16000)[: len(wide)]
        parts.append(resampled(spoken, 16000, RATE) * 32768)
    return np.concatenate(parts)


def subtracted(samples: Audio) -> Audio:
    """Every weak spectral component taken out: a crude attempt at what hides under the speech."""
    size, hop = 256, 64
    taper = np.sqrt(np.hanning(size + 1)[:-1])
    padded = np.pad(samples, size)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * taper
    spectrum = np.fft.rfft(frames, axis=1)
    power = np.abs(spectrum) ** 2
    spectrum *= power > np.quantile(power, 0.5, axis=1, keepdims=True)
    out = np.zeros(len(padded))
    for n, frame in enumerate(np.fft.irfft(spectrum, size, axis=1) * taper):
        out[n * hop : n * hop + size] += frame / 2
    return out[size : size + len(samples)]


def cases(caller: Audio) -> list[Case]:
    """The rows of the table; ``caller`` is who talks over it."""

    def chain(*steps: Attack) -> Attack:
        def run(samples: Audio) -> Audio:
            for step in steps:
                samples = step(samples)
            return samples

        return run

    def found(name: str, attack: Attack) -> Case:
        return Case(name, attack)

    opus12, mp3_32 = partial(opus, bit_rate=12000), partial(mp3, bit_rate=32000)
    return [
        found("nothing", lambda x: x),
        found("G.711 µ-law", mu_law),
        found("G.711 A-law", a_law),
        found("G.722", lambda x: coded(x, "g722", "wav", rate=16000)),
        found("Opus 24k", partial(opus, bit_rate=24000)),
        found("Opus 16k", partial(opus, bit_rate=16000)),
        found("Opus 12k", opus12),
        found("Opus 12k, 8 kHz", partial(opus, bit_rate=12000, rate=8000)),
        found("Opus 8k", partial(opus, bit_rate=8000, rate=8000)),
        found("GSM-FR", partial(by_sox, file_type="gsm")),
        found("AMR 12.2", partial(amr, bit_rate=12200)),
        found("AMR 7.4", partial(amr, bit_rate=7400)),
        found("AMR 4.75", partial(amr, bit_rate=4750)),
        found("Codec2 3200", partial(codec2, mode="3200")),
        found("MP3 32k", mp3_32),
        found("MP3 16k", partial(mp3, bit_rate=16000)),
        found("AAC 24k", lambda x: coded(x, "aac", "mp4", bit_rate=24000, rate=16000)),
        found("µ-law → Opus 12k → MP3 32k", chain(mu_law, opus12, mp3_32)),
        found("AMR 12.2 → µ-law → MP3 32k", chain(partial(amr, bit_rate=12200), mu_law, mp3_32)),
        found("denoiser (afftdn 20 dB)", lambda x: filtered(mu_law(x), ("afftdn", "nr=20:nf=-40"))),
        found("denoiser (anlmdn)", lambda x: filtered(mu_law(x), ("anlmdn", "s=0.0005"))),
        found("levelling (dynaudnorm)", lambda x: filtered(mu_law(x), ("dynaudnorm", "f=200:g=7"))),
        found("white noise 20 dB", partial(noisy, snr=20)),
        found("white noise 10 dB", partial(noisy, snr=10)),
        found("clipped by 18 dB", lambda x: to_pcm(8 * x).astype(np.float64)),
        found("in a room, re-recorded", lambda x: in_a_room(mu_law(x))),
        found("caller over it, 6 dB below", lambda x: mixed(mu_law(x), caller, 6)),
        found("caller over it, 0 dB", lambda x: mixed(mu_law(x), caller, 0)),
        found("2 % loss, concealed", lambda x: lossy(mu_law(x), 0.02, concealed=True)),
        found("5 % loss, concealed", lambda x: lossy(mu_law(x), 0.05, concealed=True)),
        found("5 % loss, silent", lambda x: lossy(mu_law(x), 0.05, concealed=False)),
        found("resampled 11025 Hz", lambda x: resampled(resampled(x, RATE, 11025), 11025, RATE)),
        found("clock 200 ppm off", partial(faster, speed=1.0002)),
        found("tempo +3 % (atempo)", lambda x: filtered(x, ("atempo", "1.03"))),
        found("tempo −3 % (sox)", lambda x: by_sox(x, "tempo", "-s", "0.97")),
        found("tempo +3 % → Opus 12k", lambda x: opus12(filtered(x, ("atempo", "1.03")))),
        Case("speed +1 %", partial(faster, speed=1.01), thorough=True),
        Case("speed +3 %", partial(faster, speed=1.03), thorough=True),
        Case("speed −3 %", partial(faster, speed=0.97), thorough=True),
        Case(
            "speed +3 % → µ-law → Opus 12k",
            chain(partial(faster, speed=1.03), mu_law, opus12),
            True,
        ),
        Case("pitch +3 % (sox)", lambda x: by_sox(x, "pitch", "51"), thorough=True),
        Case("pitch −3 % (sox)", lambda x: by_sox(x, "pitch", "-53"), thorough=True),
        found("weak half of the spectrum removed", subtracted),
        found("re-vocoded (WORLD)", revocoded),
    ]
