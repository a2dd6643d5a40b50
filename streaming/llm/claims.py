"""Claims to be a person, caught in a text while it streams.

:class:`ClaimFilter` passes text on as it comes, but for a word that is still incomplete and words
that may be the beginning of a claim (``I am ...``); those wait for what decides it, a word or two.
Of a claim nothing is passed on, nor of the rest of its sentence; the truth stands in its place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ringtrue.config.agent_disclosure import folded
from ringtrue.streaming.llm.disclosure_patterns import claims
from ringtrue.streaming.llm.word_patterns import Scan

MAX_HELD: Final = 400
"""Characters that wait at most, whatever they may be the beginning of."""

_INSIDE: Final = r"/?[A-Za-z][^<>]{0,120}"
"""Of a tag; what is longer is none."""

_TOKEN: Final = re.compile(rf"<{_INSIDE}>|[\w\u00ad\u200b-\u200d\u2060\ufeff]+")
_CLAUSE: Final = re.compile(r"[.!?…:;,\n—–]|\s-\s")
_SENTENCE_END: Final = re.compile(r"[.!?…\n]+[\"'”’)]*(?=\s|$)|[。！？]")
_OPEN_TAG: Final = re.compile(rf"<(?:{_INSIDE}|/?)$")


@dataclass(frozen=True, slots=True)
class _Place:
    start: int
    """Of a word, in the text that waits."""

    end: int


class ClaimFilter:
    """One call's outgoing text, response by response."""

    def __init__(self, language: str, truth: str) -> None:
        """``language``: ISO 639-1; ``truth`` is said in place of a claim."""
        self._patterns = claims(language)
        self._truth = truth
        self.caught = 0
        """Claims since the call began."""

        self.reset()

    def reset(self) -> None:
        """The response was interrupted: forget it."""
        self._scan = Scan(self._patterns)
        self._text = ""
        self._looked = 0
        """How far of the text that waits was looked at."""

        self._clause = False
        self._numbers: dict[int, _Place] = {}
        self._count = 0
        self._dropping = False
        self._joining = False
        """A sentence was dropped, and nothing came behind it yet but white space."""

        self._told = False

    def feed(self, text: str) -> str:
        """Take the next piece; return what may be said now, which may be nothing."""
        self._text = (self._text + text).lstrip() if self._joining else self._text + text
        self._joining = self._joining and not self._text
        return self._run(last=False)

    def finish(self) -> str:
        """The response is complete: return the rest of it, and begin anew."""
        said = self._run(last=True)
        self.reset()
        return said

    def _run(self, *, last: bool) -> str:
        said = ""
        while True:
            if self._dropping and not self._skip():
                break
            place = self._next(last=last)
            if place is None:
                break
            for part in folded(self._text[place.start : place.end]).split("_"):
                if not part:
                    continue
                self._numbers[self._count] = place
                self._count += 1
                found = self._scan.feed(part, new_clause=self._clause)
                self._clause = False
                if found is not None:
                    said += self._catch(found.first, found.end)
                    break
        if last:
            found = self._scan.finish()
            if found is not None:
                said += self._catch(found.first, found.end)
                self._skip()
            said, self._text = said + self._text, ""
            return said
        return said + self._release()

    def _next(self, *, last: bool) -> _Place | None:
        """The next whole word of the text that waits; notes the clauses it passes over."""
        open_tag = None if last else _OPEN_TAG.search(self._text, self._looked)
        limit = len(self._text) if open_tag is None else open_tag.start()
        while True:
            match = _TOKEN.search(self._text, self._looked, limit)
            whole = match is not None and (last or match.end() < len(self._text))
            end = limit if match is None else match.start()
            gap, self._looked = self._text[self._looked : end], end
            self._clause = self._clause or _CLAUSE.search(gap) is not None
            if match is None or not whole:
                return None
            self._looked = match.end()
            if match.group()[0] != "<":
                return _Place(match.start(), match.end())

    def _catch(self, first: int, end: int) -> str:
        """Take a claim out, from its word ``first`` on; what is said up to there and instead."""
        start, stop = self._numbers[first].start, self._numbers[end - 1].end
        before, self._text = self._text[:start], self._text[stop:]
        self.caught += 1
        self._scan = Scan(self._patterns)
        self._numbers.clear()
        self._count = self._looked = 0
        self._clause = False
        self._dropping = True
        if self._told:
            return before
        self._told = True
        gap = "" if not before or before[-1].isspace() else " "
        return f"{before}{gap}{self._truth} "

    def _skip(self) -> bool:
        """Drop what is left of a claim's sentence; whether its end was found."""
        match = _SENTENCE_END.search(self._text)
        self._dropping = match is None
        self._text = "" if match is None else self._text[match.end() :].lstrip()
        self._joining = match is not None and not self._text
        self._looked = 0
        return match is not None

    def _release(self) -> str:
        """What of the text that waits can be no part of a claim."""
        earliest = self._scan.earliest
        keep = self._looked if earliest is None else self._numbers[earliest].start
        if len(self._text) - keep > MAX_HELD:
            self._scan = Scan(self._patterns)
            keep, earliest = self._looked, None
        said, self._text = self._text[:keep], self._text[keep:]
        self._looked -= keep
        self._numbers = {
            number: _Place(place.start - keep, place.end - keep)
            for number, place in self._numbers.items()
            if earliest is not None and number >= earliest
        }
        return said
