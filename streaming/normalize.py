"""Written English to spoken English, word by word.

:func:`normalize` pairs every written word with what is said for it, so that a synthesizer's word
times can be mapped back to the text the language model wrote. A number said in several words, or
a telephone number written in several groups, is one pair.

In the spoken text a lone capital letter stands for the letter's name; everything else is lower
case. Punctuation that makes a pause or a tune (``.?!,;:``) is kept at the end of its word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ringtrue.streaming import numerals
from ringtrue.streaming.lexicon import (
    ABBREVIATIONS,
    DIGITWISE_AFTER,
    MONTHS,
    SYMBOLS,
    UNITS,
    is_spelled,
)
from ringtrue.streaming.say_as import date_words, say_as
from ringtrue.streaming.ssml import Said


@dataclass(frozen=True, slots=True)
class Spoken:
    """One written word and what is said for it."""

    written: str
    """As in the text, punctuation included, no surrounding space."""

    spoken: str
    """Words to say; empty where nothing is said (a dash, an emoji)."""

    start: int = 0
    """Where ``written`` begins in the text."""


@dataclass(frozen=True, slots=True)
class _Context:
    before: str
    """Text before the match."""

    after: str
    """Text after the match."""

    shouting: bool
    """All letters are capitals, so capitals mean nothing."""


_Say = Callable[["re.Match[str]", _Context], "str | None"]

_MONTH: Final = "|".join(sorted(MONTHS, key=len, reverse=True))
_UNIT: Final = "|".join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))
_NUMBER: Final = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
_SCALE: Final = r"thousand|million|billion|trillion"
_END: Final = r"(?!\w)"
_HALF: Final = r"\s?(?P<half>[AaPp])\.?[Mm](?:\.(?=\s*\S)|\b)"


def normalize(text: str, said: Sequence[Said] = ()) -> list[Spoken]:
    """Pairs of written word and spoken text, in order; every non-space character is in one.

    ``said`` are the ranges whose reading is prescribed, in order; each is within one pair, and
    nothing outside is read together with what is inside.
    """
    letters = [char for char in text if char.isalpha()]
    shouting = len(letters) > 5 and all(not char.islower() for char in letters)
    pairs: list[Spoken] = []
    start = 0
    while (start := _skip_space(text, start)) < len(text):
        end, spoken = _word(text, start, shouting, said)
        if not spoken.strip(_PAUSES):
            if spoken and pairs and pairs[-1].spoken:
                last = pairs[-1]
                paused = _paused(last.spoken, spoken[-1])
                pairs[-1] = Spoken(last.written, paused, last.start)
            spoken = ""
        pairs.append(Spoken(text[start:end], spoken, start))
        start = end
    return pairs


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _word(text: str, start: int, shouting: bool, said: Sequence[Said]) -> tuple[int, str]:
    """Read from ``start`` to the next space outside a match; return that place and the words."""
    heard: list[str] = []
    at = start
    while at < len(text) and not text[at].isspace():
        edges = (edge for span in said for edge in (span.start, span.end) if edge > at)
        end, words = _prescribed(text, at, said) or _piece(
            text, at, start, shouting, min(edges, default=len(text))
        )
        if words and words in _PAUSES and heard:
            heard[-1] = _paused(heard[-1], words)
        elif words:
            heard.append(words)
        at = end
    return at, " ".join(heard)


def _prescribed(text: str, at: int, said: Sequence[Said]) -> tuple[int, str] | None:
    """The range that begins at ``at``, if its text can be read as prescribed."""
    for span in said:
        # White space at its beginning belongs to no word.
        if span.start <= at < span.end and not text[span.start : at].strip():
            inside = text[at : span.end].rstrip()
            body = inside.rstrip("".join(_PAUSES) + ")") or inside
            words = say_as(span.how, body)
            return None if words is None else (at + len(body), words)
    return None


def _paused(words: str, pause: str) -> str:
    """``words`` ending in ``pause``, or in their own if that is the stronger."""
    if words[-1] in _PAUSES:
        pause = max(words[-1], pause, key=_PAUSES.index)
    return words.rstrip(_PAUSES) + pause


_PAUSES: Final = ",:;.!?"
"""Pauses and tunes, weakest first."""


def _piece(text: str, at: int, start: int, shouting: bool, limit: int) -> tuple[int, str]:
    """One match at ``at`` that ends by ``limit``; its end and the words."""
    following = text[at + 1 : at + 2]
    if text[at] in "-–" and text[at - 1 : at].isdigit() and at > start:
        if following.isdigit() or following in tuple(numerals.CURRENCY_SIGNS):
            return at + 1, "to"
        return at + 1, ""
    if text[at].isalnum() or text[at] in "+-−.#('’" or text[at] in numerals.CURRENCY_SIGNS:
        context = _Context(text[:at], "", shouting)
        for pattern, say in _RULES:
            match = pattern.match(text, at, limit)
            if match is None or match.end() == at:
                continue
            words = say(match, _Context(context.before, text[match.end() :], shouting))
            if words is not None:
                return match.end(), words
    char = text[at]
    if char in "…—–":
        return at + 1, "," if char != "…" else "."
    if char in _PAUSES:
        return at + 1, char
    if char in SYMBOLS:
        return at + 1, SYMBOLS[char]
    return at + 1, ""


def _spell(letters: str) -> str:
    return " ".join(letters.upper())


def _last_word(before: str) -> str:
    match = re.search(r"([A-Za-z#]+)[.:]?\s*$", before)
    return match.group(1).lower() if match else ""


def _say_address(match: re.Match[str], _: _Context) -> str:
    said: list[str] = []
    for part in re.findall(r"[A-Za-z]+|\d+|[^\sA-Za-z\d]", match.group("address")):
        if part.isdigit():
            said.append(numerals.digits(part) if len(part) > 2 else numerals.cardinal(part))
        elif part.isalpha() and part.isascii():
            short = len(part) == 1 or (len(part) == 2 and is_spelled(part.upper()))
            bare = len(part) < 5 and not set("aeiouy") & set(part.lower())
            said.append(_spell(part) if short or bare else part.lower())
        else:
            said.append(
                {".": "dot", "@": "at", "/": "slash", "-": "dash", "_": "underscore"}.get(
                    part, SYMBOLS.get(part, "")
                )
            )
    return " ".join(word for word in said if word)


def _say_phone(match: re.Match[str], _: _Context) -> str | None:
    groups = re.findall(r"\d+", match.group())
    count = sum(map(len, groups))
    if not 7 <= count <= 15 or (len(groups) == 2 and count == 8 and groups[0][:2] in ("19", "20")):
        return None
    plus = "plus " if match.group().startswith("+") else ""
    return plus + numerals.grouped(groups)


def _say_run(match: re.Match[str], context: _Context) -> str | None:
    run = match.group()
    named = _last_word(context.before) in DIGITWISE_AFTER or context.before.endswith("#")
    if len(run) >= 7 or run[0] == "0" and len(run) > 1:
        return numerals.grouped(numerals.regroup(run))
    if named and len(run) > 2:
        return numerals.grouped(numerals.regroup(run))
    if len(run) == 4 and "1100" <= run <= "2099":
        return numerals.year(run)
    return None


def _say_iso_date(match: re.Match[str], _: _Context) -> str | None:
    return date_words(match["y"], int(match["m"]), match["d"])


def _say_slash_date(match: re.Match[str], _: _Context) -> str | None:
    month, day = int(match["a"]), match["b"]
    if month > 12:
        month, day = int(day), match["a"]
    year = match["y"] if len(match["y"]) == 4 else f"20{match['y']}"
    return date_words(year, month, day)


def _say_month_first(match: re.Match[str], _: _Context) -> str | None:
    return date_words(match["y"], MONTHS[match["month"]], match["d"])


def _say_day_first(match: re.Match[str], _: _Context) -> str | None:
    said = date_words(None, MONTHS[match["month"]], match["d"])
    if said is None:
        return None
    month, day = said.split(" ", 1)
    tail = f", {numerals.year(match['y'])}" if match["y"] else ""
    return f"the {day} of {month}{tail}"


def _say_time(match: re.Match[str], _: _Context) -> str | None:
    if int(match["h"]) > 24 or int(match["min"]) > 59:
        return None
    return numerals.clock(match["h"], match["min"], (match["half"] or "").lower())


def _say_hour(match: re.Match[str], _: _Context) -> str | None:
    return numerals.clock(match["h"], "00", match["half"].lower()) if int(match["h"]) < 13 else None


def _say_money(match: re.Match[str], _: _Context) -> str:
    scale = (
        match["scale"]
        or {"k": "thousand", "m": "million", "b": "billion", "": ""}[(match["short"] or "").lower()]
    )
    sign = "minus " if match["minus"] else ""
    return sign + numerals.money(match["sign"], match["n"], scale)


def _say_unit(match: re.Match[str], _: _Context) -> str:
    one, many = UNITS[match["unit"]]
    return f"{numerals.cardinal(match['n'])} {one if match['n'] == '1' else many}"


def _say_fraction(match: re.Match[str], _: _Context) -> str:
    top, bottom = match["a"], match["b"]
    if bottom == "2" and top == "1":
        return "one half"
    names = {"3": "third", "4": "quarter", "5": "fifth", "8": "eighth", "10": "tenth"}
    if bottom in names and int(top) < int(bottom):
        return f"{numerals.cardinal(top)} {names[bottom]}{'s' if top != '1' else ''}"
    return f"{numerals.cardinal(top)} {numerals.cardinal(bottom)}"


def _say_range(match: re.Match[str], _: _Context) -> str:
    said = [
        numerals.year(n) if len(n) == 4 and n[:2] in ("19", "20") else numerals.cardinal(n)
        for n in (match["a"], match["b"])
    ]
    return " to ".join(said)


def _say_points(match: re.Match[str], _: _Context) -> str:
    return " point ".join(numerals.cardinal(part) for part in match.group().split("."))


def _say_number(match: re.Match[str], context: _Context) -> str:
    number = match.group()
    if number[0] in "-−" and context.before[-1:].isalnum():
        number = number[1:]
    return numerals.cardinal(number)


def _say_hash(match: re.Match[str], _: _Context) -> str:
    return "number"


def _say_abbreviation(match: re.Match[str], context: _Context) -> str | None:
    name = match["name"]
    following = context.after.lstrip()
    last = not following
    if name.lower() == "no":
        return "number" if following[:1].isdigit() else None
    if name == "St":
        previous = re.search(r"([A-Z]\w*)\s*$", context.before)
        said = "saint" if following[:1].isupper() and previous is None else "street"
    else:
        said = ABBREVIATIONS[name]
    return said + "." if last else said


def _say_initials(match: re.Match[str], context: _Context) -> str:
    said = _spell(match.group().replace(".", ""))
    return said + "." if match.group().endswith(".") and not context.after.strip() else said


def _say_code(match: re.Match[str], _: _Context) -> str:
    said: list[str] = []
    for part in re.findall(r"[A-Z]+|[a-z]+|\d+", match.group()):
        if part.isdigit():
            long = len(part) > 2 or part[0] == "0"
            said.append(numerals.digits(part) if long else numerals.cardinal(part))
        else:
            said.append(part if part.islower() and len(part) > 2 else _spell(part))
    return " ".join(said)


def _say_capitals(match: re.Match[str], context: _Context) -> str | None:
    name = match["name"]
    if context.shouting or not is_spelled(name):
        return None
    return _spell(name) + ("'s" if match["plural"] else "")


def _say_word(match: re.Match[str], _: _Context) -> str:
    return match.group().replace("’", "'").lower()


def _rule(pattern: str, say: _Say) -> tuple[re.Pattern[str], _Say]:
    return re.compile(pattern), say


_ABBREVIATION: Final = "|".join(
    re.escape(name) for name in sorted((*ABBREVIATIONS, "St", "No", "no"), key=len, reverse=True)
)

_RULES: Final[tuple[tuple[re.Pattern[str], _Say], ...]] = (
    _rule(r"(?P<address>[\w.+-]+@[\w-]+(?:\.[\w-]+)+)", _say_address),
    _rule(
        r"(?:https?://)?(?:www\.)?(?P<address>[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\."
        r"(?:com|org|net|edu|gov|io|ai|co|uk|de|fr|it|eu|info|app|dev)\b(?:/[\w/.-]*\w)?)(?!\.\w)",
        _say_address,
    ),
    _rule(r"(?P<y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})" + _END, _say_iso_date),
    _rule(r"(?P<a>\d{1,2})/(?P<b>\d{1,2})/(?P<y>\d{4}|\d{2})" + _END, _say_slash_date),
    _rule(
        rf"(?P<month>{_MONTH})\.?\s(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?!\d|:)(?:,?\s(?P<y>\d{{4}})"
        rf"(?!\d))?{_END}",
        _say_month_first,
    ),
    _rule(
        rf"(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?:\sof)?\s(?P<month>{_MONTH})\b"
        rf"(?:,?\s(?P<y>\d{{4}})(?!\d))?",
        _say_day_first,
    ),
    _rule(
        rf"(?P<h>\d{{1,2}}):(?P<min>\d{{2}})(?::\d{{2}})?(?:{_HALF})?(?![\w:])",
        _say_time,
    ),
    _rule(rf"(?P<h>\d{{1,2}}){_HALF}(?!\w)", _say_hour),
    _rule(
        rf"(?P<minus>[-−])?(?P<sign>[{numerals.CURRENCY_SIGNS}])\s?(?P<n>{_NUMBER})"
        rf"(?:\s(?P<scale>{_SCALE})\b|(?P<short>[kKmMbB])\b)?{_END}",
        _say_money,
    ),
    _rule(
        r"(?:\+\d{1,3}[\s.-]?)?(?:\(\d{2,4}\)[\s.-]?)?\d{1,4}(?:[\s.-]\d{2,4}){1,4}(?![\d.:/%-]\d|\w)",
        _say_phone,
    ),
    _rule(r"\+\d{7,15}" + _END, _say_phone),
    _rule(r"(?P<n>\d+)(?:st|nd|rd|th)\b", lambda m, _: numerals.ordinal(m["n"])),
    _rule(r"['’]?(?P<n>\d{3}0|[2-9]0)['’]?s\b", lambda m, _: numerals.decade(m["n"])),
    _rule(r"(?P<a>\d{1,4})[-–](?P<b>\d{1,4})(?![-–.\d]|\w)", _say_range),
    _rule(r"(?P<a>\d{1,2})/(?P<b>\d{1,2})(?![\d/])" + _END, _say_fraction),
    _rule(r"\d+(?:\.\d+){2,}" + _END, _say_points),
    _rule(rf"(?P<n>[-−]?(?:{_NUMBER}))\s?(?P<unit>{_UNIT})(?!\w)", _say_unit),
    _rule(r"\d+(?![\d,.]\d|[A-Za-z%])", _say_run),
    _rule(r"[A-Za-z]{1,6}\d[A-Za-z\d]*|\d{1,6}[A-Za-z][A-Za-z\d]*", _say_code),
    _rule(rf"[-−]?(?:{_NUMBER})", _say_number),
    _rule(r"#(?=\d)", _say_hash),
    _rule(rf"(?P<name>{_ABBREVIATION})\.(?!\w)", _say_abbreviation),
    _rule(r"(?:[A-Za-z]\.){2,}(?!\w)|(?:[A-Za-z]\.)+[A-Za-z](?![\w.])", _say_initials),
    _rule(r"(?P<name>[A-Z]{1,6})(?P<plural>['’]?s)?(?!\w|['’]\w)", _say_capitals),
    _rule(r"['’]?[^\W\d_]+(?:['’][^\W\d_]+)*", _say_word),
)
