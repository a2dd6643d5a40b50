"""Speech for the watermark's bench: real, and this server's own."""

from __future__ import annotations

import asyncio
import sys
import wave
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from watermark_attacks import RATE, Audio, resampled, to_pcm

ROOT: Final = Path(__file__).resolve().parent.parent
OUT: Final = ROOT / "build" / "watermark"
PROMPTS: Final = Path("/usr/share/asterisk/sounds")
SPEAKERS: Final = ("en_US_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU")
STOCK: Final = "slt"
CLONED: Final = "en_US_f_Allison"
HOST_SECONDS: Final = 60.0
OWN_TEXTS: Final = 24
LONGEST_PAUSE: Final = 0.25


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def prompts(speaker: str, part: int = 0) -> Audio:
    """The ``part``-th minute of one speaker's prompts at 8 kHz, without long pauses."""
    parts: list[Audio] = []
    total, size = 0, int(HOST_SECONDS * RATE)
    for path in sorted((PROMPTS / speaker).glob("*.wav")):
        with wave.open(str(path)) as file:
            pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)
            heard = resampled(pcm, file.getframerate(), RATE)
        if len(heard) < RATE or "tone" in path.name or "beep" in path.name:
            continue
        parts.append(without_pauses(heard))
        total += len(parts[-1])
        if total > (part + 1) * size:
            break
    if total <= part * size:
        raise SystemExit(
            f"{PROMPTS / speaker}: {total / RATE:.0f} s of speech, and part {part} begins at "
            f"{part * HOST_SECONDS:.0f} s; the packages are asterisk-core-sounds-*-wav"
        )
    return np.concatenate(parts)[part * size : (part + 1) * size]


def without_pauses(samples: Audio) -> Audio:
    """With pauses cut to :data:`LONGEST_PAUSE`."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    quiet = ~active(samples)
    run, keep = 0, []
    for still in quiet:
        run = run + 1 if still else 0
        keep.append(run * 0.02 <= LONGEST_PAUSE)
    return frames[np.array(keep)].ravel()


def active(samples: Audio) -> npt.NDArray[np.bool_]:
    """Frames of 20 ms within 30 dB of the loud ones."""
    power = (samples[: len(samples) // 160 * 160].reshape(-1, 160) ** 2).mean(axis=1)
    return np.asarray(power > np.percentile(power, 95) * 1e-3)


async def own_speech(part: int) -> dict[str, Audio]:
    """A stock voice's speech and a clone's, at 8 kHz: the ``part``-th :data:`OWN_TEXTS` texts."""
    from ringtrue.voices.cloning.script import JUDGING, LEARNING
    from ringtrue.voices.embedded import EmbeddedEngine
    from ringtrue.voices.engine import Speech
    from ringtrue.voices.quality.likeness import spoken
    from ringtrue.voices.quality.script import MEASURED
    from ringtrue.voices.saying import said
    from ringtrue.voices.stock import FliteEngine

    texts = (*MEASURED, *LEARNING, *JUDGING)[part * OWN_TEXTS : (part + 1) * OWN_TEXTS]
    if len(texts) < OWN_TEXTS:
        raise SystemExit(f"part {part}: there are texts for parts 0 and 1 only")
    stock = FliteEngine(threads=1)
    engine = EmbeddedEngine(stock)
    try:
        await engine.warm()
        plain = bytearray()
        for text in texts:
            async for chunk in said(stock.open(STOCK, RATE), text):
                plain += chunk.pcm
        speaker = resampled(prompts(CLONED, part)[: 30 * RATE] / 32768, RATE, 16000)
        state = await engine.clone(Speech(speaker.astype(np.float32)), lambda progress: None)
        cloned = np.concatenate(await spoken(await engine.prepare(state), texts))
    finally:
        await engine.close()
        await stock.close()
    limit = int(HOST_SECONDS * RATE)
    return {
        f"stock {STOCK}": np.frombuffer(plain, "<i2").astype(np.float64)[:limit],
        "clone": resampled(cloned.astype(np.float64) * 32768, 16000, RATE)[:limit],
    }


def hosts(part: int = 0) -> dict[str, Audio]:
    """What is marked, by name: a minute of every source, no two parts the same."""
    found = {name: prompts(name, part) for name in SPEAKERS}
    kept = OUT / ("own_speech.npz" if part == 0 else f"own_speech_{part}.npz")
    if not kept.exists():
        say("cloning a voice and speaking …")
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **{name: to_pcm(pcm) for name, pcm in asyncio.run(own_speech(part)).items()})
    with np.load(kept) as own:
        found |= {name: own[name].astype(np.float64) for name in own.files}
    return found
