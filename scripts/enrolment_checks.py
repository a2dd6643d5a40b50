"""What the audio, wording and speaker checks of an enrolment let through and turn away.

Run ``python scripts/enrolment_checks.py`` (some ten minutes on one core). The rows say how many of
what should pass were refused and how many of what should be refused passed, with the 95 % interval
of Clopper and Pearson (Biometrika 26, 1934). Speech is that of the ``test`` speakers of
:mod:`enrolment_corpus`; ``docs/enrolment.md`` says which bounds were set with sight of them.
"""

from __future__ import annotations

import gzip
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from enrolment_attacks import coded, noise
from enrolment_corpus import RATE, UNPACKED, Audio, Speaker, read, speakers, strung
from fit_likeness import without
from splice_material import narrowed

from ringtrue.streaming.recognizers.vocabulary import normalize
from ringtrue.voices.consent.challenge import Challenge, issue
from ringtrue.voices.consent.words import DIGITS, WORDS
from ringtrue.voices.encoder import SpeakerEncoder, similarity
from ringtrue.voices.encoder.embeddings import Embedding, centroid
from ringtrue.voices.encoder.errors import NotEnoughSpeechError
from ringtrue.voices.enrolment.checks import clipping, sample_rate, speaker, wording
from ringtrue.voices.enrolment.checks import noise as noise_check
from ringtrue.voices.enrolment.hearing import Part, Script, hear
from ringtrue.voices.enrolment.levels import clipped_share, high_band, signal_to_noise
from ringtrue.voices.enrolment.script import script_for

SEED: Final = 20
NARRATED: Final = "The text of a real prompt, its last five words as those drawn"
DIGIT_WORDS: Final = tuple(DIGITS.values())


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    check: str
    what: str
    wanted: bool
    """Whether it should pass."""

    wrong: int
    of: int

    def __str__(self) -> str:
        low, high = interval(self.wrong, self.of)
        error = "refused" if self.wanted else "accepted"
        share = f"{100 * self.wrong / self.of:.1f} % ({100 * low:.1f}–{100 * high:.1f})"
        return f"| {self.check} | {self.what} | {error} {self.wrong} of {self.of} | {share} |"


def interval(wrong: int, of: int) -> tuple[float, float]:
    """The 95 % interval of Clopper and Pearson, by bisection of the binomial's tails."""

    def tail(p: float, least: int) -> float:
        """P(X ≥ least)."""
        if least <= 0:
            return 1.0
        logs = [
            math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1)
            + k * math.log(p) + (of - k) * math.log1p(-p)
            for k in range(least, of + 1)
        ]  # fmt: skip
        return sum(map(math.exp, logs))

    def solve(reached: Callable[[float], bool]) -> float:
        low, high = 1e-12, 1 - 1e-12
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if reached(middle) else (middle, high)
        return low

    lower = 0.0 if wrong == 0 else solve(lambda p: tail(p, wrong) >= 0.025)
    upper = 1.0 if wrong == of else solve(lambda p: 1 - tail(p, wrong + 1) <= 0.025)
    return lower, upper


def row(check: str, what: str, wanted: bool, passed: list[bool]) -> Row:
    """Count what came out otherwise than wanted."""
    return Row(check, what, wanted, sum(p is not wanted for p in passed), len(passed))


def clip(samples: Audio, share: float) -> Audio:
    """With ``share`` of the samples cut off, at 80 % of full scale."""
    limit = float(np.quantile(np.abs(samples), 1 - share))
    return (np.clip(samples, -limit, limit) * (0.8 / limit)).astype(np.float32)


def levels(people: list[Speaker], rng: np.random.Generator) -> Iterator[Row]:
    """Noise, clipping and bandwidth, on strings of takes as long as a body."""
    bodies = [
        body
        for person in people
        for _ in range(8)
        if (body := strung(person, 8.0, rng)) is not None
    ]
    bodies = [body for body in bodies if np.abs(body).max() > 0.01]

    def quiet(sound: list[Audio]) -> list[bool]:
        return [signal_to_noise(s) >= noise_check.THRESHOLD for s in sound]

    yield row("noise", "as recorded", True, quiet(bodies))
    for ratio in (20.0, 10.0, 5.0):
        wanted = ratio >= 20
        added = [noise(body, ratio, rng) for body in bodies]
        yield row("noise", f"pink noise added at {ratio:.0f} dB", wanted, quiet(added))

    def whole(sound: list[Audio]) -> list[bool]:
        return [clipped_share(s) <= clipping.THRESHOLD for s in sound]

    yield row("clipping", "as recorded", True, whole(bodies))
    for share in (0.01, 0.03, 0.1):
        cut = [clip(body, share) for body in bodies]
        yield row("clipping", f"{100 * share:.0f} % clipped", False, whole(cut))
    packed = [coded(clip(body, 0.03), "libopus", 32000) for body in bodies[::3]]
    yield row("clipping", "3 % clipped, then Opus at 32 kbit/s", False, whole(packed))

    def wide(sound: list[Audio]) -> list[bool]:
        return [high_band(s, RATE) >= sample_rate.THRESHOLD for s in sound]

    broad = [body for body in bodies if high_band(body, RATE) > -70]
    left_out = len(bodies) - len(broad)
    yield row("sample rate", f"as recorded ({left_out} of 8 kHz left out)", True, wide(broad))
    for name, bits in (("libmp3lame", 48000), ("libopus", 24000)):
        packed = [coded(body, name, bits) for body in broad[::3]]
        yield row("sample rate", f"{name[3:]} at {bits // 1000} kbit/s", True, wide(packed))
    thin = [narrowed(body) for body in broad]
    yield row("sample rate", "through 8 kHz", False, wide(thin))
    packed = [coded(body, "libopus", 24000) for body in thin[::3]]
    yield row("sample rate", "through 8 kHz, then Opus at 24 kbit/s", False, wide(packed))


def likeness(people: list[Speaker], rng: np.random.Generator) -> Iterator[Row]:
    """The speaker check, between all pairs of strings and within them."""
    encoder = SpeakerEncoder.load()
    heard: dict[str, list[Embedding]] = {}
    for person in people:
        found = []
        for number in range(8):
            sound = strung(person, 7.0 + number % 3, rng)
            if sound is None:
                break
            try:
                found.append(encoder.embed_windows(sound.astype(np.float32), RATE))
            except NotEnoughSpeechError:
                continue
        if len(found) > 2:
            heard[person.name] = found

    def alike(a: Embedding, b: Embedding, people: frozenset[str]) -> bool:
        one, two = centroid(a), centroid(b)
        likely = without(people)(one, two) >= speaker.THRESHOLD
        return likely and similarity(one, two) >= speaker.COSINE

    same = [
        alike(a, b, frozenset({name}))
        for name, found in heard.items()
        for i, a in enumerate(found)
        for b in found[:i]
    ]
    other = [
        alike(mine, theirs, frozenset({name, rival}))
        for name, found in heard.items()
        for rival, others in heard.items()
        if name < rival
        for mine in found[:4]
        for theirs in others[:4]
    ]
    one = [speaker.consistency(w) >= speaker.WITHIN for found in heard.values() for w in found]
    two = [
        speaker.consistency(np.concatenate([a[: len(a) // 2], b[len(b) // 2 :]])) >= speaker.WITHIN
        for name, found in heard.items()
        for rival, others in heard.items()
        if name != rival
        for a, b in zip(found[:3], others[:3], strict=False)
    ]
    count = len(heard)
    yield row("speaker", f"statement and body of one of {count} speakers", True, same)
    yield row("speaker", "statement of one, body of another", False, other)
    yield row("speaker", "one speaker in a body", True, one)
    yield row("speaker", "another takes over half-way", False, two)


def installed(relative: str) -> Path | None:
    """A package's file or folder, unpacked or installed; None where it is missing."""
    paths = (UNPACKED / relative, Path("/") / relative)
    return next((path for path in paths if path.exists()), None)


def prompts() -> Iterator[tuple[list[str], Audio]]:
    """Real English speech with its words: Asterisk's prompts, and LibriVox in PocketSphinx's."""
    listing = installed("usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
    folder = installed("usr/share/asterisk/sounds/en_US_f_Allison")
    if listing is not None and folder is not None:
        for line in gzip.decompress(listing.read_bytes()).decode(errors="ignore").splitlines():
            name, colon, text = line.partition(":")
            path = folder / f"{name.strip()}.g722"
            if colon and not line.startswith(";") and "[" not in text and path.exists():
                yield normalize(text), read(path)
    folder = installed("usr/share/pocketsphinx/test/data/librivox")
    if folder is not None:
        for line in (folder / "transcription").read_text().splitlines():
            match = re.fullmatch(r"(.*)\((.*)\)\s*", line)
            if match and (path := folder / f"{match[2].strip()}.wav").exists():
                yield normalize(re.sub(r"</?s>", "", match[1])), read(path)


def script_of(words: list[str]) -> Script:
    """A text as a script: see :data:`NARRATED`."""
    parts = (Part("cloning", tuple(((word,),) for word in words[:-5])),)
    drawn = tuple(words[-5:])
    return Script(parts, drawn, tuple((*DIGIT_WORDS, *WORDS, word) for word in drawn))


def narrated(rng: np.random.Generator, limit: int = 60) -> Iterator[Row]:
    """The wording check on real speech: the right text, another, and one with a word changed."""
    known = [(w, s) for w, s in prompts() if len(w) >= 8 and 2.5 * RATE < len(s) < 15 * RATE]
    if not known:
        print("skipped the wording of real speech: no English prompts with their texts here")
        return
    chosen = [known[int(i)] for i in rng.permutation(len(known))[:limit]]
    right, other, changed, inserted, narrow = [], [], [], [], []

    def passes(samples: Audio, words: list[str], thin: bool = False) -> bool:
        return wording.judge(hear(samples, script_of(words), narrow_band=thin)).passed

    for number, (words, samples) in enumerate(chosen):
        right.append(passes(samples, words))
        other.append(passes(samples, chosen[number - 1][0]))
        place = int(rng.integers(len(words) - 5, len(words)))
        word = str(rng.choice([w for w in WORDS if w != words[place]]))
        changed.append(passes(samples, [*words[:place], word, *words[place + 1 :]]))
        # Four words of the recording are not in the text.
        middle = len(words) // 2 - 2
        inserted.append(passes(samples, [*words[:middle], *words[middle + 4 :]]))
        if number % 3 == 0:
            narrow.append(passes(narrowed(samples), words, thin=True))
    yield row("wording", "real English speech, its own text", True, right)
    yield row("wording", "the same through 8 kHz", True, narrow)
    yield row("wording", "real English speech, another text", False, other)
    yield row("wording", "one of the last five words is another", False, changed)
    yield row("wording", "four words too many", False, inserted)


VOICES: Final = (
    ("flite", "slt"), ("flite", "rms"), ("flite", "awb"), ("flite", "kal16"),
    ("espeak-ng", "en-us"), ("espeak-ng", "en-gb"),
    ("text2wave", "cmu_us_slt_arctic_hts"), ("text2wave", "kal_diphone"),
    ("text2wave", "ked_diphone"),
)  # fmt: skip
PEOPLE: Final = (
    ("Ada", "reception of Example Ltd"),
    ("Margaret Hamilton", "the audio guide of the city museum"),
    ("Giovanni Quillfeather", "announcements at Brightwater station"),
    ("Siobhan Okonkwo", "bedtime stories"),
    ("Tom", "support calls"),
)


def spoken(text: str, engine: str, voice: str) -> Audio | None:
    """``text`` by a synthesizer with some noise; None where it isn't installed."""
    if shutil.which(engine) is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "said.wav"
        command = {
            "flite": ["flite", "-voice", voice, "-t", text, "-o", str(out)],
            "espeak-ng": ["espeak-ng", "-v", voice, "-w", str(out), text],
            "text2wave": ["text2wave", "-eval", f"(voice_{voice})", "-o", str(out)],
        }[engine]
        done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
        if done.returncode or not out.exists():
            return None
        samples = read(out)
    return noise(samples, 40.0, np.random.default_rng(1))


def synthesized(rng: np.random.Generator) -> Iterator[Row]:
    """The wording check on whole challenges, read by machines for want of people."""
    results: dict[tuple[str, bool], list[bool]] = {}
    for number, (engine, voice) in enumerate(VOICES):
        name, purpose = PEOPLE[number % len(PEOPLE)]
        asked = issue("bench", name, purpose, datetime.now(UTC)).challenge
        for what, text, wanted in _variants(asked, rng):
            samples = spoken(text, engine, voice)
            if samples is not None:
                passed = wording.judge(hear(samples, script_for(asked))).passed
                results.setdefault((what, wanted), []).append(passed)
    for (what, wanted), passed in results.items():
        yield row("wording", f"challenges read by synthesizers: {what}", wanted, passed)


def _variants(asked: Challenge, rng: np.random.Generator) -> Iterator[tuple[str, str, bool]]:
    name, purpose = PEOPLE[int(rng.integers(len(PEOPLE)))]
    digits = (asked.digits[0] % 9 + 1, *asked.digits[1:])
    words = (asked.words[0], str(rng.choice([w for w in WORDS if w not in asked.words])))
    fresh = issue("bench", asked.name, asked.purpose, datetime.now(UTC)).challenge
    yield "as shown", asked.text, True
    yield "another challenge's digits and words", fresh.text, False
    yield "one digit is another", replace(asked, digits=digits).text, False
    yield "one word is another", replace(asked, words=words).text, False
    if name != asked.name:
        yield "another name", replace(asked, name=name).text, False
        yield "another purpose", replace(asked, purpose=purpose).text, False
    yield "“do not consent”", asked.text.replace("consent", "do not consent"), False
    yield "“refuse”", asked.text.replace("consent to", "refuse"), False
    yield "digits and words alone", f"{asked.phrase}.", False


def tables() -> Iterator[Row]:
    """Every row, as it is measured."""
    rng = np.random.default_rng(SEED)
    people = [person for person in speakers() if person.part == "test" and person.continuous]
    yield from levels(people, rng)
    yield from likeness(people, rng)
    yield from narrated(rng)
    yield from synthesized(rng)


def main() -> None:
    """Print the table as Markdown."""
    print("| check | what | errors | rate (95 % interval) |\n|---|---|---|---|")
    for line in tables():
        print(line, flush=True)


if __name__ == "__main__":
    main()
