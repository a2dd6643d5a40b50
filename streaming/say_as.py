"""How text is read that an author has marked: digit by digit, letter by letter, as a date.

Each function returns words as :mod:`ringtrue.streaming.normalize` writes them (a lone capital is a
letter's name, a comma a pause), or None for text that isn't what it was said to be.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from ringtrue.config.speech_markup import SayAs
from ringtrue.streaming import numerals
from ringtrue.streaming.lexicon import MONTHS, SYMBOLS

_NUMBER: Final = re.compile(r"[-−+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?", re.ASCII)
_SPELLED_SYMBOLS: Final = {
    **SYMBOLS,
    ".": "dot",
    "-": "dash",
    "–": "dash",
    "_": "underscore",
    "/": "slash",
    "#": "hash",
    "*": "star",
}


def say_as(how: SayAs, text: str) -> str | None:
    """The words for ``text``; None where it is to be read as ordinary text."""
    text = text.strip()
    if how.kind in ("characters", "spell-out"):
        return _characters(text)
    if how.kind == "digits":
        groups = re.findall(r"[0-9]+", text)
        only = re.fullmatch(r"[0-9\s.,()/+-]+", text)
        return numerals.grouped(groups) if groups and only else _characters(text)
    if how.kind == "telephone":
        return _telephone(text)
    if how.kind == "date":
        return _date(text, how.format or "mdy", strict=bool(how.format))
    if not _NUMBER.fullmatch(text.rstrip("stndrh") if how.kind == "ordinal" else text):
        return None
    if how.kind == "cardinal":
        return numerals.cardinal(text.lstrip("+"))
    whole = re.match(r"[0-9,]+(?!\.)", text)
    return numerals.ordinal(whole.group()) if whole else None


def date_words(year: str | None, month: int, day: str) -> str | None:
    """``("1999", 3, "5")`` is "march fifth, nineteen ninety nine"; None for no such day."""
    if not (1 <= month <= 12 and 1 <= int(day) <= 31):
        return None
    name = next(name for name, number in MONTHS.items() if number == month).lower()
    said = f"{name} {numerals.ordinal(day)}"
    return f"{said}, {numerals.year(year)}" if year else said


def _characters(text: str) -> str | None:
    said: list[str] = []
    for char in unicodedata.normalize("NFKD", text):
        if "0" <= char <= "9":
            said.append(numerals.digits(char))
        elif char.isalpha() and char.isascii():
            said.append(char.upper())
        elif char.isspace() or char == ",":
            if said and not said[-1].endswith(","):
                said[-1] += ","
        elif char in _SPELLED_SYMBOLS:
            said.append(_SPELLED_SYMBOLS[char])
    return " ".join(said).rstrip(",") or None


def _telephone(text: str) -> str | None:
    groups = re.findall(r"[0-9]+|[A-Za-z]+", text)
    if not groups:
        return None
    if len(groups) == 1 and groups[0].isdigit():
        groups = numerals.regroup(groups[0])
    said = [
        numerals.digits(group) if group.isdigit() else " ".join(group.upper()) for group in groups
    ]
    return ("plus " if text.startswith("+") else "") + ", ".join(said)


def _date(text: str, order: str, *, strict: bool) -> str | None:
    """Numbers in ``order``; an order that is only the default yields to what is possible."""
    parts = re.findall(r"[0-9]+", text)
    if not re.fullmatch(r"[0-9]{1,4}(?:[-/. ][0-9]{1,4}){1,2}|[0-9]{8}", text):
        return None
    if len(parts) == 1:
        parts, order = [text[:4], text[4:6], text[6:]], "ymd"
    elif len(parts[0]) == 4:
        order = "ymd"
    elif len(parts) == 2:
        order = order.replace("y", "")
    if len(order) != len(parts):
        return None
    found = dict(zip(order, parts, strict=True))
    if not strict and int(found["m"]) > 12:
        found["m"], found["d"] = found["d"], found["m"]
    year = found.get("y")
    if year is not None and len(year) != 4:
        year = f"20{year:0>2}"
    if len(found["m"]) > 2 or len(found["d"]) > 2 or (year is not None and len(year) != 4):
        return None
    return date_words(year, int(found["m"]), found["d"])
