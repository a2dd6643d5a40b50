"""What callers of an agent may say, as phrases for a recognizer's language model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ringtrue.config.agent_dialogue import (
    PLACEHOLDER,
    ChoiceSlot,
    DateSlot,
    DialogueFile,
    DigitsSlot,
    NumberSlot,
    Slot,
    TimeSlot,
    all_examples,
)

DIGITS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS: Final = (
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS: Final = (
    *("january", "february", "march", "april", "may", "june", "july", "august"),
    *("september", "october", "november", "december"),
)
ORDINALS: Final = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"),
    *("tenth", "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth"),
    *("seventeenth", "eighteenth", "nineteenth", "twentieth", "twenty first", "twenty second"),
    *("twenty third", "twenty fourth", "twenty fifth", "twenty sixth", "twenty seventh"),
    *("twenty eighth", "twenty ninth", "thirtieth", "thirty first"),
)

_SAMPLES_IN_EXAMPLE: Final = 12
"""How many values of a slot are put into each example that names it."""


def vocabulary_of(dialogue: DialogueFile | None, extra: Iterable[str]) -> tuple[str, ...]:
    """Phrases, each once, in a fixed order."""
    found: dict[str, None] = {}
    if dialogue is not None:
        for intent, example in all_examples(dialogue):
            for phrase in _expanded(example, dialogue, intent.slots):
                found.setdefault(phrase)
        for slot in dialogue.slots.values():
            for phrase in _answers(slot):
                found.setdefault(phrase)
        for phrase in (*dialogue.yes, *dialogue.no, "yes that's right", "no that's wrong"):
            found.setdefault(phrase)
        if any(intent.title for intent in dialogue.intents.values()):
            for phrase in ("the first one", "the second one", "neither"):
                found.setdefault(phrase)
    for phrase in extra:
        found.setdefault(phrase)
    return tuple(found)


def _expanded(example: str, dialogue: DialogueFile, slots: tuple[str, ...]) -> Iterator[str]:
    names = [name for name in PLACEHOLDER.findall(example) if name in slots]
    if not names:
        yield example
        return
    choices = [tuple(_answers(dialogue.slots[name])) or ("",) for name in names]
    for index in range(min(_SAMPLES_IN_EXAMPLE, max(len(c) for c in choices))):
        phrase = example
        for name, values in zip(names, choices, strict=True):
            phrase = phrase.replace(f"{{{name}}}", values[index * 7 % len(values)])
        yield " ".join(phrase.split())


def _answers(slot: Slot) -> Iterator[str]:
    """Typical answers to the slot's question."""
    if isinstance(slot, DigitsSlot):
        yield from _digit_strings(slot)
    elif isinstance(slot, NumberSlot):
        yield from _numbers(slot)
    elif isinstance(slot, ChoiceSlot):
        for value, phrases in slot.options.items():
            yield from (value, *phrases)
    elif isinstance(slot, DateSlot):
        yield from ("today", "tomorrow", "the day after tomorrow", "next week")
        for day in DAYS:
            yield from (day, f"on {day}", f"next {day}", f"this {day}")
        for index, ordinal in enumerate(ORDINALS):
            yield f"the {ordinal}"
            yield f"the {ordinal} of {MONTHS[index % 12]}"
            yield f"{MONTHS[(index + 5) % 12]} {ordinal}"
    elif isinstance(slot, TimeSlot):
        yield from _times()


def _digit_strings(slot: DigitsSlot) -> Iterator[str]:
    """Strings of every length allowed in which, together, every digit follows every other."""
    length = max(2, min(slot.max_length, max(slot.min_length, 6)))
    pairs = [(a, b) for a in range(10) for b in range(10)]
    for start in range(0, len(pairs), 2):
        run = [digit for pair in pairs[start : start + (length + 1) // 2] for digit in pair]
        yield " ".join(DIGITS[digit] for digit in run[:length])
    for digit in DIGITS:
        yield digit
        yield f"double {digit} {DIGITS[3]} oh {digit}"


def _numbers(slot: NumberSlot) -> Iterator[str]:
    yield from DIGITS
    yield from _TEENS
    for index, ten in enumerate(_TENS):
        yield ten
        yield f"{ten} {DIGITS[index % 9 + 1]}"
    if slot.max >= 100:
        for digit in DIGITS[1:]:
            yield f"{digit} hundred"
            yield f"{digit} hundred and {_TENS[3]} {digit}"
    if slot.max >= 1000:
        yield from (f"{digit} thousand" for digit in DIGITS[1:])


def _times() -> Iterator[str]:
    for index, hour in enumerate((*DIGITS[1:], *_TEENS[:3])):
        yield from (hour, f"at {hour}", f"{hour} o'clock", f"half past {hour}")
        yield from (f"quarter past {hour}", f"quarter to {hour}", f"{hour} thirty")
        yield from (f"{hour} fifteen", f"{hour} forty five", f"{hour} {_TEENS[index % 10]}")
        yield from (f"{hour} a m", f"{hour} p m", f"{hour} in the morning")
        yield from (f"{hour} in the afternoon", f"{hour} in the evening")
    yield from ("noon", "midnight", "at noon")
