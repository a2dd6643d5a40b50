"""The quality bench of cloned voices: ``make bench-voices``.

Four real speakers of Asterisk's prompts are cloned as an enrolment would, from 30 s of their
recordings, and measured against up to 60 s that the clone never heard. Everybody a clone could be
mistaken for is a candidate: the other speakers, nine more people, and the stock voices.

Prints a table, writes ``quality.json`` and plots to ``build/voices/``, compares with the
committed baseline, and exits with 1 where a figure fell. ``--update`` makes the run the baseline.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt
from enrolment_corpus import Speaker as Corpus
from enrolment_corpus import speakers

from ringtrue.streaming.ports import SynthesisStream
from ringtrue.voices.cloning.adapt import eased
from ringtrue.voices.cloning.model import CloneModel
from ringtrue.voices.cloning.script import JUDGING, LEARNING
from ringtrue.voices.embedded import EmbeddedEngine
from ringtrue.voices.engine import Progress, Speech
from ringtrue.voices.quality.likeness import spoken
from ringtrue.voices.quality.measure import RATE, Examiner, Recording, Speaker
from ringtrue.voices.quality.report import Report, Row, drops, goals, table
from ringtrue.voices.quality.script import MEASURED
from ringtrue.voices.renderer import POSTFILTER
from ringtrue.voices.stock import FliteEngine

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / "scripts" / "voices_baseline.json"
TARGETS = {
    "en_US_f_Allison": "allison",
    "fr_CA_f_June": "june",
    "it_IT_m_Carlo": "carlo",
    "ru_RU_f_IvrvoiceRU": "ivr_ru",
}
ENROL_SECONDS = 30.0
HELD_OUT_SECONDS = 60.0
BACKGROUND_SECONDS = 20.0
SHORTEST = 2.5
SHARES = (0.6, 1.2)
"""Of the way from the stock voice (0) to the clone (1), for the frontier."""


class Point(NamedTuple):
    """One point of a frontier."""

    share: float
    cosine: float
    wer: float
    p808: float


class Stock:
    """A stock voice, where a prepared one is asked for."""

    speaks_markup = True

    def __init__(self, engine: FliteEngine, name: str) -> None:
        """Speak in ``name``."""
        self._engine = engine
        self._name = name

    def open(self, rate: int) -> SynthesisStream:
        """Start an utterance."""
        return self._engine.open(self._name, rate)


def say(text: str) -> None:
    """Progress, beside the results."""
    print(text, file=sys.stderr, flush=True)


def divided(corpus: Corpus, name: str) -> Speaker:
    """Recordings by file, in an order drawn from their names, none of them twice."""
    enrolment: list[Recording] = []
    held_out: list[Recording] = []
    seen: set[bytes] = set()
    clips = sorted(corpus.clips, key=lambda c: hashlib.sha256(c.path.name.encode()).digest())
    for clip in clips:
        samples = clip.samples()
        digest = hashlib.sha256(samples.tobytes()).digest()
        if len(samples) < SHORTEST * RATE or digest in seen:
            continue
        seen.add(digest)
        if sum(map(len, enrolment)) < ENROL_SECONDS * RATE:
            enrolment.append(samples)
        elif sum(map(len, held_out)) < HELD_OUT_SECONDS * RATE:
            held_out.append(samples)
        else:
            break
    return Speaker(name, enrolment, held_out)


def background(corpus: Corpus) -> Recording | None:
    """Some speech of somebody who is no candidate, clip by clip; None where there is little."""
    parts: list[Recording] = []
    total = 0
    for clip in sorted(corpus.clips, key=lambda c: hashlib.sha256(c.path.name.encode()).digest()):
        try:
            samples = clip.samples()
        except (av.error.FFmpegError, UnicodeDecodeError):
            continue  # some files of the packages are in formats that nothing here decodes
        parts.append(samples)
        total += len(samples)
        if total >= BACKGROUND_SECONDS * RATE:
            return np.concatenate(parts)[: int(BACKGROUND_SECONDS * RATE)]
    return None


def blended(model: CloneModel, share: float) -> CloneModel:
    """``share`` of the way from the stock voice to ``model``."""
    strengths = model.strengths * share
    strengths[0] += 1.0 - share
    return replace(
        eased(model, share),
        pitch=model.pitch.eased(share, share),
        strengths=strengths,
        rate=1.0 + share * (model.rate - 1.0),
        liveliness=share * model.liveliness,
        hush=share * model.hush,
        postfilter=min(1.0, max(0.0, POSTFILTER + share * (model.postfilter - POSTFILTER))),
    )


class Bench:
    """One run."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Load the corpus."""
        self.out: Path = arguments.out
        self.frontier: bool = not arguments.quick
        found = {one.name: one for one in speakers()}
        missing = [name for name in TARGETS if name not in found]
        if missing:
            raise SystemExit(
                f"no recordings of {', '.join(missing)}: python scripts/enrolment_corpus.py --fetch"
            )
        self.targets = [divided(found[folder], name) for folder, name in TARGETS.items()]
        divisions = [
            divided(one, one.name)
            for one in found.values()
            if one.continuous and one.name not in TARGETS
        ]
        self.others = {one.name: (*one.enrolment, *one.held_out) for one in divisions}
        self.background = [
            recording
            for one in found.values()
            if not one.continuous and (recording := background(one)) is not None
        ]
        say(
            f"corpus: {len(self.targets)} targets, {len(self.others)} other candidates, "
            f"{len(self.background)} background speakers"
        )
        self.stock = FliteEngine(threads=1)
        self.engine = EmbeddedEngine(self.stock)
        self.rows: list[Row] = []
        self.errors: dict[str, tuple[float, float]] = {}
        self.lines: dict[str, list[Point]] = {}
        self.matrix: dict[str, npt.NDArray[np.float32]] = {}

    async def run(self) -> Report:
        """Measure everything."""
        await self.engine.warm()
        bases = {
            name: await spoken(Stock(self.stock, name), MEASURED) for name in self.stock.voices
        }
        candidates: dict[str, Sequence[Recording]] = {
            one.name: one.held_out for one in self.targets
        } | self.others
        for name in self.stock.voices:
            candidates[name] = await spoken(Stock(self.stock, name), LEARNING)
        examiner = Examiner(candidates, self.background, MEASURED, (*LEARNING, *JUDGING))
        try:
            for speaker in self.targets:
                await self._measure(examiner, speaker, bases)
        finally:
            examiner.close()
            await self.engine.close()
            await self.stock.close()
        self._plots(tuple(candidates))
        return Report(tuple(self.rows))

    async def _measure(
        self, examiner: Examiner, speaker: Speaker, bases: dict[str, list[Recording]]
    ) -> None:
        def shown(progress: Progress) -> None:
            say(f"  {speaker.name}: {progress.done:4.0%} {progress.doing}")

        started = time.perf_counter()
        state = await self.engine.clone(Speech(np.concatenate(speaker.enrolment)), shown)
        seconds = time.perf_counter() - started
        model = CloneModel.from_bytes(state)
        cloned = await spoken(await self.engine.prepare(state), MEASURED)
        base = bases[model.base]
        if model.base not in self.errors:
            self.errors[model.base] = examiner.errors(base)
        say(f"  {speaker.name}: measuring")
        real = speaker.enrolment
        self.rows += [
            examiner.row(speaker.name, "real", real),
            examiner.row(speaker.name, "base", base, errors=self.errors[model.base]),
            examiner.row(
                speaker.name, "cloned", cloned, errors=examiner.errors(cloned), seconds=seconds
            ),
        ]
        for kind, utterances in (("real", real), (f"base {model.base}", base), ("cloned", cloned)):
            self.matrix[f"{speaker.name} {kind}"] = examiner.cosines(utterances)[1].mean(axis=0)
        self.out.mkdir(parents=True, exist_ok=True)
        from voice_plots import spectrograms

        spectrograms(
            self.out / f"spectrogram_{speaker.name}.png",
            speaker.name,
            {"real (other words)": speaker.held_out[0], f"stock {model.base}": base[0],
             "cloned": cloned[0]},
        )  # fmt: skip
        if self.frontier:
            ends = [
                Point(share, row.cosine, row.wer_general, row.p808)
                for share, row in enumerate(self.rows[-2:])
                if row.wer_general is not None
            ]
            between = [await self._point(examiner, speaker.name, model, at) for at in SHARES]
            self.lines[speaker.name] = sorted([*ends, *between])

    async def _point(self, examiner: Examiner, name: str, model: CloneModel, share: float) -> Point:
        state = blended(model, share).to_bytes()
        utterances = await spoken(await self.engine.prepare(state), MEASURED)
        row = examiner.row(name, "cloned", utterances)
        return Point(share, row.cosine, examiner.general_error_rate(utterances), row.p808)

    def _plots(self, columns: Sequence[str]) -> None:
        from voice_plots import frontier, similarity_matrix

        similarity_matrix(
            self.out / "similarity.png",
            tuple(self.matrix),
            columns,
            np.stack(list(self.matrix.values())),
        )
        if self.lines:
            frontier(
                self.out / "frontier.png",
                {name: [point[:3] for point in points] for name, points in self.lines.items()},
            )


def _printed(bench: Bench, report: Report) -> None:
    for line in table(report.rows):
        print(line)
    cloned = report.of("cloned")
    seconds = [row.seconds for row in cloned if row.seconds is not None]
    print(f"making a voice took {min(seconds):.0f} to {max(seconds):.0f} s")
    for name, points in bench.lines.items():
        shown = "  ".join(
            f"{at.share:g}: {at.cosine:.3f}/{at.wer:.3f}/{at.p808:.2f}" for at in points
        )
        print(f"frontier {name} (share: cosine/general WER/P.808)  {shown}")
    for text, reached in goals(report):
        print(f"{'reached' if reached else 'MISSED '}  {text}")


def main() -> int:
    """Run, print, compare; the exit status."""
    parser = argparse.ArgumentParser(description="Measure cloned voices on real speakers.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "voices")
    parser.add_argument("--quick", action="store_true", help="leave out the frontier")
    parser.add_argument("--update", action="store_true", help="make this run the baseline")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.nice(10)
    started = time.perf_counter()
    bench = Bench(arguments)
    report = asyncio.run(bench.run())
    report.write(arguments.out / "quality.json")
    _printed(bench, report)
    print(f"{math.ceil(time.perf_counter() - started)} s in all; files in {arguments.out}")
    if arguments.update:
        report.write(BASELINE)
        print(f"baseline written: {BASELINE}")
        return 0
    if not BASELINE.is_file():
        print(f"no baseline ({BASELINE}); --update makes this run the first")
        return 0
    worse = drops(report, Report.read(BASELINE))
    for text in worse:
        print(f"DROPPED  {text}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
