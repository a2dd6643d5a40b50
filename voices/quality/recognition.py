"""How well speech is understood: word error rate of PocketSphinx over a script. Blocking.

The same audio is recognized twice: with a language model of the script among other sentences of
its kind (a telephone agent's domain), and with PocketSphinx's general English model, which
forgives less.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.streaming.recognizers.decoding import DecoderSet, Utterance
from ringtrue.streaming.recognizers.grammar import Grammar
from ringtrue.streaming.recognizers.vocabulary import Vocabulary, normalize

RATE: Final = 16000
LEAD_SECONDS: Final = 0.2
TAIL_SECONDS: Final = 0.3
NOISE_DBFS: Final = -80.0
"""Quiet around and under the speech: digital silence upsets the recognizer's normalisation."""

PEAK: Final = 0.6

Samples = npt.NDArray[np.floating]


class ScriptRecognizer:
    """Recognizes a script's sentences. For one thread."""

    def __init__(self, script: Sequence[str], others: Sequence[str] = (), *, general: bool) -> None:
        """For ``script``, in a domain that ``others`` belong to too, or with the general model."""
        grammar = Grammar()
        if not general:
            phrases = tuple(" ".join(normalize(text)) for text in (*script, *others))
            vocabulary = Vocabulary(phrases, yes_no=False, courtesy=False, digits=False)
            grammar = Grammar(vocabulary=vocabulary)
        self._decoders = DecoderSet(grammar)
        self._channel: str | None = None

    def words(self, samples: Samples) -> list[str]:
        """What is heard in one sentence: mono at 16 kHz, full scale 1.0.

        The channel learned from one sentence is kept for the next, as in a call.
        """
        rng = np.random.default_rng(0)
        lead, tail = int(LEAD_SECONDS * RATE), int(TAIL_SECONDS * RATE)
        padded = np.pad(np.asarray(samples, np.float64), (lead, tail))
        padded *= PEAK / max(1e-9, float(np.abs(padded).max()))
        padded += rng.normal(0, 10 ** (NOISE_DBFS / 20), len(padded))
        utterance = Utterance(self._decoders, RATE, 0.0, self._channel)
        utterance.feed((padded * 32767).astype("<i2").tobytes())
        final = json.loads(utterance.finish())
        self._channel = final["cmn"]
        return normalize(final["text"])

    def error_rate(
        self, script: Sequence[str], spoken: Iterable[Samples], *, enough: int | None = None
    ) -> float:
        """Word errors over words, all sentences of ``script`` together; may exceed 1.

        The first sentence is heard once before it counts, to learn the channel. Where the first
        ``enough`` sentences have no error, the rest are not asked of ``spoken``, and it is 0.
        """
        self._channel = None
        errors = words = 0
        for count, (text, samples) in enumerate(zip(script, spoken, strict=enough is None), 1):
            if count == 1:
                self.words(samples)
            expected = normalize(text)
            errors += word_errors(expected, self.words(samples))
            words += len(expected)
            if count == enough and not errors:
                break
        return errors / words

    def close(self) -> None:
        """Remove compiled files."""
        self._decoders.close()


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """Least number of words to insert, delete or replace (Levenshtein distance)."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]
