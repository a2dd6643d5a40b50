"""Slot values out of a caller's words, and back into words.

Recognizers write numbers as words or as digits; both are understood. Nothing here reads a
clock: the day and time of the call are arguments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from rapidfuzz import fuzz, process

from ringtrue.config.agent_dialogue import (
    ChoiceSlot,
    DateSlot,
    DigitsSlot,
    NumberSlot,
    Slot,
    TextSlot,
    TimeSlot,
)
from ringtrue.config.agent_words import DAYS, MONTHS, ORDINALS
from ringtrue.streaming.llm.matching import tokens

_UNITS: Final = {
    word: value
    for value, word in enumerate(
        (
            *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
            *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
            *("seventeen", "eighteen", "nineteen"),
        )
    )
}
_TENS: Final = {
    word: value * 10
    for value, word in enumerate(
        ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), start=2
    )
}
_ZERO: Final = frozenset(("zero", "oh", "o", "nought", "nil"))
_HOMOPHONES: Final = {"to": 2, "too": 2, "for": 4, "fore": 4, "ate": 8, "won": 1, "tree": 3}
"""Digits as recognizers mishear them; taken only after another digit."""

_REPEATS: Final = {"double": 2, "triple": 3}
_ORDINAL_DAYS: Final = {word: day for day, word in enumerate(ORDINALS, start=1)}
_CLOSE: Final = 82
"""Similarity (0-100) from which a misheard name counts as the name."""

FIRST_PM_HOURS: Final = range(1, 8)
"""Hours that mean the afternoon when nothing says which half of the day."""


@dataclass(frozen=True, slots=True)
class SlotValue:
    """What was understood."""

    value: str
    """Canonical: digits, a decimal number, ISO 8601 date, HH:MM, the option, or the text."""

    spoken: str
    """As the agent says it back."""


def parse_slot(slot: Slot, text: str, now: datetime) -> SlotValue | None:
    """The value ``text`` gives for ``slot``, or None if it gives none that is allowed."""
    if isinstance(slot, DigitsSlot):
        return _digits_value(slot, spoken_digits(text))
    if isinstance(slot, NumberSlot):
        number = spoken_number(text)
        if number is None or not slot.min <= number <= slot.max:
            return None
        return SlotValue(str(number), str(number))
    if isinstance(slot, DateSlot):
        day = spoken_date(text, now.date())
        return None if day is None else SlotValue(day.isoformat(), say_date(day))
    if isinstance(slot, TimeSlot):
        minutes = spoken_time(text)
        if minutes is None:
            return None
        hour, minute = divmod(minutes, 60)
        return SlotValue(f"{hour:02}:{minute:02}", say_time(hour, minute))
    if isinstance(slot, ChoiceSlot):
        return _choice(slot, text)
    return _text(slot, text)


def parse_keys(slot: Slot, keys: str) -> SlotValue | None:
    """The value that keyed digits (``0-9*#``) give for ``slot``."""
    digits = "".join(key for key in keys if "0" <= key <= "9")[:40]
    if isinstance(slot, DigitsSlot):
        return _digits_value(slot, [digits])
    if isinstance(slot, NumberSlot) and digits and slot.min <= int(digits) <= slot.max:
        return SlotValue(str(int(digits)), str(int(digits)))
    if isinstance(slot, ChoiceSlot) and digits and 1 <= int(digits) <= len(slot.options):
        option = list(slot.options)[int(digits) - 1]
        return SlotValue(option, option)
    return None


def _digits_value(slot: DigitsSlot, runs: list[str]) -> SlotValue | None:
    for digits in ("".join(runs), *sorted(runs, key=len, reverse=True)):
        if slot.min_length <= len(digits) <= slot.max_length:
            return SlotValue(digits, " ".join(digits))
    return None


def spoken_digits(text: str) -> list[str]:
    """Runs of digits said one after the other; other words end a run."""
    words = tokens(text)
    kinds = [_digit_word(word) for word in words]
    runs: list[str] = []
    run = ""
    repeat = 1
    index = 0
    while index < len(words):
        digits = kinds[index]
        if digits is None and run and words[index] in _HOMOPHONES:
            digits = str(_HOMOPHONES[words[index]])
        if words[index] in _TENS:
            unit = _UNITS.get(words[index + 1], 0) if index + 1 < len(words) else 0
            digits = str(_TENS[words[index]] + (unit if unit < 10 else 0))
            index += 0 < unit < 10
        if digits is not None:
            run += digits * repeat
            repeat = 1
        elif words[index] in _REPEATS:
            repeat = _REPEATS[words[index]]
        elif run and words[index] not in ("and", "then", "um", "uh"):
            runs.append(run)
            run, repeat = "", 1
        index += 1
    return [*runs, run] if run else runs


def _digit_word(word: str) -> str | None:
    if word.isdecimal():
        return str(int(word)) if not word.isascii() else word
    if word in _ZERO:
        return "0"
    return str(_UNITS[word]) if word in _UNITS else None


def spoken_number(text: str) -> int | None:
    """The first whole number said: ``two hundred and five``, ``25``, ``a dozen``."""
    total = current = 0
    seen = False
    for word in tokens(text.replace(",", "")):
        if word.isdecimal():
            if seen:
                break
            return int(word[:15])
        if word in _UNITS:
            current, seen = current + _UNITS[word], True
        elif word in _TENS:
            current, seen = current + _TENS[word], True
        elif word == "hundred" and (seen or not current):
            current, seen = max(1, current) * 100, True
        elif word == "thousand":
            total, current, seen = total + max(1, current) * 1000, 0, True
        elif word == "dozen":
            current, seen = max(1, current) * 12, True
        elif seen and word != "and":
            break
    return total + current if seen else None


def spoken_date(text: str, today: date) -> date | None:
    """A day, from ``today`` on. A weekday is the next one after today; a day of the month without
    its month is the next such day."""
    words = tokens(text)
    joined = " ".join(words)
    if "day after tomorrow" in joined:
        return today + timedelta(days=2)
    if _close("tomorrow", words):
        return today + timedelta(days=1)
    if _close("today", words) or "tonight" in words:
        return today
    match = re.search(r"in (\w+) (day|week)s?", joined)
    count = spoken_number(match.group(1)) if match else None
    if match and (count or match.group(1) == "a"):
        return today + timedelta(days=(count or 1) * (7 if match.group(2) == "week" else 1))
    month = next((i for i, name in enumerate(MONTHS, 1) if _close(name, words)), None)
    if month is not None:
        day = _day_of_month(words)
        if day is not None:
            return _next_date(today, day, month)
    weekday = next((i for i, name in enumerate(DAYS) if _close(name, words)), None)
    if weekday is not None:
        return today + timedelta(days=(weekday - today.weekday() - 1) % 7 + 1)
    ordinal = _ordinal(words)
    return None if ordinal is None else _next_date(today, ordinal, None)


def _close(name: str, words: list[str]) -> bool:
    return name in words or (
        len(name) > 5 and any(len(w) > 4 and fuzz.ratio(name, w) >= _CLOSE for w in words)
    )


def _ordinal(words: list[str]) -> int | None:
    for index, word in enumerate(words):
        digits = re.fullmatch(r"(\d{1,2})(?:st|nd|rd|th)", word)
        if digits:
            return int(digits.group(1))
        pair = " ".join(words[index : index + 2])
        if pair in _ORDINAL_DAYS or word in _ORDINAL_DAYS:
            return _ORDINAL_DAYS.get(pair) or _ORDINAL_DAYS[word]
    return None


def _day_of_month(words: list[str]) -> int | None:
    ordinal = _ordinal(words)
    number = ordinal if ordinal is not None else spoken_number(" ".join(words))
    return number if number is not None and 1 <= number <= 31 else None


def _next_date(today: date, day: int, month: int | None) -> date | None:
    year, at = today.year, month or today.month
    for _ in range(9 * 12):
        try:
            found = date(year, at, day)
        except ValueError:
            found = None
        if found is not None and found >= today:
            return found
        if month is not None:
            year += 1
        else:
            year, at = (year + 1, 1) if at == 12 else (year, at + 1)
    return None


def spoken_time(text: str) -> int | None:
    """Minutes since midnight. Without a.m., p.m. or a part of the day, one to seven is the
    afternoon."""
    words = tokens(re.sub(r"\b([ap])\.?\s?m\b\.?", r"\1m", text.lower()))
    if "noon" in words or "midday" in words:
        return 12 * 60
    if "midnight" in words:
        return 0
    found = _clock(words)
    if found is None:
        return None
    hour, minute = found
    if not (0 <= hour <= 23 and 0 <= minute <= 59):
        return None
    joined = " ".join(words)
    morning = "am" in words or "in the morning" in joined
    later = "pm" in words or any(w in words for w in ("afternoon", "evening", "tonight"))
    if morning:
        hour = hour % 12 if hour <= 12 else hour
    elif hour < 12 and (later or (hour in FIRST_PM_HOURS and "hundred" not in words)):
        hour += 12
    return hour * 60 + minute


def _clock(words: list[str]) -> tuple[int, int] | None:
    """Hour and minute as said, before the half of the day is known."""
    for index, word in enumerate(words):
        if word in ("past", "after", "to", "before", "till") and index:
            minute = _minutes_word(words[:index])
            hour = _small(words[index + 1 :])
            if minute is not None and hour is not None and 1 <= hour[0] <= 23:
                if word in ("past", "after"):
                    return hour[0], minute
                return (hour[0] - 1 or 12, 60 - minute)
    for index in range(len(words)):
        hour = _small(words[index:])
        if hour is None:
            continue
        rest = words[index + hour[1] :]
        if len(words[index]) in (3, 4) and words[index].isdecimal():
            return divmod(int(words[index]), 100)
        if rest and rest[0] in _ZERO:
            unit = _small(rest[1:])
            return hour[0], unit[0] if unit else 0
        minute_said = _small(rest)
        return hour[0], minute_said[0] if minute_said else 0
    return None


def _minutes_word(words: list[str]) -> int | None:
    if words[-1] == "half":
        return 30
    if words[-1] == "quarter":
        return 15
    words = words[:-1] if words[-1] in ("minutes", "minute") else words
    for length in (2, 1):
        said = _small(words[-length:])
        if said is not None and said[1] == min(length, len(words)):
            return said[0]
    return None


def _small(words: list[str]) -> tuple[int, int] | None:
    """A number below 100 that ``words`` begins with, and how many words it takes."""
    if not words:
        return None
    first = words[0]
    if first.isdecimal():
        return int(first[:4]), 1
    if first in _UNITS:
        return _UNITS[first], 1
    if first in _TENS:
        unit = _UNITS.get(words[1], 0) if len(words) > 1 else 0
        return (_TENS[first] + unit, 2) if 0 < unit < 10 else (_TENS[first], 1)
    return None


def _choice(slot: ChoiceSlot, text: str) -> SlotValue | None:
    said = " ".join(tokens(text))
    phrases = {
        " ".join(tokens(phrase)): option
        for option, others in slot.options.items()
        for phrase in (option, *others)
    }
    whole = [phrase for phrase in phrases if re.search(rf"\b{re.escape(phrase)}\b", said)]
    if whole:
        option = phrases[max(whole, key=len)]
        return SlotValue(option, option)
    best = process.extract(said, list(phrases), scorer=fuzz.WRatio, limit=len(phrases))
    if not said or not best or best[0][1] < _CLOSE:
        return None
    option = phrases[best[0][0]]
    rivals = [score for phrase, score, _ in best if phrases[phrase] != option]
    if rivals and best[0][1] - rivals[0] < 4:
        return None
    return SlotValue(option, option)


def _text(slot: TextSlot, text: str) -> SlotValue | None:
    words = text.split()
    if not words:
        return None
    kept = " ".join(words[: slot.max_words])
    return SlotValue(kept, kept)


def say_date(day: date) -> str:
    """``Monday, the 5th of May``."""
    suffix = "th" if 10 <= day.day <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    weekday, month = DAYS[day.weekday()].capitalize(), MONTHS[day.month - 1].capitalize()
    return f"{weekday}, the {day.day}{suffix} of {month}"


def say_time(hour: int, minute: int) -> str:
    """``3:30 PM``, ``3 PM``, ``noon``."""
    if (hour, minute) == (12, 0):
        return "noon"
    half = "AM" if hour < 12 else "PM"
    return f"{hour % 12 or 12}:{minute:02} {half}" if minute else f"{hour % 12 or 12} {half}"
