"""How alike a clone's windows of 1.6 s are: where the rolling check of a call may alarm.

Clones of ``enrolment_attacks.py`` (made where they are missing) speak for some minutes each, are
marked as in a gate, at 8 and 16 kHz, and every window is compared with how the clone sounded when
it said the sentences of an enrolment. So are windows of other voices: the other clones, the stock
voices, and people's recordings. Prints quantiles, and for each limit and row: alarms of the right
voice, and after how many windows a wrong one is found. Adds to ``build/likeness.npz``, voice by
voice.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import soxr
from enrolment_attacks import CLONE_SECONDS, CLONED, clone_voices
from enrolment_corpus import ROOT, Speaker, speakers

from ringtrue.streaming.gate import FrameKind
from ringtrue.voices.encoder import EncoderError, SpeakerEncoder
from ringtrue.voices.quality.likeness import SENTENCES
from ringtrue.voices.quality.script import MEASURED
from ringtrue.voices.rolling_likeness import RATES, WINDOW_SECONDS, Windows, sound_of
from ringtrue.voices.watermark.keyring import MarkKeys
from ringtrue.voices.watermark.keys import MarkKey
from ringtrue.voices.watermark.marker import Marker

OUT: Final = ROOT / "build" / "likeness.npz"
RATE: Final = 16000
LIMITS: Final = (0.60, 0.65, 0.68, 0.70, 0.72, 0.74, 0.76)
ROWS: Final = (3, 4, 5)
HELD_OUT_SECONDS: Final = 90.0

Audio = npt.NDArray[np.float32]


def sentences(count: int) -> list[str]:
    """What agents say, with other numbers in it each time."""
    chance = random.Random(7)
    digits = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "zero")
    found = []
    for n in range(count):
        spoken = " ".join(chance.choice(digits) for _ in range(chance.randint(2, 6)))
        found.append(f"{MEASURED[n % len(MEASURED)][:-1]}. The number is {spoken}.")
    return found


def windows_of(recordings: Sequence[Audio], rate: int) -> list[npt.NDArray[np.int16]]:
    """Windows as the gate's listener cuts them, of marked audio at ``rate``."""
    marker = Marker(MarkKeys.of(MarkKey.generate()), rate, datetime.now(UTC))
    cut, size, found = Windows(rate), rate // 50, []
    for samples in recordings:
        wave = samples if rate == RATE else soxr.resample(samples, RATE, rate)
        pcm = np.clip(np.rint(wave * 32767), -32768, 32767).astype("<i2")
        frames = pcm[: len(pcm) // size * size].reshape(-1, size)
        sent = b"".join(marker.mark(frame.tobytes(), FrameKind.SPEECH) for frame in frames)
        found += cut.feed(sent)
    return found


class Listener:
    """Embeds windows, leaving out those without enough speech."""

    def __init__(self) -> None:
        """Load the encoder."""
        self._encoder = SpeakerEncoder.load()

    def speaker(self, speech: Audio) -> npt.NDArray[np.float32]:
        """An enrolled speaker."""
        return self._encoder.embed(speech, RATE)

    def sound(self, recordings: Sequence[Audio]) -> npt.NDArray[np.float32]:
        """How a voice sounds at each of :data:`RATES`."""
        return np.frombuffer(sound_of(recordings, self._encoder), "<f4").reshape(len(RATES), -1)

    def embedded(self, recordings: Sequence[Audio], rate: int) -> npt.NDArray[np.float32]:
        """``(windows, 256)``, in order."""
        found = []
        for window in windows_of(recordings, rate):
            try:
                found.append(self._encoder.embed(window, rate))
            except EncoderError:
                continue
        return np.stack(found) if found else np.zeros((0, 256), np.float32)


def levelled(samples: Audio) -> Audio:
    """At the level voices speak at."""
    rms = float(np.sqrt(np.mean(samples**2)))
    return np.asarray(samples * min(10 ** (-22 / 20) / max(rms, 1e-9), 20.0), np.float32)


def parts(speaker: Speaker) -> tuple[Audio, list[Audio]]:
    """What the clone was made of, and recordings it was not."""
    takes = speaker.takes(2.5, 40)
    enrolment = np.concatenate(takes[:8])[: CLONE_SECONDS * RATE]
    held, total = [], 0.0
    for take in takes[8:]:
        held.append(levelled(take))
        total += len(take) / RATE
        if total > HELD_OUT_SECONDS:
            break
    return enrolment, held


async def collect(count: int, names: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
    """Embeddings by ``kind/speaker/rate``."""
    texts, listener = sentences(count), Listener()
    found: dict[str, npt.NDArray[np.float32]] = {}
    for speaker in speakers():
        if speaker.name not in names:
            continue
        enrolment, held = parts(speaker)
        found[f"speaker/{speaker.name}/0"] = listener.speaker(enrolment)
        for rate in RATES:
            found[f"real/{speaker.name}/{rate}"] = listener.embedded(held, rate)
    async with clone_voices(names) as voices:
        for name, say in voices.items():
            recordings = await asyncio.to_thread(lambda say=say: [say(text) for text in texts])
            enrolled = await asyncio.to_thread(lambda say=say: [say(text) for text in SENTENCES])
            sounds = await asyncio.to_thread(listener.sound, enrolled)
            for rate, sound in zip(RATES, sounds, strict=True):
                found[f"sound/{name}/{rate}"] = sound
                found[f"voice/{name}/{rate}"] = await asyncio.to_thread(
                    listener.embedded, recordings, rate
                )
            print(f"heard {name}", flush=True)
    return found


def rows_under(cosines: npt.NDArray[np.float64], limit: float, row: int) -> list[int]:
    """Windows at which an alarm would be raised, each starting anew."""
    alarms, length = [], 0
    for at, cosine in enumerate(cosines):
        length = length + 1 if cosine < limit else 0
        if length == row:
            alarms.append(at)
            length = 0
    return alarms


def quantiles(title: str, cosines: npt.NDArray[np.float64]) -> str:
    """A line of a table."""
    shown = " | ".join(f"{value:.2f}" for value in np.quantile(cosines, (0, 0.01, 0.1, 0.5, 0.99)))
    return f"| {title} | {len(cosines)} | {shown} |"


def report(found: dict[str, npt.NDArray[np.float32]]) -> None:
    """Print the tables."""
    people = {key.split("/")[1]: found[key] for key in found if key.startswith("speaker/")}
    for rate in RATES:
        right, wrong, speaker = {}, {}, {}
        for name, person in people.items():
            sound = found[f"sound/{name}/{rate}"].astype(np.float64)
            for key, heard in found.items():
                kind, who, at = key.split("/")
                if kind not in ("voice", "real") or at != str(rate) or not len(heard):
                    continue
                if kind == "voice" and who == name:
                    right[name] = heard @ sound
                    speaker[name] = heard @ person.astype(np.float64)
                elif who != name:  # the speaker's own speech is neither right nor a stranger's
                    wrong[f"{kind} {who} as {name}"] = heard @ sound
        together = np.concatenate(list(right.values()))
        print(f"\n{rate} Hz: cosine of windows to the clone's sound at enrolment")
        print("| windows of | number | least | 1 % | 10 % | median | 99 % |")
        print("|---|---|---|---|---|---|---|")
        for name, cosines in right.items():
            print(quantiles(f"the clone of {name}", cosines))
        print(quantiles("all clones", together))
        print(quantiles("another voice", np.concatenate(list(wrong.values()))))
        print(quantiles("all clones, to the speaker", np.concatenate(list(speaker.values()))))
        hours = len(together) * WINDOW_SECONDS / 3600
        print(f"\n{hours:.2f} h of the right voices; {len(wrong)} wrong pairs of voice and clone")
        print(
            "| limit | windows under it | row | alarms, right voice | wrong voices found | after |"
        )
        print("|---|---|---|---|---|---|")
        for limit in LIMITS:
            under = f"{100 * np.mean(together < limit):.2f} %"
            for row in ROWS:
                false = sum(len(rows_under(each, limit, row)) for each in right.values())
                first = [rows_under(each, limit, row)[:1] for each in wrong.values()]
                hits = [each[0] + 1 for each in first if each]
                share = 100 * len(hits) / len(first)
                after = f"{np.median(hits):.0f} windows" if hits else "–"
                print(f"| {limit:.2f} | {under} | {row} | {false} | {share:.0f} % | {after} |")


def main() -> None:
    """Collect, unless it was, and print."""
    parser = argparse.ArgumentParser(description="Measure clones in windows of 1.6 s.")
    parser.add_argument("--sentences", type=int, default=120, help="each voice says (5 s each)")
    parser.add_argument("--voices", nargs="*", default=list(CLONED), help="speakers cloned")
    parser.add_argument("--again", action="store_true", help="report what is in build/ already")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    if not arguments.again:
        found = asyncio.run(collect(arguments.sentences, arguments.voices))
        if arguments.out.is_file():
            with np.load(arguments.out) as kept:
                found = {name: kept[name] for name in kept.files} | found
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(arguments.out, **found)
    with np.load(arguments.out) as kept:
        report({name: kept[name] for name in kept.files})


if __name__ == "__main__":
    main()
