"""Numbers as English words, in the ways a telephone agent says them.

Words are lower case without commas; a comma is kept only where a speaker pauses (between groups
of a telephone number).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from num2words import num2words

MAX_DIGITS: Final = 15
"""Longer integers are read digit by digit."""

_DIGITS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_MONEY: Final = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
}

CURRENCY_SIGNS: Final = "".join(_MONEY)


def _words(value: int, to: str) -> str:
    spelled = str(num2words(value, to=to))
    return spelled.replace(",", "").replace("-", " ")


def digits(run: str) -> str:
    """Digit by digit: ``"042"`` is "zero four two". Anything but 0-9 is skipped."""
    return " ".join(_DIGITS[int(digit)] for digit in run if "0" <= digit <= "9")


def grouped(groups: Iterable[str]) -> str:
    """Digit by digit with a pause after each group."""
    return ", ".join(digits(group) for group in groups)


def regroup(run: str) -> list[str]:
    """Cut a bare run of digits as it is usually read: threes, with four at the end."""
    groups: list[str] = []
    while len(run) > 4:
        size = 3 if len(run) != 8 else 4
        groups.append(run[:size])
        run = run[size:]
    if run:
        groups.append(run)
    return groups


def cardinal(number: str) -> str:
    """``"1,234"``, ``"-5"``, ``"3.14"``: integers and decimals, thousands commas allowed."""
    plain = number.replace(",", "")
    sign = ""
    if plain[:1] in ("-", "−"):
        sign, plain = "minus ", plain[1:]
    whole, _, fraction = plain.partition(".")
    if not whole:
        words = "zero"
    elif len(whole) > MAX_DIGITS or (len(whole) > 1 and whole[0] == "0"):
        words = digits(whole)
    else:
        words = _words(int(whole), "cardinal")
    if fraction:
        words += " point " + digits(fraction)
    return sign + words


def ordinal(number: str) -> str:
    """``"21"`` is "twenty first"."""
    plain = number.replace(",", "")
    return digits(plain) if len(plain) > MAX_DIGITS else _words(int(plain), "ordinal")


def year(number: str) -> str:
    """``"1999"`` is "nineteen ninety nine", ``"2007"`` "two thousand and seven"."""
    return _words(int(number), "year")


def decade(number: str) -> str:
    """``"1990"`` is "nineteen nineties", ``"80"`` "eighties"."""
    words = year(number) if len(number) == 4 else cardinal(number)
    return words[:-1] + "ies" if words.endswith("y") else words + "s"


def money(sign: str, amount: str, scale: str = "") -> str:
    """``("$", "5.20")`` is "five dollars and twenty cents"; ``scale`` is "million" and the like.

    ``sign`` is one of :data:`CURRENCY_SIGNS`.
    """
    one, many, minor_one, minor_many = _MONEY[sign]
    plain = amount.replace(",", "")
    whole, _, fraction = plain.partition(".")
    if scale or len(fraction) not in (0, 2):
        return " ".join(part for part in (cardinal(plain), scale, many) if part)
    parts: list[str] = []
    minor = int(fraction or "0")
    if int(whole or "0") or not minor:
        parts.append(f"{cardinal(whole or '0')} {one if whole == '1' else many}")
    if minor:
        parts.append(f"{cardinal(str(minor))} {minor_one if minor == 1 else minor_many}")
    return " and ".join(parts)


def clock(hour: str, minute: str, half: str = "") -> str:
    """``("5", "05", "p")`` is "five oh five P M"; ``half`` is "a", "p" or empty."""
    words = cardinal(str(int(hour)))
    if int(minute):
        words += " oh" if minute[0] == "0" else ""
        words += " " + cardinal(str(int(minute)))
    elif not half:
        words += " o'clock" if 0 < int(hour) <= 12 else " hundred"
    return f"{words} {half.upper()} M" if half else words
