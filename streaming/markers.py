"""Tags of a token stream as single characters, so that cutting phrases can't cut a tag.

:class:`Markers` replaces each tag by one private-use character on the way into the phrase
splitter and puts the tag back on the way out. Elements that are open where a phrase ends are
closed there and opened again in the next one: each phrase is whole markup by itself.
"""

from __future__ import annotations

import re
from typing import Final

from ringtrue.config.speech_markup import ELEMENTS, MAX_BREAK, Break, Scanner, Tag, interpret
from ringtrue.streaming.ssml import Nesting, escaped

_FIRST: Final = 0xE000
_COUNT: Final = 0x1900
"""The Basic Multilingual Plane's private-use characters. Nothing else speaks them."""

MARKER: Final = re.compile("[\ue000-\uf8ff]")


def unmarked(text: str) -> str:
    """``text`` without markers."""
    return MARKER.sub("", text)


class Markers:
    """The tags of one response, from the scanner to the phrase they belong to."""

    def __init__(self) -> None:
        """Start at the beginning of a response."""
        self._scanner = Scanner()
        self._tags: dict[str, Tag] = {}
        self._next = 0
        self._nesting: Nesting[str] = Nesting()
        self._pause = 0.0
        self._after_tag = False
        self._spaced = True
        self.dropped = 0
        """Tags and attributes without effect, ever since this was made."""

    def encode(self, text: str) -> str:
        """Take the next token; return text with markers. What may become a tag is held back."""
        return self._encoded(self._scanner.feed(text))

    def finish(self) -> str:
        """The response is over: return what was held back."""
        return self._encoded(self._scanner.flush())

    def reset(self) -> None:
        """Start a new response: nothing is open, nothing held back."""
        self._scanner.reset()
        self._tags.clear()
        self._nesting = Nesting()
        self._pause = 0.0
        self._after_tag = False
        self._spaced = True

    def _encoded(self, items: list[str | Tag]) -> str:
        written = ""
        for item in items:
            if isinstance(item, Tag):
                piece = self._marker(item)
                self._after_tag = True
            else:
                piece = unmarked(item)
                if self._after_tag and self._spaced:
                    # A tag between two spaces leaves one.
                    piece = piece.lstrip(" \t")
                self._after_tag = self._after_tag and not piece
            written += piece
            self._spaced = unmarked(piece)[-1:].isspace() or (self._spaced and not unmarked(piece))
        return written

    def _marker(self, tag: Tag) -> str:
        space = " " if tag.separates and not self._spaced else ""
        if not tag.source.endswith(">"):
            self.dropped += 1
            return ""
        if tag.name not in ELEMENTS or (tag.closes and tag.name == "break"):
            self.dropped += 1
            return space
        if not tag.closes:
            self.dropped += len(interpret(tag)[1])
            if tag.empty and tag.name != "break":
                return ""
        marker = chr(_FIRST + self._next)
        self._next = (self._next + 1) % _COUNT
        self._tags[marker] = tag
        return space + marker + (" " if tag.separates else "")

    def decode(self, phrase: str, *, speakable: bool = True) -> str:
        """Markup of a phrase with markers, whole by itself. Call it for every phrase, in order.

        Of a phrase that isn't ``speakable`` nothing is returned; its breaks come before the next.
        """
        written = [source for _, source in self._nesting.open]
        if self._pause:
            written.append(_written(self._pause))
        pause = self._pause
        at = 0
        for match in MARKER.finditer(phrase):
            written.append(escaped(phrase[at : match.start()]))
            at = match.end()
            tag = self._tags.pop(match.group(), None)
            if tag is None:
                continue
            meaning = None if tag.closes else interpret(tag)[0]
            if isinstance(meaning, Break):
                pause += meaning.seconds
                written.append(_written(meaning.seconds))
            else:
                written.append(self._turn(tag))
        written.append(escaped(phrase[at:]))
        self._pause = 0.0 if speakable else min(pause, MAX_BREAK)
        if not speakable:
            return ""
        written += [f"</{name}>" for name, _ in reversed(self._nesting.open)]
        return "".join(written).strip()

    def _turn(self, tag: Tag) -> str:
        """Open or close an element; the tags that do so."""
        before = list(self._nesting.open)
        if not tag.closes:
            wrong = self._nesting.enter(tag.name, tag.source)
            self.dropped += wrong
            return "" if wrong else tag.source
        self.dropped += self._nesting.leave(tag.name)
        left = before[len(self._nesting.open) :]
        return "".join(f"</{name}>" for name, _ in reversed(left))


def _written(seconds: float) -> str:
    return f'<break time="{round(seconds * 1000)}ms"/>'
