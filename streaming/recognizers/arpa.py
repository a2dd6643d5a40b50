"""A trigram language model from weighted sentences, written as ARPA text.

Interpolated Witten-Bell smoothing (Witten & Bell 1991; Chen & Goodman 1998, section 2.6): with
``T(h)`` the number of different words seen after history ``h`` and ``c(h)`` their total weight,

    p(w|h) = (c(hw) + T(h) p(w|h')) / (c(h) + T(h))

so that a history which was followed by many different words leaves more to the shorter one.
Unlike Kneser-Ney and Good-Turing it needs no counts of counts, which a few dozen example phrases
don't give. The lowest order is interpolated with the uniform distribution.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

START: Final = "<s>"
END: Final = "</s>"

Counts = dict[tuple[str, ...], dict[str, float]]


class NgramModel:
    """Interpolated Witten-Bell probabilities over a closed vocabulary."""

    def __init__(
        self,
        sentences: Iterable[tuple[Sequence[str], float]],
        *,
        order: int = 3,
        extra: Iterable[tuple[str, float]] = (),
    ) -> None:
        """Count ``(words, weight)`` sentences up to ``order`` (1-3).

        ``extra`` are words that only the unigrams hold, with their weight. Raises ``ValueError``
        for an order outside 1-3, a weight not above zero, or nothing to count.
        """
        if not 1 <= order <= 3:
            raise ValueError(f"order must be 1, 2 or 3, got {order}")
        self.order = order
        self._counts: Counts = defaultdict(lambda: defaultdict(float))
        for words, weight in sentences:
            if weight <= 0:
                raise ValueError(f"weight must be above 0, got {weight} for {' '.join(words)!r}")
            if words:
                self._count((START, *words, END), weight)
        if not self._counts:
            raise ValueError("no sentences to build a language model from")
        for word, weight in extra:
            self._counts[()][word] += weight
        self.words = sorted(self._counts[()])
        """Every word that can be predicted, the sentence end among them."""

        self._totals = {history: sum(seen.values()) for history, seen in self._counts.items()}

    def _count(self, tokens: tuple[str, ...], weight: float) -> None:
        for position in range(1, len(tokens)):
            for length in range(min(self.order, position + 1)):
                self._counts[tokens[position - length : position]][tokens[position]] += weight

    def backoff(self, history: tuple[str, ...]) -> float:
        """What ``history`` leaves to the next shorter one: ``T(h) / (c(h) + T(h))``."""
        seen = self._counts.get(history)
        if not seen:
            return 1.0
        return len(seen) / (self._totals[history] + len(seen))

    def probability(self, word: str, history: tuple[str, ...]) -> float:
        """``p(word | history)``; the history is cut to what the order allows."""
        history = history[max(0, len(history) - self.order + 1) :]
        shorter = self.probability(word, history[1:]) if history else 1.0 / len(self.words)
        seen = self._counts.get(history)
        if not seen:
            return shorter
        share = seen.get(word, 0.0) / (self._totals[history] + len(seen))
        return share + self.backoff(history) * shorter

    def arpa(self) -> str:
        """The model in the ARPA back-off format (base-10 logarithms)."""
        grams: list[list[tuple[str, ...]]] = [[(word,) for word in (START, *self.words)]]
        for length in range(2, self.order + 1):
            grams.append(
                sorted(
                    (*history, word)
                    for history, seen in self._counts.items()
                    if len(history) == length - 1
                    for word in seen
                )
            )
        lines = ["\\data\\"]
        lines += [f"ngram {length}={len(found)}" for length, found in enumerate(grams, 1)]
        for length, found in enumerate(grams, 1):
            lines += ["", f"\\{length}-grams:"]
            lines += [self._line(gram) for gram in found]
        lines += ["", "\\end\\", ""]
        return "\n".join(lines)

    def _line(self, gram: tuple[str, ...]) -> str:
        # The sentence start is never predicted; -99 is the format's customary log zero.
        log = -99.0 if gram == (START,) else math.log10(self.probability(gram[-1], gram[:-1]))
        text = f"{log:.6f}\t{' '.join(gram)}"
        if len(gram) < self.order:
            text += f"\t{math.log10(self.backoff(gram)):.6f}"
        return text
