"""What is done to recordings, and how speech is synthesized, to measure an enrolment's checks."""

from __future__ import annotations

import asyncio
import io
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import av
import numpy as np
import soxr
from enrolment_corpus import RATE, UNPACKED, Audio, Speaker, read, speakers

from ringtrue.streaming.ports import SynthesisStream


def gain(samples: Audio, db: float) -> Audio:
    """Louder or softer; clipped at full scale."""
    return np.clip(samples * 10 ** (db / 20), -1, 1).astype(np.float32)


def noise(samples: Audio, snr_db: float, rng: np.random.Generator) -> Audio:
    """With pink noise at a ratio to the speech's loud half."""
    spectrum = np.fft.rfft(rng.normal(size=len(samples)))
    hz = np.fft.rfftfreq(len(samples), 1 / RATE)
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(hz, 30)), len(samples))
    frames = samples[: len(samples) // 320 * 320].reshape(-1, 320)
    power = np.mean(frames.astype(float) ** 2, axis=1)
    loud = np.mean(power[power >= np.median(power)])
    pink *= np.sqrt(loud / np.mean(pink**2)) * 10 ** (-snr_db / 20)
    return (samples + pink).astype(np.float32)


def coded(samples: Audio, codec: str, bits: int) -> Audio:
    """Through a codec and back, e.g. ``libmp3lame`` or ``libopus`` at ``bits`` a second."""
    container = {
        "libmp3lame": "mp3",
        "libopus": "ogg",
        "aac": "adts",
        "pcm_mulaw": "wav",
        "g722": "g722",
    }[codec]
    rate = {"libopus": 48000, "pcm_mulaw": 8000}.get(codec, RATE)
    source = samples if rate == RATE else soxr.resample(samples, RATE, rate)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        if codec not in ("pcm_mulaw", "g722"):
            stream.bit_rate = bits
        pcm = (np.clip(source, -1, 1) * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
        frame.sample_rate = rate
        frame.pts = 0
        resampler = av.AudioResampler(
            format=stream.codec_context.format,
            layout="mono",
            rate=rate,
            frame_size=stream.codec_context.frame_size or 1024,
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    with tempfile.NamedTemporaryFile(suffix=f".{container}") as file:
        file.write(buffer.getvalue())
        file.flush()
        return read(Path(file.name))


def speed(samples: Audio, factor: float) -> Audio:
    """Played ``factor`` times as fast, pitch and all."""
    return soxr.resample(samples, RATE * factor, RATE).astype(np.float32)


def room(samples: Audio, rng: np.random.Generator, seconds: float, direct: float) -> Audio:
    """In a room: exponentially decaying, darkening noise as its response.

    ``seconds`` is the time to fall by 60 dB, ``direct`` the ratio in dB of direct sound to the
    rest (10 is close to the microphone, 0 across a table).
    """
    n = int(seconds * RATE)
    t = np.arange(n) / RATE
    tail = rng.normal(size=n) * 10 ** (-3 * t / seconds)
    for start in range(0, n, n // 4 + 1):
        stop = start + n // 4 + 1
        width = 1 + 2 * (start // (n // 4 + 1))
        tail[start:stop] = np.convolve(tail[start:stop], np.ones(width) / width, "same")
    tail[: int(0.002 * RATE)] = 0
    tail *= 10 ** (-direct / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    size = len(samples) + n
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)
    return _levelled(wet[: len(samples)], samples)


def loudspeaker(samples: Audio, rng: np.random.Generator, low: float = 180.0) -> Audio:
    """From a small loudspeaker: no bass under ``low`` Hz, resonances, some distortion."""
    driven = samples / (np.quantile(np.abs(samples), 0.999) + 1e-9)
    driven = np.tanh(1.2 * driven) + 0.05 * driven**2
    spectrum = np.fft.rfft(driven)
    hz = np.fft.rfftfreq(len(driven), 1 / RATE)
    response = (hz / low) ** 2 / np.sqrt(1 + (hz / low) ** 4) / np.sqrt(1 + (hz / 6500) ** 6)
    for _ in range(5):
        centre, depth = rng.uniform(300, 6000), rng.uniform(-6, 6)
        response *= 10 ** (
            depth / 20 * np.exp(-(((np.log(np.maximum(hz, 1) / centre)) / 0.2) ** 2))
        )
    return _levelled(np.fft.irfft(spectrum * response, len(driven)), samples)


def replayed(samples: Audio, rng: np.random.Generator) -> Audio:
    """Played from a loudspeaker into a room and recorded there."""
    played = room(loudspeaker(samples, rng), rng, rng.uniform(0.2, 0.5), rng.uniform(0, 8))
    return noise(played, rng.uniform(22, 35), rng)


def microphone(samples: Audio, rng: np.random.Generator) -> Audio:
    """Another microphone: a smooth random response of some decibels, and its own noise."""
    spectrum = np.fft.rfft(samples)
    hz = np.fft.rfftfreq(len(samples), 1 / RATE)
    octaves = np.log2(np.maximum(hz, 40) / 40)
    curve = np.interp(octaves, np.arange(9), np.cumsum(rng.normal(0, 2.5, 9)))
    curve -= curve.mean()
    low = rng.uniform(50, 200)
    response = 10 ** (curve / 20) * (hz / low) / np.sqrt(1 + (hz / low) ** 2)
    return noise(
        _levelled(np.fft.irfft(spectrum * response, len(samples)), samples),
        rng.uniform(25, 45),
        rng,
    )


def _levelled(samples: np.ndarray, like: Audio) -> Audio:
    scale = np.sqrt(np.mean(like.astype(float) ** 2) / (np.mean(samples**2) + 1e-12))
    return np.clip(samples * scale, -1, 1).astype(np.float32)


def pieces(takes: Sequence[Audio], rng: np.random.Generator, count: int = 10) -> list[Audio]:
    """Word-length pieces, 0.3 to 0.7 s, of random takes, from within their speech."""
    found: list[Audio] = []
    while len(found) < count:
        take = takes[int(rng.integers(len(takes)))]
        length = int(rng.uniform(0.3, 0.7) * RATE)
        start = int(rng.integers(0, max(1, len(take) - length)))
        piece = take[start : start + length]
        if np.mean(piece**2) > 0.2 * np.mean(take**2):
            found.append(piece)
    return found


def at_quiet(takes: Sequence[Audio], rng: np.random.Generator, count: int = 10) -> list[Audio]:
    """As :func:`pieces`, cut where it is quietest within 150 ms of either end."""
    found: list[Audio] = []
    reach = int(0.15 * RATE)
    while len(found) < count:
        take = takes[int(rng.integers(len(takes)))]
        length = int(rng.uniform(0.4, 0.9) * RATE)
        if len(take) <= length + 2 * reach:
            continue
        start = int(rng.integers(reach, len(take) - length - reach))
        power = np.convolve(take**2, np.ones(160) / 160, "same")
        ends = [
            at - reach + int(np.argmin(power[at - reach : at + reach]))
            for at in (start, start + length)
        ]
        piece = take[ends[0] : ends[1]]
        if len(piece) > 0.2 * RATE and np.mean(piece**2) > 0.2 * np.mean(take**2):
            found.append(piece)
    return found


def joined(parts: Sequence[Audio], fade: float = 0.0, silence: float = 0.0) -> Audio:
    """Pieces end to end: faded over ``fade`` seconds, or ``silence`` seconds of zeros between."""
    out = parts[0]
    width = int(fade * RATE)
    for part in parts[1:]:
        if width:
            ramp = np.linspace(0, 1, width, dtype=np.float32)
            middle = out[-width:] * (1 - ramp) + part[:width] * ramp
            out = np.concatenate([out[:-width], middle, part[width:]])
        else:
            gap = np.zeros(int(silence * RATE), np.float32)
            out = np.concatenate([out, gap, part])
    return out


def vocoded(samples: Audio) -> Audio:
    """Taken apart and put together by WORLD: the speaker's own words, a synthetic waveform."""
    import pyworld

    wave = samples.astype(np.float64)
    rough, t = pyworld.dio(wave, RATE, f0_floor=60, f0_ceil=450)
    f0 = pyworld.stonemask(wave, rough, t, RATE)
    envelope = pyworld.cheaptrick(wave, f0, t, RATE)
    aperiodicity = pyworld.d4c(wave, f0, t, RATE)
    made = pyworld.synthesize(f0, envelope, aperiodicity, RATE)[: len(samples)]
    return _levelled(made, samples)


Say = Callable[[str], Audio]


def _command(arguments: list[str], text: str, to_input: bool = True) -> Audio:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        command = [argument.replace("OUT", str(path)) for argument in arguments]
        command = [argument.replace("TEXT", text) for argument in command]
        subprocess.run(
            command,
            input=text.encode() if to_input else None,
            check=True,
            timeout=60,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return read(path)


FESTIVAL: Final = {
    "festival-kal": "kal_diphone",
    "festival-ked": "ked_diphone",
    "festival-ona-hts": "upc_ca_ona_hts",
    "festival-lp": "lp_diphone",
    "festival-slt-hts": "cmu_us_slt_arctic_hts",
    "festival-pc": "pc_diphone",
    "festival-dita": "czech_dita",
    "festival-ph": "czech_ph",
    "festival-lj": "suo_fi_lj_diphone",
    "festival-mv": "hy_fi_mv_diphone",
}
FLITE: Final = ("slt", "awb", "rms", "kal16")
ESPEAK: Final = ("en-us", "en-gb", "fr", "it", "ru", "en-us+f3", "en-us+m5", "es+f2", "de+klatt2")

TEXTS: Final = (
    "I, John Miller, consent to the cloning of my voice for the reception of Example Limited. "
    "Seven four nine amber river.",
    "The harbour was quiet that morning, and the boats lay still on the grey water until the "
    "bells began to ring.",
    "Please wait a moment while I look for the papers that you sent us at the beginning of last "
    "week.",
    "There were three lemons on the table, a knife, and a letter that nobody in the house had "
    "opened.",
    "When the rain stopped we walked down to the old bridge and talked about the summer we had "
    "spent there.",
    "He never learned how to swim, although he had lived beside the lake for more than forty "
    "years.",
    "Our offices are open from nine to five, Monday to Friday, and on the first Saturday of each "
    "month.",
    "The train to the mountains leaves in twenty minutes from platform six, but it is usually a "
    "little late.",
    "She painted the door green, the windows white, and left the walls as the last owner had made "
    "them.",
    "If you would like to change your address, tell me the old one first and then the new one.",
)


def synthesizers() -> dict[str, Say]:
    """Every installed synthesizer, by name."""
    found: dict[str, Say] = {}
    if shutil.which("flite"):
        for voice in FLITE:
            found[f"flite-{voice}"] = lambda text, v=voice: _command(
                ["flite", "-voice", v, "-t", "TEXT", "-o", "OUT"], text, False
            )
    if shutil.which("espeak-ng"):
        for voice in ESPEAK:
            found[f"espeak-{voice}"] = lambda text, v=voice: _command(
                ["espeak-ng", "-v", v, "-w", "OUT", "TEXT"], text, False
            )
    if shutil.which("text2wave"):
        for name, voice in FESTIVAL.items():
            if any(Path("/usr/share/festival/voices").glob(f"*/{voice}")):
                found[name] = lambda text, v=voice: _command(
                    ["text2wave", "-eval", f"(voice_{v})", "-o", "OUT"], text
                )
    return found


PICO: Final = ("de-DE", "en-GB", "en-US", "es-ES", "fr-FR", "it-IT")
ESPEAK_FRESH: Final = ("sv+f4", "pl+m7", "pt-br", "nl+f5")


def fresh_synthesizers() -> dict[str, Say]:
    """Voices that nothing was fitted on: those of SVOX Pico, and some of espeak's."""
    from py_nanotts import NanoTTS

    pico = NanoTTS()

    def said(text: str, voice: str) -> Audio:
        return np.frombuffer(pico.speak(text, voice=voice), "<i2").astype(np.float32) / 32768

    found: dict[str, Say] = {f"pico-{voice}": lambda text, v=voice: said(text, v) for voice in PICO}
    for voice in ESPEAK_FRESH:
        found[f"espeak-{voice}"] = lambda text, v=voice: _command(
            ["espeak-ng", "-v", v, "-w", "OUT", "TEXT"], text, False
        )
    return found


CLONES: Final = UNPACKED / "clones"
CLONE_SECONDS: Final = 25


async def _spoken(stream: SynthesisStream, text: str) -> Audio:
    stream.feed(text)
    stream.finish()
    pcm = b"".join([chunk.pcm async for chunk in stream.frames()])
    return np.frombuffer(pcm, "<i2").astype(np.float32) / 32768


@asynccontextmanager
async def clone_voices(
    names: Sequence[str], among: Sequence[Speaker] | None = None, *, neural: bool = True
) -> AsyncIterator[dict[str, Say]]:
    """Our own clones of speakers, by their names, and the stock voices as ``stock-slt``, ….

    Who is cloned is looked for ``among`` these, or among those that may be learnt from. They speak
    by the neural vocoder, or by the pulse one where ``neural`` is false.

    A clone takes up to a minute and is kept under ``build/``; remove it there to make it anew.
    They may be called from any thread but the loop's own.
    """
    from ringtrue.voices.cloning.model import CloneModel
    from ringtrue.voices.embedded import EmbeddedEngine
    from ringtrue.voices.engine import Speech
    from ringtrue.voices.stock import FliteEngine

    loop = asyncio.get_running_loop()

    def said(open_stream: Callable[[], SynthesisStream]) -> Say:
        def say(text: str) -> Audio:
            return asyncio.run_coroutine_threadsafe(_spoken(open_stream(), text), loop).result(60)

        return say

    stock = FliteEngine(threads=1)
    engine = EmbeddedEngine(stock)
    await engine.warm()
    found: dict[str, Say] = {}
    CLONES.mkdir(parents=True, exist_ok=True)
    try:
        for voice in stock.voices:
            found[f"stock-{voice}"] = said(lambda voice=voice: stock.open(voice, RATE))
        for speaker in speakers() if among is None else among:
            if speaker.name not in names:
                continue
            kept = CLONES / f"{speaker.name}.state"
            if not kept.is_file():
                speech = np.concatenate(speaker.takes(2.5, 8))[: CLONE_SECONDS * RATE]
                kept.write_bytes(await engine.clone(Speech(speech), lambda _: None))
                print(f"cloned {speaker.name}", flush=True)
            model = replace(CloneModel.from_bytes(kept.read_bytes()), neural=neural)
            prepared = await engine.prepare(model.to_bytes())
            found[speaker.name] = said(lambda prepared=prepared: prepared.open(RATE))
        yield found
    finally:
        await engine.close()
        await stock.close()


async def cloned(
    names: Sequence[str], texts: Sequence[str], *, neural: bool = True
) -> dict[str, list[Audio]]:
    """``texts`` by :func:`clone_voices`; a clone of Ada is ``clone-Ada``."""
    async with clone_voices(names, neural=neural) as voices:

        def told() -> dict[str, list[Audio]]:
            return {
                name if name.startswith("stock-") else f"clone-{name}": [
                    say(text) for text in texts
                ]
                for name, say in voices.items()
            }

        return await asyncio.to_thread(told)


CLONED: Final = (
    "nsh-ru",
    "fish-cs-m",
    "fish-cs-v",
    "fish-nl-m",
    "fish-nl-v",
    "en_US_f_Allison",
    "fr_CA_f_June",
    "it_IT_m_Carlo",
    "ru_RU_f_IvrvoiceRU",
    "librivox",
    "horizons-en",
)
"""Speakers that clones are made of."""
