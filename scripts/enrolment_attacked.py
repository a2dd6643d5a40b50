"""Three hundred attacks on an enrolment, and what honest people get, through the desk itself.

    make bench-enrolment

fetches the speakers, makes clones of them, and tries every case against the checks exactly as they
ship; a quarter of an hour on one core. Nothing was fitted on these speakers and no threshold has
seen them: change a check only by what :func:`enrolment_corpus.speakers` show. ``--people examples``
takes the second set of them. ``--docs FILE`` also writes the tables between that file's markers.
``--seconds`` stops after a while, and the next run goes on. Results are kept under
``build/enrolment`` for these very checks: where one of them has changed, all cases are tried anew.

Every case is a challenge that :meth:`EnrolmentDesk.begin` issues and an :meth:`EnrolmentDesk.enrol`
with two WAV files, on a real library with a real store; what an attacker replays was put there as
an earlier voice's fingerprint. Two things are not as in service: checks run in this process, and an
accepted voice is made by a stock voice, which takes no minute.

Nobody in the corpus reads a challenge, so the wording check is made only of clones, which say the
challenge, and of ``wrong phrase``. All other attackers are given the right words for nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import tempfile
import time
import wave
import zlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import soxr
from enrolment_attacks import Say, clone_voices
from enrolment_cases import (
    Case,
    People,
    Plan,
    honest,
    others,
    played,
    replays,
    splices,
    syntheses,
    wrong_phrases,
)
from enrolment_checks import interval
from enrolment_corpus import RATE, ROOT, UNPACKED, Audio, Speaker, examples, readers

from ringtrue.config.voice_settings import VoicesSettings
from ringtrue.streaming.ports import SynthesisStream
from ringtrue.voices.consent.challenge import DEFAULT_TTL
from ringtrue.voices.consent.errors import ChallengeError, ChallengeRefusal
from ringtrue.voices.engine import OnProgress, Speech
from ringtrue.voices.enrolment.assessment import Assessment, AssessmentRequest, assess
from ringtrue.voices.enrolment.checks import wording
from ringtrue.voices.enrolment.desk import EnrolmentDesk
from ringtrue.voices.enrolment.errors import EnrolmentRefused, RecordingError
from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.enrolment.history import FINGERPRINTS, packed
from ringtrue.voices.library import Candidate, Statement, VoiceLibrary, open_library
from ringtrue.voices.library_config import library_config
from ringtrue.voices.stock import FliteEngine

SEED: Final = 11
NAME, PURPOSE, ENGINE = "Ada", "tests", "bench-1"
SETS: Final[dict[str, Callable[[], list[Speaker]]]] = {"readers": readers, "examples": examples}
START, END = "<!-- attacks on {}: begin -->", "<!-- attacks on {}: end -->"
STALE: Final = 25
CLONE: Final = "our clone"
LISTEN: Final = wording.listen


Scores = Mapping[str, tuple[float, float]]
"""By check, what was measured and what it was held against."""


@dataclass(frozen=True)
class Tried:
    """One case that was tried."""

    number: int
    group: str
    what: str
    failed: tuple[str, ...]
    """The checks that refused it."""

    scores: Scores = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Record:
    """What was tried of some people, kept for all that judges and is judged, to the byte."""

    who: str
    """One of :data:`SETS`."""

    @cached_property
    def path(self) -> Path:
        """The file it is kept in."""
        judges = ROOT / "voices" / "enrolment"
        files = sorted(path for path in judges.rglob("*") if path.suffix in (".py", ".npz"))
        files += [ROOT / "scripts" / f"enrolment_{what}.py" for what in ("cases", "corpus")]
        seal = zlib.crc32(b"".join(path.read_bytes() for path in files))
        return UNPACKED / f"attacked-{self.who}-{seal:08x}.jsonl"

    def keep(self, tried: Tried) -> None:
        """One case more."""
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(tried)) + "\n")

    def results(self) -> list[Tried]:
        """What was tried so far."""
        lines = self.path.read_text().splitlines() if self.path.is_file() else []
        return [Tried(**json.loads(line)) for line in lines]

    def done(self) -> set[int]:
        """The numbers of what was tried."""
        return {tried.number for tried in self.results()}


class BenchAssessor:
    """Makes every check in this process."""

    words_count = True
    last: Assessment | None = None
    """What was found last."""

    async def assess(self, request: AssessmentRequest, on_progress: OnProgress) -> Assessment:
        """As a job does it."""
        self.last = None
        wording.listen = LISTEN if self.words_count else _given
        try:
            self.last = assess(request, on_progress)
            return self.last
        finally:
            wording.listen = LISTEN


def _given(evidence: Evidence) -> tuple[Finding, str]:
    return Finding(Check.WORDING, True, 1.0, 0.0, "not held against the challenge"), "not heard"


class StockClone:
    """Implements ``VoiceEngine`` and ``PreparedVoice``: every voice is a stock one."""

    id = ENGINE
    speaks_markup = False

    def __init__(self, stock: FliteEngine) -> None:
        """Speak with ``stock``, which the caller closes."""
        self._stock = stock

    async def warm(self) -> None:
        """Nothing to do."""

    async def clone(self, speech: Speech, on_progress: OnProgress) -> bytes:
        """Nothing is made of the speech."""
        return b"stock"

    async def prepare(self, state: bytes) -> StockClone:
        """The one voice there is."""
        return self

    def open(self, rate: int) -> SynthesisStream:
        """An utterance."""
        return self._stock.open(self._stock.voices[0], rate)

    async def close(self) -> None:
        """Nothing to do."""


class Bench:
    """A desk, and how cases come before it."""

    def __init__(self, library: VoiceLibrary) -> None:
        """Enrol into ``library``."""
        self._library = library
        self._assessor = BenchAssessor()
        self._desk = EnrolmentDesk(library, assessor=self._assessor)

    async def refused_by(self, number: int, case: Case) -> tuple[tuple[str, ...], Scores]:
        """The checks that refuse a case, none where it was enrolled; and what all measured."""
        tenant, now = f"bench-{number}", datetime.now(UTC)
        if case.earlier:
            await self._enrolled_before(tenant, case.earlier, now)
        issued = await self._desk.begin(tenant, name=NAME, purpose=PURPOSE, now=now)
        statement = case.statement
        if not isinstance(statement, np.ndarray):
            statement = await asyncio.to_thread(statement, issued.challenge.text)
        self._assessor.words_count = case.words_count
        failed: tuple[str, ...] = ()
        try:
            await self._enrol(tenant, issued.token, statement, case, now)
        except EnrolmentRefused as refused:
            failed = tuple(str(found.check) for found in refused.findings if not found.passed)
        last = self._assessor.last
        findings = last.findings if last else ()
        return failed, {str(found.check): (found.score, found.threshold) for found in findings}

    async def stale(self, number: int, case: Case) -> dict[str, bool]:
        """Whether an expired and a used challenge enrol good recordings."""
        tenant, now = f"stale-{number}", datetime.now(UTC)
        taken = {}
        for kind, later, reason in (
            ("expired", DEFAULT_TTL + timedelta(seconds=1 + 60 * number), ChallengeRefusal.EXPIRED),
            ("reused", timedelta(seconds=5), ChallengeRefusal.USED),
        ):
            issued = await self._desk.begin(tenant, name=NAME, purpose=PURPOSE, now=now)
            if kind == "reused":
                with suppress(RecordingError):
                    await self._enrol(tenant, issued.token, None, case, now)
            try:
                await self._enrol(tenant, issued.token, case.speech, case, now + later)
                taken[kind] = True
            except ChallengeError as error:
                if error.reason is not reason:
                    raise
                taken[kind] = False
        return taken

    async def _enrol(
        self, tenant: str, token: str, statement: Audio | None, case: Case, now: datetime
    ) -> None:
        await self._desk.enrol(
            tenant,
            token,
            name=NAME,
            purpose=PURPOSE,
            statement=b"no recording" if statement is None else wav(statement, case.rates[0]),
            speech=wav(case.speech, case.rates[1]),
            engine=ENGINE,
            asked_by="bench",
            now=now,
        )

    async def _enrolled_before(
        self, tenant: str, fingerprints: Sequence[bytes], now: datetime
    ) -> None:
        embedding = np.full(256, 1 / 16, "<f4").tobytes()
        kept = {FINGERPRINTS: packed(fingerprints)}
        candidate = Candidate("Earlier Voice", "en", ENGINE, embedding, b"stock", kept=kept)
        said = Statement("Earlier Voice", "I consent", "0" * 64, (PURPOSE,), "bench")
        await self._library.admit(tenant, candidate, said, now)


def wav(samples: Audio, rate: int) -> bytes:
    """A WAV file of 16 bits at ``rate``."""
    if rate != RATE:
        samples = soxr.resample(samples, RATE, rate)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def plans(people: People, clones: dict[str, Say]) -> list[Plan]:
    """Every case but the stale challenges, in a fixed order."""
    return [
        *honest(people, 100),
        *replays(people),
        *splices(people),
        *syntheses(people, clones),
        *others(people),
        *wrong_phrases(people),
        *played(people),
    ]


@asynccontextmanager
async def opened() -> AsyncIterator[Bench]:
    """A bench on an empty library."""
    stock = FliteEngine(threads=1)
    with tempfile.TemporaryDirectory() as folder:
        config = library_config(VoicesSettings(dir=Path(folder)), {})
        try:
            async with open_library(config, {ENGINE: StockClone(stock)}) as library:
                yield Bench(library)
        finally:
            await stock.close()


async def tried(
    record: Record, seconds: float, every: int, first: int, only: Collection[str]
) -> bool:
    """Try what is not tried yet of ``only`` these groups (all where none is named).

    Stops after some seconds; whether that was all.
    """
    until = time.monotonic() + seconds
    people, clones = People(SETS[record.who]()), dict[str, Say]()
    chosen = plans(people, clones)
    # In random order, so that what was tried at any time is a sample of the whole.
    order = list(map(int, np.random.default_rng(SEED).permutation(len(chosen))))
    wanted = [number for number in order if not only or chosen[number].group in only]
    order = wanted[first::every]
    need = [number for number in order if CLONE in chosen[number].what]
    async with opened() as bench:
        if first == 0 and not only and len(chosen) not in record.done():
            await stale(record, bench, people, len(chosen))
        others_than_clones = [number for number in order if number not in need]
        if not await _try(record, bench, chosen, others_than_clones, until):
            return False
        if not set(need) - record.done():
            return True
        async with clone_voices(people.victims, people.speakers) as made:
            clones.update(made)
            return await _try(record, bench, chosen, need, until)


async def _try(
    record: Record, bench: Bench, chosen: Sequence[Plan], numbers: Sequence[int], until: float
) -> bool:
    """Try these cases but those that were; whether there was time for all."""
    done = record.done()
    for number in numbers:
        if number in done:
            continue
        if time.monotonic() > until:
            return False
        plan = chosen[number]
        case = await asyncio.to_thread(plan.make, np.random.default_rng([SEED, number]))
        failed, scores = await bench.refused_by(number, case)
        record.keep(Tried(number, plan.group, plan.what, failed, scores))
    return True


async def stale(record: Record, bench: Bench, people: People, number: int) -> None:
    """Try expired and used challenges, all at once."""
    rng = np.random.default_rng([SEED, number])
    case = next(honest(people, 1)).make(rng)
    for count in range(STALE):
        taken = await bench.stale(count, case)
        for kind, accepted in taken.items():
            failed = () if accepted else ("challenge",)
            record.keep(Tried(number, "challenge", kind, failed))


def line(cells: Sequence[str]) -> str:
    """One row of Markdown."""
    return "| " + " | ".join(cells) + " |"


def share(wrong: int, of: int) -> str:
    """A rate with its interval."""
    low, high = interval(wrong, of)
    return f"{100 * wrong / of:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def tables(results: Sequence[Tried]) -> Iterator[str]:
    """The tables, line by line."""
    found: dict[str, dict[str, list[Sequence[str]]]] = defaultdict(lambda: defaultdict(list))
    for tried in sorted(results, key=lambda tried: tried.number):
        found[tried.group][tried.what].append(tried.failed)
    extra = {group: found.pop(group, {}) for group in ("genuine", "played")}
    yield from _table("attack", "accepted", found)
    yield ""
    yield from _table("beyond the three hundred", "accepted", {"": extra["played"]})
    yield ""
    yield from _table("honest", "refused", {"": extra["genuine"]})


def _table(
    title: str, error: str, found: Mapping[str, Mapping[str, Sequence[Sequence[str]]]]
) -> Iterator[str]:
    yield line((title, "how", error, "refused by"))
    yield line(("---",) * 4)
    total: list[bool] = []
    for group, ways in found.items():
        for what, cases in ways.items():
            wrong = [bool(failed) is (error == "refused") for failed in cases]
            total += wrong
            by = Counter(check for failed in cases for check in failed)
            told = ", ".join(f"{check} {count}" for check, count in by.most_common())
            yield line((group, what, f"{sum(wrong)} of {len(cases)}", told))
    if total:
        rate = share(sum(total), len(total))
        yield line(("**all**", "", f"**{sum(total)} of {len(total)}**: {rate}", ""))


def main() -> None:
    """Try the cases, print the tables, and write them into the documentation where asked to."""
    parser = argparse.ArgumentParser(description="Attack the enrolment's desk.")
    parser.add_argument("--docs", type=Path, help="a file with markers to write the tables between")
    parser.add_argument("--every", type=int, default=1, help="one in so many cases only")
    parser.add_argument("--first", type=int, default=0, help="of these; each core may take its own")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop trying after so long")
    groups = ("genuine", "replay", "splice", "TTS", "other speaker", "wrong phrase", "played")
    parser.add_argument("--only", choices=groups, nargs="*", default=(), help="these groups alone")
    parser.add_argument("--people", choices=sorted(SETS), default="readers", help="who enrols")
    arguments = parser.parse_args()
    record = Record(arguments.people)
    share_of = arguments.every, arguments.first
    if not asyncio.run(tried(record, arguments.seconds, *share_of, arguments.only)):
        print(f"stopped; {record.path} holds what was tried, and the next run goes on")
    lines = list(tables(record.results()))
    print("\n".join(lines))
    if arguments.docs:
        start, end = START.format(record.who), END.format(record.who)
        head, rest = arguments.docs.read_text().split(start)
        tail = rest.split(end)[1]
        arguments.docs.write_text(f"{head}{start}\n" + "\n".join(lines) + f"\n{end}{tail}")


if __name__ == "__main__":
    main()
