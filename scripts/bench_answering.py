"""How often the answer to a placed call is judged rightly: ``python scripts/bench_answering.py``.

Greetings of people and machines, spoken by flite's voices and put together from Asterisk's recorded
prompts (real voices; what they say in under 1.2 s stands for a person's short answer), on lines
with noise of 3, 30 and 120 LSB. Machines end with a beep. No words are recognized: cadence and
beeps alone are judged. Needs ``flite`` and ``asterisk-core-sounds-{en,fr,it,ru}-wav``.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import wave
from collections import Counter, defaultdict
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.streaming.answering.beep import BeepDetector
from ringtrue.streaming.answering.judge import AnsweredBy, AnswerJudge, Verdict

RATE: Final = 8000
SOUNDS: Final = Path("/usr/share/asterisk/sounds")
SPEAKERS: Final = ("en_US_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU")
VOICES: Final = ("slt", "awb", "rms", "kal")
NOISES: Final = (3.0, 30.0, 120.0)

PEOPLE: Final = (
    "Hello?",
    "Yes?",
    "Hello, this is Anna.",
    "Smith speaking.",
    "Yes, hello?",
    "Good morning, Miller and Sons, how can I help you?",
    "Hi, who is this?",
    "Speaking.",
    "Hello? Hello?",
    "Baker residence.",
    "Acme Limited, Susan speaking, good afternoon.",
    "Yeah?",
    "Hi.",
    "This is Tom.",
)
MACHINES: Final = (
    "Hi, you've reached John. I can't come to the phone right now. "
    "Please leave a message after the tone.",
    "Hello, this is the voicemail of Susan Miller. "
    "Leave your name and number and I'll call you back.",
    "The person you are calling is not available. Please leave a message after the beep.",
    "You have reached five five five, one two three four. Nobody is available to take your call.",
    "Hey, it's Tom. Leave a message.",
    "We're not home. Beep.",
    "Thank you for calling Acme. Our office is currently closed. Our hours are nine to five.",
)
VOICEMAIL: Final = (
    ("vm-intro",),
    ("vm-instructions",),
    ("vm-isunavail",),
    ("vm-theperson", "vm-isunavail"),
    ("vm-theperson", "digits/1", "vm-isunavail", "vm-intro"),
    ("vm-theperson", "vm-isonphone", "vm-intro"),
)
TONES: Final = ("beep", "beeperr", "confbridge-join", "confbridge-leave", "ascending-2tone")
"""Prompts that are beeps."""

Pcm = npt.NDArray[np.int16]


class Tally:
    """Verdicts by what was played."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.verdicts: dict[str, Counter[str]] = defaultdict(Counter)
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def add(self, kind: str, verdict: Verdict | None) -> None:
        """Count one call."""
        self.verdicts[kind][str(verdict.by if verdict else AnsweredBy.UNKNOWN)] += 1
        if verdict is not None:
            self.seconds[kind].append(verdict.seconds)


def main() -> int:
    """Judge them all and print the table."""
    chance = np.random.default_rng(3)
    picking = random.Random(3)
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        for kind, texts in (("person, synthetic", PEOPLE), ("machine, synthetic", MACHINES)):
            for text in texts:
                for voice in VOICES:
                    pcm = _spoken(text, voice, Path(folder))
                    for noise in NOISES:
                        end = _beep(chance) if kind.startswith("machine") else _silence(0)
                        tally.add(kind, _judged(np.concatenate([pcm, end]), noise, chance))
    for speaker in SPEAKERS:
        files = sorted((SOUNDS / speaker).glob("*.wav"))
        short = [pcm for pcm in map(_read, files) if 0.35 <= len(pcm) / RATE <= 1.2]
        for pcm in picking.sample(short, min(60, len(short))):
            tally.add("short words, recorded", _judged(pcm, 30, chance))
        for names in VOICEMAIL:
            parts = [_read(SOUNDS / speaker / f"{name}.wav") for name in names]
            for _ in range(6):
                gaps = [_silence(chance.uniform(0.05, 0.3)) for _ in parts]
                joined = [each for pair in zip(parts, gaps, strict=True) for each in pair]
                played = np.concatenate([*joined, _beep(chance)])
                tally.add("voicemail, recorded", _judged(played, 30, chance))
    _print(tally)
    _print_beeps()
    return 0


def _print(tally: Tally) -> None:
    print(f"{'played':24}{'human':>8}{'machine':>9}{'unknown':>9}   known after, median / p95")
    for kind, verdicts in tally.verdicts.items():
        counts = "".join(f"{verdicts[str(by)]:>{8 + (by != 'human')}}" for by in AnsweredBy)
        median, late = np.percentile(tally.seconds[kind], [50, 95])
        print(f"{kind:24}{counts}   {median:.1f} / {late:.1f} s")


def _print_beeps() -> None:
    found, seconds = [], 0.0
    for speaker in SPEAKERS:
        for path in sorted((SOUNDS / speaker).glob("*.wav")):
            if path.stem in TONES:
                continue
            detector, pcm = BeepDetector(RATE), _read(path)
            seconds += len(pcm) / RATE
            if any(detector.push(frame) for frame in _frames(pcm)):
                found.append(f"{speaker}/{path.name}")
    print(f"beeps heard in {seconds / 60:.0f} minutes of speech: {len(found)} {' '.join(found)}")


def _judged(pcm: Pcm, noise: float, chance: np.random.Generator) -> Verdict | None:
    whole = np.concatenate([_silence(chance.uniform(0.1, 0.8)), pcm, _silence(6)]).astype(float)
    whole += chance.normal(scale=noise, size=len(whole))
    judge = AnswerJudge(RATE)
    for frame in _frames(np.clip(np.rint(whole), -32768, 32767).astype(np.int16)):
        judge.push(frame)
    return judge.verdict


def _frames(pcm: Pcm) -> list[bytes]:
    return [pcm[start : start + 160].tobytes() for start in range(0, len(pcm) - 159, 160)]


def _beep(chance: np.random.Generator) -> Pcm:
    length = int(chance.uniform(0.2, 1) * RATE)
    hertz = chance.choice([440, 800, 1000, 1400])
    wave_ = 6000 * np.sin(2 * np.pi * hertz / RATE * np.arange(length))
    return np.concatenate([_silence(chance.uniform(0.2, 1)), wave_.astype(np.int16)])


def _silence(seconds: float) -> Pcm:
    return np.zeros(int(seconds * RATE), np.int16)


def _spoken(text: str, voice: str, folder: Path) -> Pcm:
    path = folder / "spoken.wav"
    subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
    return _read(path)


def _read(path: Path) -> Pcm:
    with wave.open(str(path)) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        if file.getframerate() == 2 * RATE:
            pcm = pcm[: len(pcm) // 2 * 2].reshape(-1, 2).mean(axis=1).astype(np.int16)
    return pcm


if __name__ == "__main__":
    sys.exit(main())
