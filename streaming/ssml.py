"""Speech markup as a synthesizer uses it: plain text, and how each part of it is to sound.

:func:`parse` never fails. Tags that aren't of :mod:`ringtrue.config.speech_markup`, values out of
range and closing tags without an opening one have no effect, are never spoken, and are counted:
a language model writes what it likes. What is still open at the end is closed.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from pipecat.frames.frames import Frame

from ringtrue.config.speech_markup import (
    MAX_BREAK,
    PITCHES,
    RATES,
    VOLUMES,
    Break,
    Prosody,
    SayAs,
    Scanner,
    Tag,
    interpret,
)

MAX_DEPTH: Final = 16
"""Elements open at once; deeper ones have no effect and are counted."""

_FRAME_KEY: Final = "ringtrue.markup"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Style:
    """How words are spoken, against the voice's own way."""

    rate: float = 1.0
    """Factor on the speed, 0.5 .. 2."""

    pitch: float = 0.0
    """Semitones, -12 .. 12."""

    volume: float = 0.0
    """Decibels, -12 .. 12."""

    def within(self, change: Prosody) -> Style:
        """The style inside an element: rates multiply, pitches and volumes add, all bounded."""
        return Style(
            _bound(self.rate * change.rate, RATES),
            _bound(self.pitch + change.pitch, PITCHES),
            _bound(self.volume + change.volume, VOLUMES),
        )


def _bound(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])


PLAIN: Final = Style()


@dataclass(frozen=True, slots=True)
class Said:
    """A range of text that is read in a given way."""

    start: int
    end: int
    how: SayAs


@dataclass(frozen=True, slots=True)
class Passage:
    """Text without a break in it."""

    text: str
    said: tuple[Said, ...] = ()
    """Ranges of ``text``, in order, apart from each other."""

    styles: tuple[tuple[int, Style], ...] = ((0, PLAIN),)
    """Offset from which a style holds, rising; the first is 0."""

    def style_at(self, offset: int) -> Style:
        """The style of the character at ``offset``."""
        return next(style for start, style in reversed(self.styles) if start <= offset)


@dataclass(frozen=True, slots=True)
class Script:
    """A text that was parsed."""

    parts: tuple[Passage | Break, ...]
    """In order; breaks that follow each other are one, of :data:`MAX_BREAK` at most."""

    dropped: int = 0
    """Tags and attributes without effect because they are unknown, wrong or misplaced."""

    @property
    def text(self) -> str:
        """What is spoken, without tags; words apart that a break keeps apart."""
        return "".join(part.text for part in self.parts if isinstance(part, Passage))


def parse(markup: str) -> Script:
    """Read a text that may hold markup. Text without ``<`` and ``&`` is its own plain text."""
    if "<" not in markup and "&" not in markup:
        return Script((Passage(markup),) if markup else ())
    scanner = Scanner()
    reader = _Reader()
    for item in (*scanner.feed(markup), *scanner.flush()):
        if isinstance(item, str):
            reader.text(item)
        else:
            reader.tag(item)
    return reader.script()


def plain_text(markup: str) -> str:
    """What is spoken of ``markup``, without tags and with entities decoded."""
    return parse(markup).text


def escaped(text: str) -> str:
    """``text`` as markup that :func:`parse` reads back as the same text."""
    return html.escape(text, quote=False)


def set_markup(frame: Frame, markup: str) -> None:
    """Let a frame with plain text carry the same text with markup."""
    frame.metadata[_FRAME_KEY] = markup


def markup_of(frame: Frame) -> str | None:
    """The text with markup that a frame carries besides its own, if any."""
    markup = frame.metadata.get(_FRAME_KEY)
    return markup if isinstance(markup, str) else None


class Nesting(Generic[T]):
    """Elements that are open, each with what is known of it; misplaced tags do no harm."""

    def __init__(self) -> None:
        """Nothing is open."""
        self.open: list[tuple[str, T]] = []
        """Name and value, outermost first; :data:`MAX_DEPTH` at most."""
        self._deeper = 0

    def enter(self, name: str, value: T) -> int:
        """Open an element; return how many tags had no effect."""
        if len(self.open) >= MAX_DEPTH:
            self._deeper += 1
            return 1
        self.open.append((name, value))
        return 0

    def leave(self, name: str) -> int:
        """Close the innermost element of that name and those inside; return as :meth:`enter`."""
        if self._deeper:
            self._deeper -= 1
            return 0
        names = [opened for opened, _ in self.open]
        if name not in names:
            return 1
        unclosed = names[::-1].index(name)
        del self.open[len(names) - 1 - unclosed :]
        return unclosed


@dataclass(slots=True)
class _Reader:
    parts: list[Passage | Break] = field(default_factory=list)
    dropped: int = 0
    _nesting: Nesting[tuple[Style, SayAs | None]] = field(default_factory=Nesting)
    """Style inside, and how text inside is said."""

    _text: str = ""
    _said: list[Said] = field(default_factory=list)
    _styles: list[tuple[int, Style]] = field(default_factory=lambda: [(0, PLAIN)])
    _after_tag: bool = False
    _unspaced: bool = False
    """A tag that keeps words apart was read, and no white space since."""

    def text(self, text: str) -> None:
        before = self._last()
        if self._unspaced and before and not (before.isspace() or text[0].isspace()):
            text = " " + text
        elif self._after_tag and (not before or before.isspace()):
            # A tag between two spaces leaves one.
            text = text.lstrip(" \t")
        self._after_tag = self._unspaced = False
        if not text:
            self._after_tag = True
            return
        style, how = self._inner()
        start = len(self._text)
        self._text += text
        if self._styles[-1][1] != style:
            if self._styles[-1][0] == start:
                self._styles.pop()
            self._styles.append((start, style))
        if how is not None:
            if self._said and self._said[-1].end == start and self._said[-1].how is how:
                start = self._said.pop().start
            self._said.append(Said(start, len(self._text), how))

    def _last(self) -> str:
        if self._text:
            return self._text[-1]
        spoken = [part.text for part in self.parts if isinstance(part, Passage)]
        return spoken[-1][-1] if spoken else ""

    def tag(self, tag: Tag) -> None:
        self._after_tag = True
        self._unspaced |= tag.separates
        if not tag.source.endswith(">"):
            self.dropped += 1
        elif tag.closes:
            self.dropped += self._nesting.leave(tag.name)
        else:
            element, problems = interpret(tag)
            self.dropped += len(problems)
            if isinstance(element, Break):
                self._pause(element)
            elif element is not None and not tag.empty:
                self._enter(tag.name, element)
            elif tag.name in ("prosody", "say-as") and not tag.empty:
                # Its effect is lost, but its closing tag must still find it.
                self._enter(tag.name, Prosody())

    def _inner(self) -> tuple[Style, SayAs | None]:
        return self._nesting.open[-1][1] if self._nesting.open else (PLAIN, None)

    def _enter(self, name: str, element: Prosody | SayAs) -> None:
        style, how = self._inner()
        if isinstance(element, SayAs):
            how = how or element
        else:
            style = style.within(element)
        self.dropped += self._nesting.enter(name, (style, how))

    def _pause(self, pause: Break) -> None:
        self._end_passage()
        if self.parts and isinstance(self.parts[-1], Break):
            pause = Break(min(self.parts[-1].seconds + pause.seconds, MAX_BREAK))
            self.parts.pop()
        self.parts.append(pause)

    def _end_passage(self) -> None:
        if not self._text.strip() and self.parts:
            return  # White space between breaks doesn't part them.
        if self._text:
            self.parts.append(Passage(self._text, tuple(self._said), tuple(self._styles)))
        self._text, self._said, self._styles = "", [], [(0, PLAIN)]

    def script(self) -> Script:
        self._end_passage()
        return Script(tuple(self.parts), self.dropped)
