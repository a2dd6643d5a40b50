"""Who enrols in the attack bench, and what each attack is made of.

Every case has its random numbers of its own, so that any of them can be made without the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from enrolment_attacks import (
    TEXTS,
    Say,
    at_quiet,
    coded,
    fresh_synthesizers,
    gain,
    joined,
    loudspeaker,
    microphone,
    noise,
    pieces,
    replayed,
    room,
    speed,
    vocoded,
)
from enrolment_corpus import RATE, UNPACKED, Audio, Speaker

from ringtrue.voices.enrolment.fingerprint import fingerprint

STATEMENT: Final = 2.7
"""Seconds of the shortest statement: the challenge's sixteen words can't be said in less."""

TAKES: Final = 26
"""Of each speaker at most."""

HISTORY: Final = 20
"""Earlier recordings an enrolment is held against, besides the one replayed."""

Random = np.random.Generator
Change = Callable[[Audio, Random], Audio]


@dataclass(frozen=True)
class Case:
    """One enrolment that is tried."""

    statement: Audio | Say = field(repr=False)
    """A recording, or what makes one of the challenge's text."""

    speech: Audio = field(repr=False)
    rates: tuple[int, int] = (RATE, RATE)
    """Of the statement and the speech in Hz, as they are handed in: 8000 from a telephone."""

    earlier: tuple[bytes, ...] = field(default=(), repr=False)
    words_count: bool = False
    """Whether the statement's words are held against the challenge."""


@dataclass(frozen=True)
class Plan:
    """A case before it is made."""

    group: str
    what: str
    make: Callable[[Random], Case] = field(repr=False)


class People:
    """Speakers that nothing was learnt of, their takes, and what each is enrolled with."""

    def __init__(self, speakers: Sequence[Speaker]) -> None:
        """Read them; those without a statement and 5 s beside it are left out."""
        self.takes: dict[str, list[Audio]] = {}
        self.speakers = speakers
        for speaker in self.speakers:
            takes = _distinct(speaker)
            lengths = sorted(len(take) / RATE for take in takes)
            if takes and lengths[-1] >= STATEMENT and sum(lengths[:-1]) >= 5.2:
                self.takes[speaker.name] = takes
        self.names = sorted(self.takes)
        self.victims = self.names[::2]
        self.rates = {speaker.name: speaker.rate for speaker in self.speakers}
        self.prints = {
            name: [fingerprint(take).to_bytes() for take in self.takes[name]] for name in self.names
        }

    def statement(self, name: str, rng: Random) -> tuple[Audio, int]:
        """One take that is long enough for the challenge, at most 12 s of it, and which."""
        takes = self.takes[name]
        fit = [i for i, take in enumerate(takes) if len(take) >= STATEMENT * RATE]
        index = int(rng.choice(fit))
        return takes[index][: 12 * RATE], index

    def body(self, name: str, rng: Random, but: int = -1) -> tuple[Audio, set[int]]:
        """Another take of 5 s or more, or takes strung together where none is; and which."""
        takes = self.takes[name]
        fit = [i for i, take in enumerate(takes) if len(take) >= 5.2 * RATE and i != but]
        if fit:
            index = int(rng.choice(fit))
            return takes[index][: 20 * RATE], {index}
        rest = [int(i) for i in rng.permutation(len(takes)) if i != but]
        return np.concatenate([takes[i] for i in rest])[: 20 * RATE], set(rest)

    def both(self, name: str, rng: Random) -> tuple[Audio, Audio, set[int]]:
        """A statement, a body of other takes, and which takes they are."""
        statement, index = self.statement(name, rng)
        body, used = self.body(name, rng, index)
        return statement, body, used | {index}

    def history(self, name: str, but: set[int], rng: Random) -> tuple[bytes, ...]:
        """Fingerprints of other people's recordings and of this one's takes but some."""
        pool = [
            data
            for other in self.names
            for index, data in enumerate(self.prints[other])
            if other != name or index not in but
        ]
        chosen = rng.choice(len(pool), min(HISTORY, len(pool)), replace=False)
        return tuple(pool[int(i)] for i in chosen)

    def sent(self, statement: str, speech: str) -> tuple[int, int]:
        """The rates of a file with one person's statement and one with another's speech."""
        return self.rates[statement], self.rates[speech]

    def one(self, rng: Random) -> str:
        """Somebody."""
        return str(rng.choice(self.names))


def _distinct(speaker: Speaker) -> list[Audio]:
    """Takes of which no two hold the same sound, sample for sample.

    Some prompts of a set are cut from others: they would be replays. The comparison is of the
    waveforms, not of fingerprints.
    """
    takes = speaker.takes(2.6, TAKES)
    known = UNPACKED / "distinct" / f"{speaker.name}.json"
    if not known.is_file():
        kept: list[int] = []
        for index, take in enumerate(takes):
            if not any(_same_sound(take, takes[other]) for other in kept):
                kept.append(index)
        known.parent.mkdir(parents=True, exist_ok=True)
        known.write_text(json.dumps(kept))
    return [takes[index] for index in json.loads(known.read_text())]


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


def honest(people: People, count: int) -> Iterator[Plan]:
    """One person, one sitting: both recordings through the same microphone, room and codec."""
    ways: dict[str, Change] = {
        "as recorded": lambda x, _: x,
        "Opus 32 kb/s": lambda x, _: coded(x, "libopus", 32000),
        "another microphone": microphone,
        "a room": lambda x, rng: noise(room(x, rng, 0.3, 10), 32, rng),
        "noise at 28 dB": lambda x, rng: noise(x, 28, rng),
    }

    def made(way: str, rng: Random) -> Case:
        name = people.one(rng)
        statement, body, used = people.both(name, rng)
        seed = int(rng.integers(2**31))
        both = [ways[way](x, np.random.default_rng(seed)) for x in (statement, body)]
        history = people.history(name, used, rng)
        return Case(both[0], both[1], people.sent(name, name), history)

    for number in range(count):
        way = list(ways)[number % len(ways)]
        yield Plan("genuine", way, lambda rng, way=way: made(way, rng))


def replays(people: People) -> Iterator[Plan]:
    """Both recordings are those of an earlier enrolment."""
    ways: dict[str, tuple[int, Change]] = {
        "exact copy": (5, lambda x, _: x),
        "Opus 16 kb/s": (6, lambda x, _: coded(x, "libopus", 16000)),
        "MP3 32 kb/s": (5, lambda x, _: coded(x, "libmp3lame", 32000)),
        "6 dB softer, noise at 20 dB": (5, lambda x, rng: noise(gain(x, -6), 20, rng)),
        "2 % faster": (5, lambda x, _: speed(x, 1.02)),
        "2 % slower": (5, lambda x, _: speed(x, 0.98)),
        "cropped by 20 %": (5, lambda x, _: x[int(0.1 * len(x)) : int(0.9 * len(x))]),
        "loudspeaker in a room": (9, replayed),
    }

    def made(way: str, rng: Random) -> Case:
        name = people.one(rng)
        statement, body, used = people.both(name, rng)
        enrolled = tuple(fingerprint(x).to_bytes() for x in (statement, body))
        history = (*people.history(name, used, rng), *enrolled)
        change = ways[way][1]
        both = change(statement, rng), change(body, rng)
        return Case(both[0], both[1], people.sent(name, name), history)

    for way, (count, _) in ways.items():
        for _ in range(count):
            yield Plan("replay", way, lambda rng, way=way: made(way, rng))


def splices(people: People) -> Iterator[Plan]:
    """The statement is put together from words of the victim; the body is the victim's."""
    ways: dict[str, tuple[int, Callable[[list[Audio], Random], Audio]]] = {
        "cut anywhere": (9, lambda t, rng: joined(pieces(t, rng))),
        "cut anywhere, 5 ms fades": (7, lambda t, rng: joined(pieces(t, rng), fade=0.005)),
        "cut at quiet places": (8, lambda t, rng: joined(at_quiet(t, rng))),
        "cut at quiet places, silence between": (
            7,
            lambda t, rng: joined(at_quiet(t, rng), silence=0.08),
        ),
        "words from several recordings": (
            7,
            lambda t, rng: joined([microphone(piece, rng) for piece in at_quiet(t, rng)]),
        ),
        "cut anywhere, then played into a room": (
            7,
            lambda t, rng: replayed(joined(pieces(t, rng)), rng),
        ),
    }

    def made(way: str, rng: Random) -> Case:
        name = people.one(rng)
        body, used = people.body(name, rng)
        rest = [take for i, take in enumerate(people.takes[name]) if i not in used]
        statement = ways[way][1](rest or people.takes[name], rng)
        return Case(statement, body, people.sent(name, name))

    for way, (count, _) in ways.items():
        for _ in range(count):
            yield Plan("splice", way, lambda rng, way=way: made(way, rng))


def syntheses(people: People, clones: dict[str, Say]) -> Iterator[Plan]:
    """The statement, or both recordings, are synthetic; clones say the challenge itself.

    ``clones``, by the victims' names, are looked up only when a case is made.
    """
    voices = fresh_synthesizers()
    ways: dict[str, Change] = {
        "as made": lambda x, _: x,
        "Opus 24 kb/s": lambda x, _: coded(x, "libopus", 24000),
        "noise at 25 dB": lambda x, rng: noise(x, 25, rng),
    }

    def said(say: Say, way: str, rng: Random) -> Case:
        body = np.concatenate([say(TEXTS[6]), say(TEXTS[7])])
        both = [ways[way](x, rng) for x in (say(TEXTS[0]), body)]
        return Case(both[0], both[1])

    def cloned(name: str, own: bool, rng: Random) -> Case:
        say = clones[name]
        if own:
            first = int(rng.integers(1, len(TEXTS) - 2))
            body = np.concatenate([say(text) for text in TEXTS[first : first + 3]])
        else:
            body, _ = people.body(name, rng)
        rates = (RATE, RATE) if own else (RATE, people.rates[name])
        return Case(say, body[: 20 * RATE], rates, words_count=True)

    def resynthesized(both: bool, rng: Random) -> Case:
        name = people.one(rng)
        statement, body, _ = people.both(name, rng)
        sent = people.sent(name, name)
        return Case(vocoded(statement), vocoded(body) if both else body, sent)

    for number in range(20):
        say = voices[sorted(voices)[number % len(voices)]]
        way = list(ways)[number % 3]
        what = f"a synthesizer's voice, {way}"
        yield Plan("TTS", what, lambda rng, say=say, way=way: said(say, way, rng))
    victims = people.victims
    for own, what in ((True, "both recordings"), (False, "statement, victim's body")):
        for number in range(15):
            name = victims[number % len(victims)]
            what_of = f"our clone, {what}" if own else f"our clone's {what}"
            yield Plan("TTS", what_of, lambda rng, name=name, own=own: cloned(name, own, rng))
    for both, what in ((True, "both"), (False, "victim's body")):
        for _ in range(10):
            what_of = f"victim's words resynthesized, {what}"
            yield Plan("TTS", what_of, lambda rng, both=both: resynthesized(both, rng))


def others(people: People) -> Iterator[Plan]:
    """An attacker's own statement for a victim's body."""

    def made(one_room: bool, rng: Random) -> Case:
        name = people.one(rng)
        attacker = str(rng.choice([other for other in people.names if other != name]))
        both = [people.statement(attacker, rng)[0], people.body(name, rng)[0]]
        if one_room:
            seed = int(rng.integers(2**31))
            both = [microphone(x, np.random.default_rng(seed)) for x in both]
        return Case(both[0], both[1], people.sent(attacker, name))

    for number in range(45):
        way = "both in one room" if number % 2 else "as recorded"
        yield Plan("other speaker", way, lambda rng, one=bool(number % 2): made(one, rng))


def wrong_phrases(people: People) -> Iterator[Plan]:
    """The victim, saying something else in the challenge's language."""

    def made(rng: Random) -> Case:
        name = people.one(rng)
        statement, body, _ = people.both(name, rng)
        return Case(statement, body, people.sent(name, name), words_count=True)

    for _ in range(45):
        yield Plan("wrong phrase", "in English", made)


def played(people: People) -> Iterator[Plan]:
    """Both recordings are the victim's, never enrolled, from a loudspeaker: beyond the 300."""
    sizes = {"of a telephone": (350, 500), "of a laptop": (200, 350), "on a shelf": (90, 200)}

    def made(size: str, rng: Random) -> Case:
        name = people.one(rng)
        statement, body, _ = people.both(name, rng)
        seed, low = int(rng.integers(2**31)), float(rng.uniform(*sizes[size]))

        def heard(samples: Audio) -> Audio:
            own = np.random.default_rng(seed)  # one loudspeaker, one room
            sound = loudspeaker(samples, own, low)
            wet = room(sound, own, own.uniform(0.15, 0.6), own.uniform(0, 10))
            return noise(wet, own.uniform(22, 40), own)

        return Case(heard(statement), heard(body), people.sent(name, name))

    for size in sizes:
        for _ in range(15):
            yield Plan("played", f"loudspeaker {size}", lambda rng, size=size: made(size, rng))
