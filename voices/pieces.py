"""A phrase cut into what is analysed in one go, and the pauses between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from ringtrue.config.speech_markup import Break
from ringtrue.streaming.normalize import normalize
from ringtrue.streaming.ssml import Passage, Style, parse
from ringtrue.voices.flite import spoken_tokens
from ringtrue.voices.flite.library import FRAME_SECONDS

MAX_WORDS: Final = 14
"""Tokens analysed at once; bounds the work that can't be interrupted to about 20 ms."""

STRONG: Final = ".?!"
WEAK: Final = ",;:"


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of written words that is analysed in one go, or a pause."""

    words: tuple[tuple[str, int], ...] = ()
    """Written word, and how many tokens were said by its end."""

    tokens: tuple[str, ...] = ()
    styles: tuple[Style, ...] = ()
    """One for each token."""

    pause: int | None = None
    """Frames of silence asked for between the words before and after; then there is no text."""

    last: bool = False
    """Last of its phrase."""


@dataclass(frozen=True, slots=True)
class _Unit:
    """Tokens that stay together."""

    written: str
    """The word they end, or empty."""

    tokens: list[str]
    style: Style


def pieces(phrase: str) -> list[Piece]:
    """Pieces of a phrase that may hold speech markup, in order; at least one, the last marked."""
    found: list[Piece] = []
    for part in parse(phrase).parts:
        if isinstance(part, Break):
            found.append(Piece(pause=round(part.seconds / FRAME_SECONDS)))
        else:
            found += _cut(part)
    found = found or [Piece()]
    found[-1] = replace(found[-1], last=True)
    return found


def _cut(passage: Passage) -> Iterator[Piece]:
    """Pieces of at most MAX_WORDS tokens, cut after punctuation where there is any."""
    groups: list[list[_Unit]] = [[]]
    count = 0
    for unit in _units(passage):
        while count + len(unit.tokens) > MAX_WORDS:
            head, rest = _split(groups.pop())
            groups += [head, rest]
            count = sum(len(one.tokens) for one in rest)
        groups[-1].append(unit)
        count += len(unit.tokens)
    return map(_piece, groups)


def _units(passage: Passage) -> Iterator[_Unit]:
    for pair in normalize(passage.text, passage.said):
        style = passage.style_at(pair.start)
        tokens = spoken_tokens(pair.spoken)
        while len(tokens) > MAX_WORDS:
            yield _Unit("", tokens[:MAX_WORDS], style)
            tokens = tokens[MAX_WORDS:]
        yield _Unit(pair.written, tokens, style)


def _split(group: list[_Unit]) -> tuple[list[_Unit], list[_Unit]]:
    """Cut after the last punctuated word; without one, keep all in the first part."""
    for index in range(len(group) - 1, 0, -1):
        tokens = group[index - 1].tokens
        if tokens and tokens[-1][-1] in STRONG + WEAK:
            return group[:index], group[index:]
    return group, []


def _piece(group: Iterable[_Unit]) -> Piece:
    words: list[tuple[str, int]] = []
    said: list[str] = []
    styles: list[Style] = []
    for unit in group:
        said += unit.tokens
        styles += [unit.style] * len(unit.tokens)
        if unit.written:
            words.append((unit.written, len(said)))
    return Piece(tuple(words), tuple(said), tuple(styles))
