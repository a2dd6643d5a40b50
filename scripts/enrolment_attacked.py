"""Three hundred attacks on an enrolment, and what honest people get, through every check at once.

Run ``python scripts/enrolment_attacked.py`` (half an hour on one core; less with ``--features``);
``--docs FILE`` also writes the tables between that file's markers. Nobody is judged by what was
learnt of them: the models of the synthesis, splice and channel checks are fitted anew without the
victim, and without every synthesizer's voice that is tried.

Nobody in the corpus reads a challenge, so the wording check is made only where it is what stops
an attack: ``wrong phrase`` holds a real prompt against a real challenge. All other attackers are
given the right words for nothing, which is more than they have. Every other check is made on every
attack, and one that all pass is accepted. Expired and used challenges are tried on the real store.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from enrolment_attacks import (
    CLONED,
    TEXTS,
    TRIED,
    at_quiet,
    cloned,
    coded,
    gain,
    joined,
    microphone,
    noise,
    pieces,
    replayed,
    room,
    speed,
    synthesizers,
    vocoded,
)
from enrolment_checks import interval
from enrolment_corpus import RATE, Audio, Speaker, speakers
from fit_liveness import fit, without
from liveness_features import measure

from ringtrue.voices.consent.challenge import issue
from ringtrue.voices.consent.errors import ChallengeError, ChallengeRefusal
from ringtrue.voices.encoder import SpeakerEncoder
from ringtrue.voices.engine import SPEECH_RATE
from ringtrue.voices.enrolment.checks import channel, splice, synthesis, wording
from ringtrue.voices.enrolment.checks.every import OF_AUDIO, OF_SPEECH
from ringtrue.voices.enrolment.evidence import gather
from ringtrue.voices.enrolment.findings import Finding
from ringtrue.voices.enrolment.fingerprint import fingerprint
from ringtrue.voices.enrolment.levels import clipped_share, high_band
from ringtrue.voices.enrolment.logistic import Logistic
from ringtrue.voices.enrolment.recording import Recording
from ringtrue.voices.store.challenges import ChallengeStore
from ringtrue.voices.store.database import Database
from ringtrue.voices.store.schema import VOICES

SEED: Final = 11
NOW: Final = datetime(2030, 1, 1, 12, tzinfo=UTC)
START, END = "<!-- attacks: begin -->", "<!-- attacks: end -->"
TAKES: Final = 26
"""Of each speaker at most."""

HISTORY: Final = 20
"""Earlier recordings an enrolment is held against, besides the one replayed."""


@dataclass(frozen=True)
class Case:
    """One enrolment that is tried."""

    group: str
    what: str
    statement: Audio = field(repr=False)
    speech: Audio = field(repr=False)
    earlier: tuple[bytes, ...] = field(default=(), repr=False)
    victim: str = ""
    """Whom the models never heard; empty for the synthesizers' voices of ``TRIED``."""

    words_count: bool = False
    """Whether the statement's words are held against a challenge."""


class Judges:
    """The fitted models, without one person each."""

    def __init__(self, features: Path | None) -> None:
        """Measure the corpus, or take what was measured from ``features``."""
        self.measured = measure(features)
        self.models: dict[str, dict[str, Logistic]] = {}

    def take_place(self, victim: str) -> None:
        """Judge by models that never heard ``victim``."""
        if victim not in self.models:
            people = {victim} if victim else set(TRIED)
            self.models[victim] = {
                what: fit(what, without(measured, people))[0]
                for what, measured in self.measured.items()
            }
        models = self.models[victim]
        synthesis.MODEL, channel.MODEL, splice.MODEL = (
            models[what] for what in ("synthesis", "channel", "splice")
        )


def recording(samples: Audio) -> Recording:
    """As a 16 kHz WAV file would be read."""
    samples = np.clip(samples, -1, 1).astype(np.float32)
    return Recording(
        samples,
        SPEECH_RATE,
        1,
        "pcm_s16le",
        clipped_share(samples),
        high_band(samples, SPEECH_RATE),
        "00" * 32,
    )


def findings(case: Case, encoder: SpeakerEncoder) -> list[Finding]:
    """What the checks that failed say."""
    challenge = issue("bench", "John Miller", "reception of Example Limited", NOW).challenge
    evidence = gather(
        challenge, recording(case.statement), recording(case.speech), encoder, case.earlier
    )
    made = [check(evidence) for check in (*OF_AUDIO, *OF_SPEECH)]
    if case.words_count:
        made.append(wording.check(evidence))
    return [finding for finding in made if not finding.passed]


class People:
    """The speakers of the test part, their takes, and what each is enrolled with."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Read them; those without a statement and 5 s beside it are left out."""
        self.rng = rng
        self.takes: dict[str, list[Audio]] = {}
        for speaker in speakers():
            if speaker.part == "test" and speaker.continuous:
                takes = _distinct(speaker)
                lengths = sorted(len(take) / RATE for take in takes)
                if takes and lengths[-1] >= 3.3 and sum(lengths[:-1]) >= 5.2:
                    self.takes[speaker.name] = takes
        self.names = sorted(self.takes)
        self.prints = {
            name: [fingerprint(take).to_bytes() for take in takes]
            for name, takes in self.takes.items()
        }

    def statement(self, name: str) -> tuple[Audio, int]:
        """One take of 3.3 s or more, at most 12 s of it, and which."""
        takes = self.takes[name]
        fit = [i for i, take in enumerate(takes) if len(take) >= 3.3 * RATE]
        index = int(self.rng.choice(fit))
        return takes[index][: 12 * RATE], index

    def body(self, name: str, but: int = -1) -> tuple[Audio, set[int]]:
        """Another take of 5 s or more, or takes strung together where none is; and which."""
        takes = self.takes[name]
        fit = [i for i, take in enumerate(takes) if len(take) >= 5.2 * RATE and i != but]
        if fit:
            index = int(self.rng.choice(fit))
            return takes[index][: 20 * RATE], {index}
        rest = [int(i) for i in self.rng.permutation(len(takes)) if i != but]
        return np.concatenate([takes[i] for i in rest])[: 20 * RATE], set(rest)

    def history(self, name: str, but: set[int]) -> tuple[bytes, ...]:
        """Fingerprints of other people's recordings and of this one's takes but some."""
        pool = [
            data
            for other in self.names
            for index, data in enumerate(self.prints[other])
            if other != name or index not in but
        ]
        chosen = self.rng.choice(len(pool), min(HISTORY, len(pool)), replace=False)
        return tuple(pool[int(i)] for i in chosen)

    def some(self, count: int) -> Iterator[str]:
        """Names in turn, those with many takes oftener."""
        large = [name for name in self.names if len(self.takes[name]) > 10]
        small = [name for name in self.names if name not in large]
        for _ in range(count):
            pool = small if small and self.rng.random() < 0.2 else large
            yield pool[int(self.rng.integers(len(pool)))]


def _distinct(speaker: Speaker) -> list[Audio]:
    """Takes of which no two hold the same sound, sample for sample.

    Some prompts of a set are cut from others: they would be replays. The comparison is of the
    waveforms, not of fingerprints.
    """
    kept: list[Audio] = []
    for take in speaker.takes(2.6, TAKES):
        if not any(_same_sound(take, other) for other in kept):
            kept.append(take)
    return kept


def _same_sound(a: Audio, b: Audio) -> bool:
    """Whether half a second of ``a`` occurs in ``b``: correlation above 0.8, under 1 kHz."""
    a, b = (x[: len(x) // 8 * 8].reshape(-1, 8).mean(axis=1) for x in (a, b))
    size = RATE // 16
    n = int(2 ** np.ceil(np.log2(len(b) + size)))
    spectrum = np.fft.rfft(b, n)
    energy = np.concatenate([[0], np.cumsum(b.astype(float) ** 2)])
    norm = np.sqrt(np.maximum(energy[size:] - energy[:-size], 1e-9))
    for start in range(0, len(a) - size, 2 * size):
        piece = a[start : start + size].astype(float)
        scale = np.sqrt(np.sum(piece**2))
        if scale < 0.05 * np.sqrt(size) * np.abs(a).max():
            continue
        found = np.fft.irfft(spectrum * np.fft.rfft(piece, n).conj(), n)[: len(norm)]
        if np.max(found / (norm * scale + 1e-9)) > 0.8:
            return True
    return False


def honest(people: People, count: int) -> Iterator[Case]:
    """One person, one sitting: both recordings through the same microphone, room and codec."""
    ways: dict[str, Callable[[Audio, np.random.Generator], Audio]] = {
        "as recorded": lambda x, _: x,
        "Opus 32 kb/s": lambda x, _: coded(x, "libopus", 32000),
        "another microphone": microphone,
        "a room": lambda x, rng: noise(room(x, rng, 0.3, 10), 32, rng),
        "noise at 28 dB": lambda x, rng: noise(x, 28, rng),
    }
    names = list(ways)
    for number, name in enumerate(people.some(count)):
        statement, index = people.statement(name)
        body, used = people.body(name, index)
        way, seed = names[number % len(names)], int(people.rng.integers(2**31))
        both = [ways[way](x, np.random.default_rng(seed)) for x in (statement, body)]
        yield Case("genuine", way, *both, people.history(name, used | {index}), name)


def replays(people: People) -> Iterator[Case]:
    """Both recordings are those of an earlier enrolment."""
    rng = people.rng
    ways = {
        "exact copy": (5, lambda x: x),
        "Opus 16 kb/s": (6, lambda x: coded(x, "libopus", 16000)),
        "MP3 32 kb/s": (5, lambda x: coded(x, "libmp3lame", 32000)),
        "6 dB softer, noise at 20 dB": (5, lambda x: noise(gain(x, -6), 20, rng)),
        "2 % faster": (5, lambda x: speed(x, 1.02)),
        "2 % slower": (5, lambda x: speed(x, 0.98)),
        "cropped by 20 %": (5, lambda x: x[int(0.1 * len(x)) : int(0.9 * len(x))]),
        "loudspeaker in a room": (9, lambda x: replayed(x, rng)),
    }
    for way, (count, change) in ways.items():
        for name in people.some(count):
            statement, index = people.statement(name)
            body, used = people.body(name, index)
            earlier = tuple(fingerprint(x).to_bytes() for x in (statement, body))
            history = (*people.history(name, used | {index}), *earlier)
            yield Case("replay", way, change(statement), change(body), history, name)


def splices(people: People) -> Iterator[Case]:
    """The statement is put together from words of the victim; the body is the victim's."""
    rng = people.rng
    ways = {
        "cut anywhere": (9, lambda t: joined(pieces(t, rng))),
        "cut anywhere, 5 ms fades": (7, lambda t: joined(pieces(t, rng), fade=0.005)),
        "cut at quiet places": (8, lambda t: joined(at_quiet(t, rng))),
        "cut at quiet places, silence between": (
            7,
            lambda t: joined(at_quiet(t, rng), silence=0.08),
        ),
        "words from several recordings": (
            7,
            lambda t: joined([microphone(piece, rng) for piece in at_quiet(t, rng)]),
        ),
        "cut anywhere, then played into a room": (
            7,
            lambda t: replayed(joined(pieces(t, rng)), rng),
        ),
    }
    for way, (count, make) in ways.items():
        for name in people.some(count):
            body, used = people.body(name)
            rest = [take for i, take in enumerate(people.takes[name]) if i not in used]
            yield Case("splice", way, make(rest or people.takes[name]), body, (), name)


def syntheses(people: People) -> Iterator[Case]:
    """The statement, or both recordings, are synthetic."""
    rng = people.rng
    voices = {name: say for name, say in synthesizers().items() if name in TRIED}
    names = sorted(voices)
    for number in range(20):
        say = voices[names[number % len(names)]]
        said = say(TEXTS[0]), np.concatenate([say(TEXTS[6]), say(TEXTS[7])])
        way = ("as made", "Opus 24 kb/s", "noise at 25 dB")[number % 3]
        change = (lambda x: x, lambda x: coded(x, "libopus", 24000), lambda x: noise(x, 25, rng))
        both = [change[number % 3](x) for x in said]
        yield Case("TTS", f"a synthesizer's voice, {way}", both[0], both[1])
    clones = asyncio.run(cloned([name for name in CLONED if name in people.takes], TEXTS))
    victims = [name for name in people.names if f"clone-{name}" in clones]
    for number in range(15):
        name = victims[number % len(victims)]
        said = clones[f"clone-{name}"]
        body = np.concatenate(said[5:8])
        yield Case("TTS", "our clone, both recordings", said[number % 5], body, (), name)
    for number in range(15):
        name = victims[number % len(victims)]
        said = clones[f"clone-{name}"]
        body, _ = people.body(name)
        yield Case("TTS", "our clone's statement, victim's body", said[number % 10], body, (), name)
    for name in people.some(10):
        statement, index = people.statement(name)
        both = [vocoded(x) for x in (statement, people.body(name, index)[0])]
        yield Case("TTS", "victim's words resynthesized, both", *both, (), name)
    for name in people.some(10):
        statement, index = people.statement(name)
        body, _ = people.body(name, index)
        what = "victim's words resynthesized, victim's body"
        yield Case("TTS", what, vocoded(statement), body, (), name)


def others(people: People) -> Iterator[Case]:
    """An attacker's own statement for a victim's body."""
    for number, name in enumerate(people.some(45)):
        attacker = str(people.rng.choice([other for other in people.names if other != name]))
        statement, _ = people.statement(attacker)
        body, _ = people.body(name)
        way = "both in one room" if number % 2 else "as recorded"
        if number % 2:
            seed = int(people.rng.integers(2**31))
            statement, body = (
                microphone(x, np.random.default_rng(seed)) for x in (statement, body)
            )
        yield Case("other speaker", way, statement, body, (), name)


def wrong_phrases(people: People) -> Iterator[Case]:
    """The victim, saying something else."""
    for name in people.some(45):
        statement, index = people.statement(name)
        way = (
            "in English"
            if name in ("en_US_f_Allison", "librivox", "horizons-en")
            else "not English"
        )
        yield Case("wrong phrase", way, statement, people.body(name, index)[0], (), name, True)


async def stale(count: int) -> dict[str, int]:
    """How many expired and how many used challenges the store redeems, of ``count`` each."""
    accepted: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/voices.db", VOICES)
        try:
            await database.upgrade()
            store = ChallengeStore(database)
            for number in range(count):
                for kind, late, expected in (
                    ("expired", 601 + 60 * number, ChallengeRefusal.EXPIRED),
                    ("reused", 5, ChallengeRefusal.USED),
                ):
                    now = NOW + timedelta(hours=2 * number)
                    issued = await store.issue("bench", name="Ada", purpose="tests", now=now)
                    later = now + timedelta(seconds=late)
                    arguments = {"name": "Ada", "purpose": "tests", "now": later}
                    if kind == "reused":
                        await store.redeem("bench", issued.token, **arguments)
                    try:
                        await store.redeem("bench", issued.token, **arguments)
                        accepted[kind] += 1
                    except ChallengeError as error:
                        if error.reason is not expected:
                            raise
        finally:
            await database.close()
    return dict(accepted)


def line(cells: Sequence[str]) -> str:
    """One row of Markdown."""
    return "| " + " | ".join(cells) + " |"


def share(wrong: int, of: int) -> str:
    """A rate with its interval."""
    low, high = interval(wrong, of)
    return f"{100 * wrong / of:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def run(quick: bool, features: Path | None) -> Iterator[str]:
    """Both tables, line by line."""
    stale_count = 25
    redeemed = asyncio.run(stale(stale_count))
    rng = np.random.default_rng(SEED)
    people = People(rng)
    judges = Judges(features)
    encoder = SpeakerEncoder.load()
    taken: dict[tuple[str, str], list[bool]] = defaultdict(list)
    stopped: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    sources = [honest(people, 100)]
    sources += [make(people) for make in (replays, splices, syntheses, others, wrong_phrases)]
    for source in sources:
        for number, case in enumerate(source):
            if quick and number % 5:
                continue
            judges.take_place(case.victim)
            failed = findings(case, encoder)
            taken[case.group, case.what].append(not failed)
            for finding in failed:
                stopped[case.group, case.what][finding.check.value] += 1
    for kind in ("expired", "reused"):
        accepted = redeemed.get(kind, 0)
        taken["challenge", kind] += [True] * accepted + [False] * (stale_count - accepted)
        stopped["challenge", kind]["challenge"] = stale_count - accepted

    yield line(("attack", "how", "accepted", "stopped by"))
    yield line(("---",) * 4)
    total: list[bool] = []
    for (group, what), passed in taken.items():
        if group != "genuine":
            total += passed
            by = ", ".join(f"{k} {n}" for k, n in stopped[group, what].most_common())
            yield line((group, what, f"{sum(passed)} of {len(passed)}", by))
    yield line(
        ("**all**", "", f"**{sum(total)} of {len(total)}**: {share(sum(total), len(total))}", "")
    )
    yield ""
    yield line(("honest", "refused", "by"))
    yield line(("---",) * 3)
    total = []
    for (group, what), passed in taken.items():
        if group == "genuine":
            total += passed
            by = ", ".join(f"{k} {n}" for k, n in stopped[group, what].most_common())
            yield line((what, f"{passed.count(False)} of {len(passed)}", by))
    wrong = total.count(False)
    yield line(("**all**", f"**{wrong} of {len(total)}**: {share(wrong, len(total))}", ""))


def main() -> None:
    """Print the tables, and write them into the documentation where asked to."""
    parser = argparse.ArgumentParser(description="Attack the enrolment's checks.")
    parser.add_argument("--docs", type=Path, help="a file with markers to write the tables between")
    parser.add_argument("--quick", action="store_true", help="every fifth case only")
    parser.add_argument("--features", type=Path, help="an .npz of what was measured of the corpus")
    arguments = parser.parse_args()
    lines = []
    for text in run(arguments.quick, arguments.features):
        print(text, flush=True)
        lines.append(text)
    if arguments.docs:
        whole = arguments.docs.read_text()
        head, rest = whole.split(START)
        tail = rest.split(END)[1]
        arguments.docs.write_text(f"{head}{START}\n" + "\n".join(lines) + f"\n{END}{tail}")


if __name__ == "__main__":
    main()
