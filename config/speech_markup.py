"""The speech markup that spoken texts may hold: a small subset of SSML 1.1.

- ``<break time="300ms"/>``: a pause of up to 3 s; or ``strength="weak"`` (default ``medium``).
- ``<prosody rate="80%" pitch="+2st" volume="+3dB">…</prosody>``: speaking rate, pitch and volume of
  all the words inside. Nested ones multiply and add up.
- ``<emphasis level="strong">…</emphasis>``: ``moderate`` (default), ``strong``, ``reduced``,
  ``none``.
- ``<say-as interpret-as="digits">…</say-as>``: how the text inside is read.

This module knows the grammar: where a tag begins and ends, and what it means. Anything that isn't
shaped like a tag is ordinary text, so "x < 5" and "AT&T" stay what they are. The meaning of labels
is chosen here, where SSML leaves it to the implementation (W3C SSML 1.1, sections 3.1.9 and 3.2).
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

MAX_TAG: Final = 512
"""Characters in one tag; what is longer is text."""

MAX_BREAK: Final = 3.0
"""Seconds of one pause."""

RATES: Final = (0.5, 2.0)
PITCHES: Final = (-12.0, 12.0)
"""Semitones."""

VOLUMES: Final = (-12.0, 12.0)
"""Decibels."""


def _table(**values: float) -> Mapping[str, float]:
    return MappingProxyType({name.replace("_", "-"): value for name, value in values.items()})


RATE_LABELS: Final = _table(x_slow=0.6, slow=0.8, medium=1.0, default=1.0, fast=1.25, x_fast=1.6)
PITCH_LABELS: Final = _table(x_low=-4, low=-2, medium=0, default=0, high=2, x_high=4)
VOLUME_LABELS: Final = _table(x_soft=-10, soft=-5, medium=0, default=0, loud=4, x_loud=8)
BREAK_LABELS: Final = _table(none=0, x_weak=0.1, weak=0.2, medium=0.4, strong=0.7, x_strong=1.0)


@dataclass(frozen=True, slots=True)
class Prosody:
    """What a ``prosody`` or ``emphasis`` element changes, against the text around it."""

    rate: float = 1.0
    """Factor: 2 speaks twice as fast."""

    pitch: float = 0.0
    """Semitones."""

    volume: float = 0.0
    """Decibels."""


EMPHASIS: Final[Mapping[str, Prosody]] = MappingProxyType(
    {
        "none": Prosody(),
        "reduced": Prosody(1.1, -1.0, -2.0),
        "moderate": Prosody(0.9, 1.0, 1.5),
        "strong": Prosody(0.8, 2.0, 3.0),
    }
)

SAY_AS: Final = (
    "cardinal",
    "characters",
    "date",
    "digits",
    "ordinal",
    "spell-out",
    "telephone",
)
DATE_FORMATS: Final = ("dm", "dmy", "md", "mdy", "ymd")


@dataclass(frozen=True, slots=True)
class SayAs:
    """How the text inside is read."""

    kind: str
    """One of :data:`SAY_AS`."""

    format: str = ""
    """Of a date, one of :data:`DATE_FORMATS`; else empty."""


@dataclass(frozen=True, slots=True)
class Break:
    """A pause."""

    seconds: float


Element = Prosody | SayAs | Break


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag, known or not, as written."""

    source: str
    name: str
    """Lower case; empty for a comment or declaration."""

    attributes: tuple[tuple[str, str], ...] = ()
    """Name in lower case and decoded value."""

    closes: bool = False
    """``</name>``"""

    empty: bool = False
    """``<name/>``"""

    @property
    def separates(self) -> bool:
        """Whether the words on its two sides are two words."""
        return self.name in _SEPARATING


_SEPARATING: Final = frozenset({"break", "br", "p", "s", "div", "li", "ul", "ol", "tr", "td", "hr"})

_NAME: Final = r"[A-Za-z][\w.:-]*+"
_VALUE: Final = r"""(?:"[^"<]*+"|'[^'<]*+'|[^\s"'<>=`]*[^\s"'<>=`/])"""
_ATTRIBUTE: Final = rf"\s++{_NAME}(?:\s*+=\s*+{_VALUE})?"
_TAG: Final = re.compile(
    rf"<(?P<closes>/?)(?P<name>{_NAME})(?P<rest>(?:{_ATTRIBUTE})*)\s*+(?P<empty>/?)>"
)
_OTHER: Final = re.compile(r"<[!?][^<>]*+>")
_TAG_SO_FAR: Final = re.compile(
    rf"<(?:/?(?:{_NAME}(?:{_ATTRIBUTE})*"
    rf"(?:\s*+/?|\s*+=\s*+(?:\"[^\"<]*+|'[^'<]*+|[^\s\"'<>=`]*+)?)?)?|[!?][^<>]*+)"
)
_ATTRIBUTES: Final = re.compile(rf"({_NAME})(?:\s*=\s*({_VALUE}))?")
_REFERENCE: Final = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_REFERENCE_SO_FAR: Final = re.compile(
    r"&(?:#(?:\d{0,7}|[xX][0-9A-Fa-f]{0,6})|(?:[A-Za-z][A-Za-z0-9]{0,31})?)"
)
_SPECIAL: Final = re.compile(r"[<&]")


class Scanner:
    """Splits a stream of text into text and tags; any chunking gives the same in the end.

    Holds back at most :data:`MAX_TAG` characters: what may still become a tag or an entity.
    """

    def __init__(self) -> None:
        """Start at the beginning of a text."""
        self._held = ""

    def feed(self, text: str) -> list[str | Tag]:
        """Take the next piece; return what is certain now."""
        self._held += text
        return list(self._read(final=False))

    def flush(self) -> list[str | Tag]:
        """The text is over: return what is left.

        The beginning of a closing tag or of a tag with a known name is a tag, with ``>`` missing
        in its ``source``.
        """
        return list(self._read(final=True))

    def reset(self) -> None:
        """Forget what is held back."""
        self._held = ""

    def _read(self, *, final: bool) -> Iterator[str | Tag]:
        text, at, plain = self._held, 0, ""
        while special := _SPECIAL.search(text, at):
            plain += text[at : special.start()]
            at = special.start()
            # One character more than a tag may have, so that too long is told from not yet done.
            window = text[at : at + MAX_TAG + 1]
            found = _tag(window) if window[0] == "<" else _character(window)
            waits = _waits(window)
            if found is None and waits and not final:
                self._held = text[at:]
                break
            if found is None and final and waits and _begun(window):
                found = window, Tag(window, _begun(window))
            source, meaning = found or (window[0], window[0])
            at += len(source)
            if isinstance(meaning, str):
                plain += meaning
                continue
            if plain:
                yield plain
                plain = ""
            yield meaning
        else:
            plain += text[at:]
            self._held = ""
        if plain:
            yield plain


def _tag(window: str) -> tuple[str, Tag] | None:
    match = _OTHER.match(window)
    if match and len(match.group()) <= MAX_TAG:
        return match.group(), Tag(match.group(), "")
    match = _TAG.match(window)
    if match is None or len(match.group()) > MAX_TAG:
        return None
    attributes = tuple(
        (name.lower(), html.unescape(value[1:-1] if value[:1] in "\"'" else value))
        for name, value in _ATTRIBUTES.findall(match["rest"])
    )
    tag = Tag(
        match.group(),
        match["name"].lower(),
        attributes,
        bool(match["closes"]),
        bool(match["empty"]),
    )
    return match.group(), tag


def _character(window: str) -> tuple[str, str] | None:
    match = _REFERENCE.match(window)
    if match is None:
        return None
    return match.group(), html.unescape(match.group())


def _waits(window: str) -> bool:
    """Whether more text could still make ``window`` a tag or an entity."""
    so_far = _TAG_SO_FAR if window[0] == "<" else _REFERENCE_SO_FAR
    return len(window) <= MAX_TAG and so_far.fullmatch(window) is not None


def _begun(window: str) -> str:
    """The known name of the tag that ``window`` begins, ``/`` of any closing tag, or nothing."""
    if window.startswith("</"):
        return "/"
    match = re.match(rf"<({_NAME})", window)
    name = match[1].lower() if match else ""
    return name if name in ELEMENTS else ""


def _scaled(factor: float, bounds: tuple[float, float]) -> float | None:
    return factor if bounds[0] <= factor <= bounds[1] else None


def _rate(value: str) -> float | None:
    if value in RATE_LABELS:
        return RATE_LABELS[value]
    match = re.fullmatch(r"([+-]?)(\d{1,4}(?:\.\d{1,4})?)%", value)
    if match is None:
        return None
    change = float(match[1] + match[2]) / 100
    return _scaled(1 + change if match[1] else change, RATES)


def _pitch(value: str) -> float | None:
    if value in PITCH_LABELS:
        return PITCH_LABELS[value]
    match = re.fullmatch(r"([+-]\d{1,4}(?:\.\d{1,4})?)(st|%)", value)
    if match is None:
        return None
    change = float(match[1])
    if match[2] == "%":
        if change <= -100:
            return None
        change = 12 * math.log2(1 + change / 100)
    return _scaled(change, PITCHES)


def _volume(value: str) -> float | None:
    if value in VOLUME_LABELS:
        return VOLUME_LABELS[value]
    match = re.fullmatch(r"([+-]\d{1,4}(?:\.\d{1,4})?)db", value)
    return _scaled(float(match[1]), VOLUMES) if match else None


def _time(value: str) -> float | None:
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,4})?)(ms|s)", value)
    if match is None:
        return None
    return _scaled(float(match[1]) / (1000 if match[2] == "ms" else 1), (0.0, MAX_BREAK))


def _one_of(names: Iterable[str]) -> Callable[[str], str | None]:
    known = frozenset(names)
    return lambda value: value if value in known else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


_Reader = Callable[[str], float | str | None]

ELEMENTS: Final[Mapping[str, Mapping[str, tuple[_Reader, str]]]] = MappingProxyType(
    {
        "break": {
            "time": (_time, "0ms to 3000ms or 0s to 3s"),
            "strength": (BREAK_LABELS.get, _listed(BREAK_LABELS)),
        },
        "emphasis": {"level": (_one_of(EMPHASIS), _listed(EMPHASIS))},
        "prosody": {
            "rate": (_rate, f"{_listed(RATE_LABELS)}, 50% to 200%, or a change like -20%"),
            "pitch": (
                _pitch,
                f"{_listed(PITCH_LABELS)}, -12st to +12st, or -50% to +100%",
            ),
            "volume": (_volume, f"{_listed(VOLUME_LABELS)}, or -12dB to +12dB"),
        },
        "say-as": {
            "interpret-as": (_one_of(SAY_AS), _listed(SAY_AS)),
            "format": (_one_of(DATE_FORMATS), f"for a date: {_listed(DATE_FORMATS)}"),
        },
    }
)
"""Elements and their attributes, each with its reader and what it takes."""


def interpret(tag: Tag) -> tuple[Element | None, list[str]]:
    """What an opening or empty tag means, and everything that is wrong with it.

    Attributes that are wrong have no effect; None where no effect is left.
    """
    allowed = ELEMENTS.get(tag.name)
    if allowed is None:
        return None, [f"is unknown; tags here: {_listed(sorted(ELEMENTS))}"]
    read: dict[str, float | str] = {}
    problems: list[str] = []
    for name, value in tag.attributes:
        if name not in allowed:
            problems.append(f"has the attribute {name!r}; allowed: {_listed(sorted(allowed))}")
            continue
        reader, takes = allowed[name]
        meaning = reader(value.strip().lower())
        if meaning is None:
            problems.append(f"has {name} {value!r}; allowed: {takes}")
        elif name in read:
            problems.append(f"gives {name} twice")
        else:
            read[name] = meaning
    element = _element(tag.name, read)
    if element is None and not problems:
        needs = "interpret-as" if tag.name == "say-as" else f"one of {_listed(sorted(allowed))}"
        problems.append(f"needs {needs}")
    return element, problems


def _element(name: str, read: Mapping[str, float | str]) -> Element | None:
    if name == "break":
        return Break(float(read.get("time", read.get("strength", BREAK_LABELS["medium"]))))
    if name == "emphasis":
        return EMPHASIS[str(read.get("level", "moderate"))]
    if name == "say-as":
        kind = read.get("interpret-as")
        return None if kind is None else SayAs(str(kind), str(read.get("format", "")))
    if not read:
        return None
    return Prosody(
        float(read.get("rate", 1.0)), float(read.get("pitch", 0.0)), float(read.get("volume", 0.0))
    )


def markup_problems(text: str) -> list[str]:
    """Everything wrong with the markup of a whole text, each naming its tag and what is allowed."""
    problems: list[str] = []
    open_tags: list[Tag] = []
    for tag in _tags(text):
        problems += [f"{tag.source} {message}" for message in _placed(tag, open_tags)]
    problems += [f"{tag.source} is never closed" for tag in open_tags]
    return problems


def tags_of(text: str) -> list[str]:
    """The tags in a whole text, known or not, as written."""
    return [tag.source for tag in _tags(text)]


def _tags(text: str) -> list[Tag]:
    scanner = Scanner()
    found = (*scanner.feed(text), *scanner.flush())
    return [item for item in found if isinstance(item, Tag)]


def _placed(tag: Tag, open_tags: list[Tag]) -> list[str]:
    """Problems of ``tag`` where it stands; keeps ``open_tags``."""
    if not tag.source.endswith(">"):
        return ["has no '>'"]
    if tag.closes and tag.name in ELEMENTS:
        if tag.name == "break":
            return ["is written <break/>"]
        if not open_tags or open_tags[-1].name != tag.name:
            last = f"the last one open is {open_tags[-1].source}" if open_tags else "none is open"
            return [f"closes no tag: {last}"]
        open_tags.pop()
        return []
    problems = interpret(tag)[1]
    if tag.name in ELEMENTS and open_tags and open_tags[-1].name == "say-as":
        problems.append(f"stands inside {open_tags[-1].source}, which takes text only")
    if tag.name == "break" and not tag.empty:
        problems.append("is written <break/>")
    elif tag.name in ELEMENTS and tag.name != "break":
        if tag.empty:
            problems.append("holds no text")
        else:
            open_tags.append(tag)
    return problems
