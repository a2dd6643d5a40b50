"""How far a clone may go: likeness is bought with clarity, and words come first.

A refinement of nearly its full strength is tried first, then weaker ones, until a recognizer
understands the clone about as well as the stock voice it is made from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ringtrue.voices.cloning.bases import spoken
from ringtrue.voices.cloning.script import JUDGING, LEARNING
from ringtrue.voices.quality.recognition import ScriptRecognizer
from ringtrue.voices.renderer import RenderedVoice

MAX_ADDED: Final = 0.015
"""Word error rate a clone may have above its base voice's here, so that it stays within two points
of it on other scripts."""

STRENGTHS: Final = (0.85, 0.6, 0.35)
"""Shares of a refinement that are tried, the strongest first; each try costs 3 to 6 s of CPU. Its
last part brings a hundredth of likeness and takes some four of DNSMOS's mark."""

ENOUGH: Final = 9
"""Sentences, some 120 words, after which a voice that made no error is heard no further: one with a
rate of .025 has a chance of 5 % of that."""

_FULL_SCALE: Final = 32768.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guard decided."""

    strength: float
    """Share of the refinement to keep."""

    error_rate: float
    """Word error rate of the clone at that strength."""

    base_error_rate: float | None
    """That of the stock voice it is made from; None where it didn't matter."""


class Listener:
    """Understands the judging script, said by any voice. For one thread."""

    def __init__(self, script: Sequence[str] = JUDGING, others: Sequence[str] = LEARNING) -> None:
        """Listen for ``script`` among ``others``."""
        self._script = tuple(script)
        self._recognizer = ScriptRecognizer(self._script, others, general=False)

    def error_rate(self, voice: RenderedVoice) -> float:
        """Word error rate of ``voice`` saying the script; 3 to 6 s of CPU."""
        utterances = (
            pcm.astype(np.float64) / _FULL_SCALE
            for text in self._script
            for pcm in spoken(voice, (text,))
        )
        return self._recognizer.error_rate(self._script, utterances, enough=ENOUGH)

    def close(self) -> None:
        """Remove compiled files."""
        self._recognizer.close()


def judged(
    base: RenderedVoice,
    clone: Callable[[float], RenderedVoice],
    listener: Listener,
    on_try: Callable[[float], None],
    strengths: Sequence[float] = STRENGTHS,
) -> Verdict:
    """The strongest of ``strengths`` at which ``clone`` is understood as ``base`` is.

    Within :data:`MAX_ADDED` of its word error rate; where none is, the one understood best, and
    of those the strongest. ``base`` is listened to only where its word could matter: a clone with
    no more errors than that will do whatever the base has. ``on_try`` is told the share of tries
    done.
    """
    tries = len(strengths) + 1
    allowed: float | None = None
    found: list[Verdict] = []
    for count, strength in enumerate(strengths, 1):
        error_rate = listener.error_rate(clone(strength))
        if allowed is None and error_rate > MAX_ADDED:
            allowed = listener.error_rate(base)
        found.append(Verdict(strength, error_rate, allowed))
        on_try((count + (allowed is not None)) / tries)
        if error_rate <= (allowed or 0.0) + MAX_ADDED:
            return found[-1]
    return min(found, key=lambda verdict: verdict.error_rate)
