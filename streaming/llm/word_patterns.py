"""Patterns of words, found in whole texts or in texts that are still arriving, word by word.

A pattern is written as steps between spaces::

    i am|m <hedge> human|person !resources

Each step is a word or several that it may be; ``word?`` may be missing; ``<name>`` stands for up
to :data:`MAX_FILLERS` words of a named set. ``~no|not`` before the first step: the match must not
follow one of these words directly, in the same clause. ``!x|y`` after the last: nor may one of
these come next. All words are compared folded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ringtrue.config.agent_disclosure import folded

MAX_FILLERS: Final = 5

_Words = frozenset[str]


@dataclass(frozen=True, slots=True)
class _Step:
    words: _Words
    least: int
    most: int


@dataclass(frozen=True, slots=True, eq=False)
class _Pattern:
    steps: tuple[_Step, ...]
    after: _Words
    """Words it must not follow."""

    before: _Words
    """Words that must not follow it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A match, by the numbers of its words since the scan began."""

    first: int
    end: int
    """One more than its last word's."""


@dataclass(frozen=True, slots=True)
class _Thread:
    """A match under way."""

    first: int
    pattern: _Pattern
    step: int
    """The step that the last word was taken by; ``len(steps)``: all are done."""

    taken: int
    """Words that this step has taken."""


class Patterns:
    """A set of patterns, compiled once; shared by any number of scans."""

    def __init__(self, patterns: Iterable[str], sets: Mapping[str, str] | None = None) -> None:
        """``sets``: name → words, separated by spaces, that ``<name>`` stands for.

        Raises ``ValueError`` for a pattern that matches nothing at all.
        """
        named = {name: _set(words.split()) for name, words in (sets or {}).items()}
        self._begin: dict[str, list[tuple[_Pattern, int]]] = {}
        for text in patterns:
            pattern = _compiled(text, named)
            for step in _reachable(pattern, 0):
                for word in pattern.steps[step].words:
                    self._begin.setdefault(word, []).append((pattern, step))

    def starting(self, word: str) -> Sequence[tuple[_Pattern, int]]:
        """The patterns that ``word`` can begin, and the step it is taken by."""
        return self._begin.get(word, ())

    def find(self, words: Iterable[str]) -> Found | None:
        """The match in ``words`` (folded) that is complete first."""
        scan = Scan(self)
        for word in words:
            if found := scan.feed(word):
                return found
        return scan.finish()


class Scan:
    """One pass over a text."""

    def __init__(self, patterns: Patterns) -> None:
        """Begin before the first word."""
        self._patterns = patterns
        self._threads: list[_Thread] = []
        self._count = 0
        self._last = ""

    @property
    def earliest(self) -> int | None:
        """The first word of the longest match under way; None: nothing is."""
        return min((thread.first for thread in self._threads), default=None)

    def feed(self, word: str, *, new_clause: bool = False) -> Found | None:
        """Take the next word, folded; return the match that it completes, or confirms.

        ``new_clause``: a comma or another mark stands before it.
        """
        found: Found | None = None
        going: dict[_Thread, None] = {}
        for thread in self._threads:
            if thread.step == len(thread.pattern.steps):
                if word not in thread.pattern.before:
                    found = _first(found, Found(thread.first, self._count))
                continue
            for further in _further(thread, word):
                going[further] = None
        before = "" if new_clause else self._last
        for pattern, step in self._patterns.starting(word):
            if before and before in pattern.after:
                continue
            going[_Thread(self._count, pattern, step, 1)] = None
        self._count += 1
        self._last = word
        threads = []
        for thread in going:
            for at in _ended(thread):
                if at.step < len(at.pattern.steps) or at.pattern.before:
                    threads.append(at)
                else:
                    found = _first(found, Found(at.first, self._count))
        self._threads = threads
        return found

    def finish(self) -> Found | None:
        """The text is over: the match that only waited for what comes next."""
        found: Found | None = None
        for thread in self._threads:
            if thread.step == len(thread.pattern.steps):
                found = _first(found, Found(thread.first, self._count))
        self._threads = []
        return found


def _further(thread: _Thread, word: str) -> Iterator[_Thread]:
    """Where ``thread`` is once it has taken ``word``."""
    steps = thread.pattern.steps
    step = steps[thread.step]
    if thread.taken < step.most and word in step.words:
        yield _Thread(thread.first, thread.pattern, thread.step, thread.taken + 1)
    if thread.taken >= step.least:
        for index in _reachable(thread.pattern, thread.step + 1):
            if word in steps[index].words:
                yield _Thread(thread.first, thread.pattern, index, 1)


def _ended(thread: _Thread) -> Iterator[_Thread]:
    """``thread``, and its match where every step that is left may be missing."""
    steps = thread.pattern.steps
    done = thread.taken >= steps[thread.step].least
    if done and all(step.least == 0 for step in steps[thread.step + 1 :]):
        yield _Thread(thread.first, thread.pattern, len(steps), 0)
        return
    yield thread


def _reachable(pattern: _Pattern, step: int) -> Iterator[int]:
    """Steps that may take the next word, where those before ``step`` are done."""
    for index in range(step, len(pattern.steps)):
        yield index
        if pattern.steps[index].least:
            return


def _first(one: Found | None, other: Found) -> Found:
    return other if one is None or other.first < one.first else one


def _compiled(text: str, named: Mapping[str, _Words]) -> _Pattern:
    after: _Words = frozenset()
    before: _Words = frozenset()
    steps = []
    for part in text.split():
        if part[0] == "~":
            after = _set(part[1:].split("|"))
        elif part[0] == "!":
            before = _set(part[1:].split("|"))
        elif part[0] == "<":
            steps.append(_Step(named[part[1:-1]], 0, MAX_FILLERS))
        elif part[-1] == "?":
            steps.append(_Step(_set(part[:-1].split("|")), 0, 1))
        else:
            steps.append(_Step(_set(part.split("|")), 1, 1))
    if not any(step.least for step in steps):
        raise ValueError(f"pattern {text!r} matches nothing at all")
    return _Pattern(tuple(steps), after, before)


def _set(words: Iterable[str]) -> _Words:
    return frozenset(folded(word) for word in words)
