"""What was said, held against what was to be said: PocketSphinx on words known beforehand.

Three passes over one recording with equal normalisation:

- a loop of phones without words says how well *anything* fits each frame;
- the text as it was to be read is aligned, and each word's score compared with the loop's. The
  mean of that difference is what Witt & Young ("Phone-level pronunciation scoring and assessment
  for interactive language learning", Speech Communication 30, 2000) call goodness of
  pronunciation: near zero where the words were said, far below where others were;
- the same text with its last words left open among all that a challenge can hold, so that other
  digits and words are heard as such.

English only: the acoustic model is US English. Blocking, and PocketSphinx holds the interpreter
lock: for a process of its own. Some 0.15 s of CPU per second of recording.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pocketsphinx

from ringtrue.streaming.recognizers.band import BandMirror
from ringtrue.streaming.recognizers.lexicon import LETTERS, look_up

MODEL_RATE: Final = 16000
_MODEL: Final = Path("en-us")
_MIRROR_GAIN: Final = 0.5
_ALTERNATIVE: Final = re.compile(r"\(\d+\)$")
_LOG_SHIFT: Final = 1024.0
"""Scores of a segment come shifted right by 10 bits (SENSCR_SHIFT in the library)."""

_FRAME: Final = MODEL_RATE // 100
_HEADER: Final = "#JSGF V1.0; grammar statement; public <statement> = "

FloatArray = npt.NDArray[np.float32]
Readings = tuple[tuple[str, ...], ...]
"""Ways to say one thing, each as words; the first is the plainest."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some words of the text, judged together."""

    name: str
    readings: tuple[Readings, ...] = field(repr=False)
    """One entry per written word."""


@dataclass(frozen=True, slots=True)
class Script:
    """What was to be read: parts in order, then words drawn at random."""

    parts: tuple[Part, ...]
    drawn: tuple[str, ...] = field(repr=False)
    choices: tuple[tuple[str, ...], ...] = field(repr=False)
    """For each drawn word all it could have been."""


@dataclass(frozen=True, slots=True)
class Heard:
    """How the recording fits the script."""

    words: tuple[str, ...] = field(repr=False)
    """The text as heard with the drawn words left open; empty where nothing fits."""

    fits: dict[str, float]
    """Goodness of each part by its name, and of all drawn words as ``drawn``, in nats per frame;
    :data:`NO_FIT` where the recording can't be the text at all."""

    missed: int
    """Drawn words heard as others."""

    margin: float
    """Nats by which what was heard fits better than what was drawn; at least 0."""

    extra: float
    """Nats by which anything fits the worst pause better than silence: words that are not in the
    text can only be aligned with pauses."""


NO_FIT: Final = -20.0
"""Goodness of a recording that can't be aligned with the text."""

MAX_MARGIN: Final = 1000.0
"""Margin reported where the text can't be aligned, and the largest."""


@dataclass(frozen=True, slots=True)
class _Segment:
    word: str
    score: float
    """Natural log of the acoustic likelihood, over all its frames."""

    first: int
    last: int


def hear(samples: FloatArray, script: Script, *, narrow_band: bool = False) -> Heard:
    """Judge a recording, mono at 16 kHz; ``narrow_band`` where it holds nothing above 4 kHz.

    Raises :class:`~ringtrue.streaming.errors.RecognizerError` for a script with a word that can't
    be one.
    """
    pcm = _pcm(samples, narrow_band)
    with tempfile.TemporaryDirectory(prefix="ringtrue-hearing-") as folder:
        decoder = _decoder(script, Path(folder))
        loop = _per_frame(_decode(decoder, "phones", pcm), len(samples) // _FRAME + 8)
        aligned = _decode(decoder, "read", pcm)
        opened = _decode(decoder, "open", pcm)
    read, free = list(filter(_is_word, aligned)), list(filter(_is_word, opened))
    count = len(script.drawn)
    if len(read) <= count or len(free) <= count:
        fits = dict.fromkeys([*(part.name for part in script.parts), "drawn"], NO_FIT)
        return Heard(tuple(s.word for s in free), fits, count, MAX_MARGIN, MAX_MARGIN)
    fits, at = {}, 0
    for part in script.parts:
        length = _spoken_length(part, [s.word for s in read[at:]])
        fits[part.name] = _goodness(read[at : at + length], loop)
        at += length
    fits["drawn"] = _goodness(read[-count:], loop)
    missed = sum(s.word != word for s, word in zip(free[-count:], script.drawn, strict=True))
    margin = sum(s.score for s in opened) - sum(s.score for s in aligned)
    return Heard(
        tuple(s.word for s in free),
        fits,
        missed,
        float(np.clip(margin, 0.0, MAX_MARGIN)),
        max((-_over_loop([s], loop) for s in aligned if not _is_word(s)), default=0.0),
    )


def _pcm(samples: FloatArray, narrow_band: bool) -> bytes:
    peak = float(np.abs(samples).max()) if len(samples) else 0.0
    level = samples * np.float32(0.9 / peak) if peak > 0.0 else samples
    if not narrow_band:
        return np.rint(level * 32767).astype("<i2").tobytes()
    import soxr

    half = soxr.resample(level, MODEL_RATE, MODEL_RATE // 2)
    halved = np.clip(np.rint(half * 32767), -32768, 32767).astype("<i2").tobytes()
    return BandMirror(_MIRROR_GAIN).push(halved)


def _decoder(script: Script, folder: Path) -> Any:
    shipped = Path(pocketsphinx.get_model_path()) / _MODEL
    fixed = [
        _either([" ".join(reading) for reading in word])
        for part in script.parts
        for word in part.readings
    ]
    words = {w for part in script.parts for word in part.readings for r in word for w in r}
    words |= set(script.drawn) | {w for choice in script.choices for w in choice}
    letters = {word: LETTERS[word] for word in words if len(word) == 1 and word != "a"}
    lexicon = look_up(words, shipped / "cmudict-en-us.dict", letters)
    (folder / "words.dict").write_text(lexicon.dictionary())
    decoder = pocketsphinx.Decoder(
        samprate=MODEL_RATE,
        hmm=str(shipped / "en-us"),
        dict=str(folder / "words.dict"),
        lm=None,
        # Passes are compared with each other: the same mean for each, scores not relative to
        # the few states a pass happens to look at, and nothing pruned early.
        cmn="batch",
        compallsen=True,
        beam=1e-80,
        pbeam=1e-80,
        wbeam=1e-60,
        fwdflat=False,
        bestpath=False,
        loglevel="FATAL",
    )
    decoder.add_allphone_file("phones", str(shipped / "en-us-phone.lm.bin"))
    opened = [
        _either(sorted({*choice, word}))
        for word, choice in zip(script.drawn, script.choices, strict=True)
    ]
    decoder.add_jsgf_string("read", _HEADER + " ".join([*fixed, *script.drawn]) + ";")
    decoder.add_jsgf_string("open", _HEADER + " ".join([*fixed, *opened]) + ";")
    return decoder


def _either(alternatives: Sequence[str]) -> str:
    return "( " + " | ".join(alternatives) + " )" if len(alternatives) > 1 else alternatives[0]


def _decode(decoder: Any, search: str, pcm: bytes) -> list[_Segment]:
    decoder.activate_search(search)
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
    if decoder.hyp() is None:
        return []
    return [
        _Segment(
            _ALTERNATIVE.sub("", s.word),
            math.log(max(s.ascore, 1e-300)) * _LOG_SHIFT,
            s.start_frame,
            s.end_frame,
        )
        for s in decoder.seg()
    ]


def _is_word(segment: _Segment) -> bool:
    return segment.word[0] not in "<[(+" and segment.word != "NULL"


def _per_frame(segments: list[_Segment], frames: int) -> npt.NDArray[np.float64]:
    """The loop's score of each frame, evenly over its phone's."""
    scores = np.zeros(max(frames, *(s.last + 2 for s in segments)) if segments else frames)
    for s in segments:
        scores[s.first : s.last + 1] = s.score / (s.last - s.first + 1)
    return scores


def _over_loop(segments: list[_Segment], loop: npt.NDArray[np.float64]) -> float:
    """Nats over the loop's score of the same frames; pauses between words count for neither."""
    return sum(s.score - float(loop[s.first : s.last + 1].sum()) for s in segments)


def _goodness(segments: list[_Segment], loop: npt.NDArray[np.float64]) -> float:
    """Mean difference to the loop in nats per frame, over the words without their pauses."""
    frames = sum(s.last - s.first + 1 for s in segments)
    return _over_loop(segments, loop) / frames if frames else NO_FIT


def _spoken_length(part: Part, heard: Sequence[str]) -> int:
    """How many of the words heard belong to a part whose words have several readings."""
    at = 0
    for word in part.readings:
        fitting = [r for r in word if tuple(heard[at : at + len(r)]) == r]
        at += max(map(len, fitting), default=1)
    return at
