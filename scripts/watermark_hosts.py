"""What the watermark's benches mark, as a gate would, what they do to it, and the crops of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import numpy as np
from watermark_attacks import RATE, Audio, Case, cases, to_pcm
from watermark_corpus import active

from ringtrue.voices.watermark.embedder import Embedder, Excitation, excitation
from ringtrue.voices.watermark.keys import MarkKey
from ringtrue.voices.watermark.shaping import PILOT_SHARE
from ringtrue.voices.watermark.token import Token, symbols

KEY: Final = MarkKey(b"of the robustness bench alone...")
BEGUN: Final = datetime(2026, 1, 1, tzinfo=UTC)
COLLUDERS: Final = (5, 20)


def token_of(number: int) -> Token:
    """The token of the bench's session ``number``."""
    return Token(0x1000 + number, BEGUN)


def marked(host: Audio, token: Token | None = None, *, chips: Excitation | None = None) -> Audio:
    """``host`` as a gate sends it: with ``token``, or with ``chips``."""
    if chips is None:
        chips = excitation(KEY, symbols(KEY, token or token_of(0)))
    embedder = Embedder(chips, RATE)
    pcm = to_pcm(host[: len(host) // 160 * 160]).reshape(-1, 160)
    sent = b"".join(embedder.mark(frame.tobytes()) for frame in pcm)
    return np.frombuffer(sent, "<i2").astype(np.float64)


@dataclass(frozen=True, slots=True)
class Attack:
    """A row's name and how it comes about."""

    case: Case
    copies: int = 1
    """How many marked copies of the same speech, from different sessions, are averaged."""

    def heard(self, host: Audio, number: int) -> Audio:
        """``host`` marked as session ``number``, then attacked."""
        if self.copies == 1:
            return self.case.attack(marked(host, token_of(number)))
        total = np.zeros(len(host) // 160 * 160)
        for n in range(self.copies):
            away = 160 * 61 * n
            copy = marked(np.roll(host, away), token_of(100 * (n + 1) + number))
            total += np.roll(copy, -away)
        return total / self.copies

    def right(self, number: int) -> set[Token]:
        """The tokens that may be read from it."""
        if self.copies == 1:
            return {token_of(number)}
        return {token_of(100 * (n + 1) + number) for n in range(self.copies)}


def attacks(caller: Audio) -> dict[str, Attack]:
    """Every row, by name; ``caller`` is who talks over it."""
    listed = [Attack(case) for case in cases(caller)]
    listed += [
        Attack(Case(f"average of {n} marked copies", lambda x: x), copies=n) for n in COLLUDERS
    ]
    listed.append(Attack(Case("pilot subtracted, by its key", without_pilot)))
    return {each.case.name: each for each in listed}


def without_pilot(sent: Audio) -> Audio:
    """As left by who has the detection key and knows where the mark begins."""
    pilot = replace(excitation(KEY, symbols(KEY, token_of(0))), pilot_gain=-math.sqrt(PILOT_SHARE))
    return marked(sent, chips=replace(pilot, data_gain=0.0))


def crops(host: Audio, attacked: Audio, seconds: float, count: int, seed: int) -> Iterator[Audio]:
    """Parts of ``attacked`` that held so many seconds of active speech in ``host``."""
    rng = np.random.default_rng(seed)
    ratio = len(attacked) / len(host)
    sums = np.concatenate([[0.0], np.cumsum(active(host))]) * 0.02
    last = int(np.searchsorted(sums, sums[-1] - seconds)) - 1
    for _ in range(count):
        first = int(rng.integers(0, max(1, last)))
        end = int(np.searchsorted(sums, sums[first] + seconds))
        first, end = first * 160 + int(rng.integers(0, 160)), end * 160 + 160
        yield attacked[int(first * ratio) : int(end * ratio)]


def segmental_snr(clear: Audio, other: Audio) -> float:
    """Mean over active frames of speech against difference, each limited to −10 … 60 dB."""
    size = min(len(clear), len(other)) // 160 * 160
    speech, error = clear[:size].reshape(-1, 160), (other[:size] - clear[:size]).reshape(-1, 160)
    which = active(clear[:size])
    ratio = (speech[which] ** 2).mean(axis=1) / ((error[which] ** 2).mean(axis=1) + 1e-2)
    return float(np.clip(10 * np.log10(ratio + 1e-9), -10, 60).mean())
