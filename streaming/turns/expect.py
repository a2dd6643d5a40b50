"""What the agent has just asked for: it decides how long a pause may be inside the answer."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Expect(StrEnum):
    """The kind of answer that is waited for."""

    OPEN = "open"
    """Anything: the sound of the speech decides."""

    YES_NO = "yes_no"
    """A word or two."""

    DIGITS = "digits"
    """Digits in groups, with pauses between them."""

    SPELLING = "spelling"
    """Letters one by one: a name, an e-mail address."""


_SPELLING: Final = {
    "en": r"\bspell|\be-?mail|letter by letter",
    "de": r"\bbuchstabier|\be-?mail",
    "fr": r"\b[ée]pele[rz]|\badresse [ée]lectronique|\be-?mail",
    "es": r"\bdeletre|\bcorreo electr[óo]nico|\be-?mail",
    "it": r"\bcompit|\blettera per lettera|\be-?mail",
}
_DIGITS: Final = {
    "en": (
        r"\b(?:number|digits|code|postcode|zip|pin)\b",
        r"\b(?:what|which|tell|give|say|enter|read|need)\b",
    ),
    "de": (r"(?:nummer|ziffern|\bpin|postleitzahl|\bcode)\b", r"\b(?:wie|welche|nennen|sagen)\b"),
    "fr": (r"\b(?:num[ée]ro|chiffres|code)\b", r"\b(?:quel|quelle|donnez|dites|indiquez)\b"),
    "es": (r"\b(?:n[úu]mero|d[íi]gitos|c[óo]digo)\b", r"\b(?:cu[áa]l|d[íi]ga|dime|indique)"),
    "it": (r"\b(?:numero|cifre|codice)\b", r"\b(?:qual|quale|dica|dimmi|mi d[àa])"),
}
_YES_NO: Final = {
    "en": r"(?:is|are|was|were|do|does|did|can|could|shall|should|will|would|have|has|am|may)\b"
    r"|.*\b(?:right|correct|okay)$",
    "de": r"(?:ist|sind|haben|hat|kann|können|soll|sollen|möchten|wollen|darf|stimmt|passt)\b"
    r"|.*\b(?:richtig|korrekt)$",
    "fr": r"(?:est-ce|avez|êtes|voulez|puis|pouvez|souhaitez|dois)\b|.*\b(?:correct|bien ça)$",
    "es": r"(?:es|está|son|tiene|quiere|puedo|desea|le gustaría)\b|.*\b(?:correcto|verdad)$",
    "it": r"(?:è|sono|ha|vuole|posso|desidera|le va)\b|.*\b(?:corretto|giusto|vero)$",
}
_CHOICE: Final = {"en": "or", "de": "oder", "fr": "ou", "es": "o", "it": "o"}
_SENTENCE: Final = re.compile(r"(?<=[.!?…])\s+")


def expectation(text: str, language: str) -> Expect:
    """What the agent's words ``text`` ask for, judged by their last question.

    ``language`` is ISO 639-1, perhaps with a region; one that isn't known gives ``OPEN``. This is
    for agents whose dialogue can't say it itself: a wrong guess costs a longer or shorter pause.
    """
    code = language.partition("-")[0]
    if code not in _YES_NO:
        return Expect.OPEN
    sentences = [part for part in _SENTENCE.split(text.strip().lower()) if part]
    tail = " ".join(sentences[-2:])
    if re.search(_SPELLING[code], tail):
        return Expect.SPELLING
    noun, verb = _DIGITS[code]
    if re.search(noun, tail) and re.search(verb, tail):
        return Expect.DIGITS
    question = sentences[-1].strip("¿ ") if sentences else ""
    if not question.endswith("?") or re.search(rf"\b{_CHOICE[code]}\b", question):
        return Expect.OPEN
    last = question.rstrip("?! ").rpartition(",")
    clauses = (question.rstrip("?! "), last[2].strip())
    asks = any(re.match(_YES_NO[code], clause) for clause in clauses)
    return Expect.YES_NO if asks else Expect.OPEN
