"""PocketSphinx decoders by grammar, and one utterance on one of them. Blocking; worker side only.

Passes: ``fwdtree`` while audio comes in, then the best path through its word lattice; the flat
second pass (``fwdflat``) is left out. On telephone audio with a domain model that costs 0.01 of
word error rate at most and takes the final pass from 50-250 ms to a few.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pocketsphinx

from ringtrue.streaming.errors import RecognizerError
from ringtrue.streaming.recognizers.band import BandMirror
from ringtrue.streaming.recognizers.grammar import Grammar, GrammarReport
from ringtrue.streaming.recognizers.lexicon import look_up
from ringtrue.streaming.recognizers.vocabulary import compile_vocabulary

MODEL_RATE: Final = 16000
CMN_INITIAL: Final = "41,2.7,1.7"
"""Cepstral mean to begin a call with: the average of mirrored telephone speech."""

READY: Final = 8
"""Decoders kept for a vocabulary that is in use. One takes 25-40 ms to make, in which the worker
decodes for nobody, and holds 6 MB, of which 5 are there before its first utterance."""

READY_GENERAL: Final = 1
"""Likewise where the language model is a large one, and each decoder holds it."""

_MODEL: Final = Path("en-us")
_ALTERNATIVE: Final = re.compile(r"\(\d+\)$")
_LOG_SHIFT: Final = 1024.0
"""Language scores of a segment come shifted right by 10 bits (SENSCR_SHIFT in the library)."""

_CREDIBILITY: Final = (5.6, 0.16, 1.15)
"""Bias, weight of the mean language score and of the mean log posterior per word."""


@dataclass(frozen=True, slots=True)
class Word:
    """One recognized word."""

    text: str
    """Without the mark of an alternative pronunciation."""

    language: float
    """Weighted log probability from the language model (0 under a JSGF grammar)."""

    posterior: float
    """Posterior probability in the word lattice."""


def confidence(words: Sequence[Word], kind: str) -> float:
    """How credible a hypothesis is, 0 to 1.

    With a vocabulary a logistic function of two means over the words: speech outside the
    vocabulary is forced onto word sequences its model finds unlikely, and onto words with close
    rivals in the lattice. The general model's scores don't compare, and a JSGF grammar has none,
    so there it is the geometric mean of the posteriors.
    """
    if not words:
        return 0.0
    posterior = sum(math.log(max(word.posterior, 1e-30)) for word in words) / len(words)
    if kind != "vocabulary":
        return math.exp(min(0.0, posterior))
    language = sum(word.language for word in words) / len(words)
    bias, by_language, by_posterior = _CREDIBILITY
    score = bias + by_language * language + by_posterior * posterior
    return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, score))))


class DecoderSet:
    """Idle decoders of one grammar; a decoder serves one utterance at a time.

    How many there are doesn't depend on which calls happened to speak together: once a grammar is
    in use there are :data:`READY`, and as many more as were busy at once in the last interval
    between two calls of :meth:`settle`. They serve in turn, so that each soon has the buffers that
    utterances take.
    """

    def __init__(self, grammar: Grammar) -> None:
        """Compile the grammar and create the first decoder.

        Raises :class:`~ringtrue.streaming.errors.RecognizerError` for a grammar that can't load.
        """
        started = time.perf_counter()
        self.kind = grammar.kind
        self._folder = tempfile.TemporaryDirectory(prefix="ringtrue-grammar-")
        self._options, words, guessed = self._prepare(grammar, Path(self._folder.name))
        self._idle = deque((self._create(),))
        small = grammar.vocabulary is not None or grammar.jsgf is not None
        self._ready = READY if small else READY_GENERAL
        self._used = False
        self._most = 0
        self.report = GrammarReport(words, guessed, time.perf_counter() - started)

    @staticmethod
    def _prepare(
        grammar: Grammar, folder: Path
    ) -> tuple[dict[str, str | None], int, dict[str, str]]:
        shipped = Path(pocketsphinx.get_model_path()) / _MODEL
        dictionary = grammar.dictionary or shipped / "cmudict-en-us.dict"
        options: dict[str, str | None] = {
            "hmm": str(shipped / "en-us"),
            "dict": str(dictionary),
        }
        if grammar.vocabulary is not None:
            compiled = compile_vocabulary(grammar.vocabulary, dictionary)
            (folder / "vocabulary.lm").write_text(compiled.arpa)
            options["lm"] = str(folder / "vocabulary.lm")
            lexicon = compiled.lexicon
        elif grammar.jsgf is not None:
            try:
                spoken = _jsgf_words(grammar.jsgf.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError) as error:
                raise RecognizerError(f"can't read the grammar {grammar.jsgf}: {error}") from error
            # The constructor fills in the general model unless told that there is none.
            options |= {"jsgf": str(grammar.jsgf), "lm": None}
            lexicon = look_up(spoken, dictionary, grammar.pronunciations)
        else:
            options["lm"] = str(grammar.lm or shipped / "en-us.lm.bin")
            return options, 0, {}
        (folder / "vocabulary.dict").write_text(lexicon.dictionary())
        options["dict"] = str(folder / "vocabulary.dict")
        return options, len(lexicon.entries), dict(lexicon.guessed)

    def _create(self) -> pocketsphinx.Decoder:
        try:
            return pocketsphinx.Decoder(
                samprate=MODEL_RATE,
                fwdflat=False,
                bestpath=True,
                cmninit=CMN_INITIAL,
                loglevel="FATAL",
                **self._options,
            )
        except (RuntimeError, ValueError) as error:
            named = self._options.get("jsgf") or self._options.get("lm")
            raise RecognizerError(
                f"PocketSphinx refused the {self.kind} grammar {named}"
            ) from error

    def take(self) -> pocketsphinx.Decoder:
        """The decoder that has been idle longest, or a new one."""
        self._used = True
        return self._idle.popleft() if self._idle else self._create()

    def give_back(self, decoder: pocketsphinx.Decoder) -> None:
        """Its utterance is over: keep it for the next."""
        self._idle.append(decoder)

    def busy(self, count: int) -> None:
        """So many decoders are taken now."""
        self._most = max(self._most, count)

    @property
    def short(self) -> bool:
        """Whether more should be made, once none is taken: see :meth:`make_one`."""
        return self._used and len(self._idle) < self._ready

    def make_one(self) -> None:
        """One more, idle. Where none can be made, those that there are must do: whoever then needs
        another is told."""
        try:
            self._idle.append(self._create())
        except RecognizerError:
            self._ready = len(self._idle)

    def settle(self, busy: int) -> None:
        """Let idle decoders go that were not needed since the last time; ``busy`` are taken now."""
        kept = max(self._ready, self._most) - busy
        while len(self._idle) > max(0, kept):
            self._idle.popleft()
        self._most = busy

    def close(self) -> None:
        """Remove the compiled files."""
        self._idle.clear()
        self._folder.cleanup()


def _jsgf_words(text: str) -> set[str]:
    """Every token a JSGF grammar can produce: what is no comment, header, rule name or tag."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)
    text = re.sub(r"#JSGF[^;]*;|\bgrammar\s+[^;]*;|\bimport\s+[^;]*;|\{[^}]*\}|<[^>]*>", " ", text)
    text = re.sub(r"/[0-9.eE+-]+/", " ", text)
    text = re.sub(r"\bpublic\b", " ", text)
    return set(re.findall(r"[a-z][a-z']*", text))


class Utterance:
    """One utterance being decoded."""

    def __init__(self, decoders: DecoderSet, rate: int, mirror: float, cmn: str | None) -> None:
        """Take a decoder; ``cmn`` is the cepstral mean the call's last utterance left."""
        self.decoders = decoders
        self._decoder = decoders.take()
        self._band = BandMirror(mirror) if rate * 2 == MODEL_RATE else None
        self._decoder.start_stream()
        self._decoder.set_cmn(cmn or CMN_INITIAL)
        self._decoder.start_utt()
        self.partial = ""
        """Latest text."""

    def feed(self, pcm: bytes) -> None:
        """Decode PCM at the utterance's rate."""
        if self._band is not None:
            pcm = self._band.push(pcm)
        if pcm:
            self._decoder.process_raw(pcm)

    def update(self) -> bool:
        """Refresh :attr:`partial`; True if it changed."""
        hypothesis = self._decoder.hyp()
        text = "" if hypothesis is None else _plain(hypothesis.hypstr)
        changed = text != self.partial
        self.partial = text
        return changed

    def finish(self) -> str:
        """The final pass; returns the JSON of a FINAL message and frees the decoder."""
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        words = [] if hypothesis is None else self._words()
        cmn = self._decoder.get_cmn(True)
        self.decoders.give_back(self._decoder)
        text = " ".join(word.text for word in words)
        score = confidence(words, self.decoders.kind)
        return json.dumps({"text": text, "confidence": score, "cmn": cmn})

    def _words(self) -> list[Word]:
        found = []
        for segment in self._decoder.seg():
            if segment.word[0] not in "<[+":
                language = math.log(max(segment.lscore, 1e-300)) * _LOG_SHIFT
                found.append(Word(_plain(segment.word), language, segment.prob))
        return found

    def cancel(self) -> None:
        """Drop it and free the decoder."""
        self._decoder.end_utt()
        self.decoders.give_back(self._decoder)


def _plain(text: str) -> str:
    return " ".join(_ALTERNATIVE.sub("", word) for word in text.split())
