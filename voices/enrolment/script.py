"""A challenge as a script: how its name and purpose may be said."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from ringtrue.streaming.recognizers.vocabulary import normalize
from ringtrue.voices.consent.challenge import Challenge
from ringtrue.voices.consent.words import DIGITS, WORDS
from ringtrue.voices.enrolment.hearing import Part, Readings, Script

CLONING: Final = "to the cloning of my voice for"

_SAID_AS: Final = {
    "ltd": "limited", "inc": "incorporated", "co": "company", "corp": "corporation",
    "dr": "doctor", "mr": "mister", "mrs": "misses", "ms": "miz", "st": "saint", "jr": "junior",
    "dept": "department", "intl": "international", "bros": "brothers", "no": "number",
}  # fmt: skip
"""Abbreviations and how they are read out."""

_SIGNS: Final = {"&": " and ", "+": " plus ", "@": " at ", "%": " percent ", "#": " number "}
_LETTERS_ELSEWHERE: Final = str.maketrans(
    {"ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "þ": "th", "Þ": "Th",
     "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ı": "i"}
)  # fmt: skip
"""Latin letters that Unicode doesn't take apart."""

_LONGEST_SPELLED: Final = 5
_MAX_WORD: Final = 40


def check_readable(name: str, purpose: str) -> None:
    """Whether a statement with them can be heard: the recognizer knows English letters only.

    Raises ``ValueError`` naming what can't be read out and what is allowed.
    """
    for what, text in (("name", name), ("purpose", purpose)):
        letters = [c for c in unicodedata.normalize("NFKD", _folded(text)) if c.isalpha()]
        foreign = sorted({c for c in letters if not c.isascii()})
        if foreign:
            raise ValueError(
                f"{what} holds {' '.join(foreign[:5])!r}; the statement is checked in English, so "
                "write it in Latin letters"
            )
        words = normalize(_folded(text))
        if not words:
            raise ValueError(f"{what} holds no word that can be read out; allowed: Latin letters")
        if any(len(word) > _MAX_WORD for word in words):
            raise ValueError(f"{what} holds a word of more than {_MAX_WORD} letters")


def script_for(challenge: Challenge) -> Script:
    """What is to be heard for ``challenge``.

    Raises ``ValueError`` as :func:`check_readable` does.
    """
    check_readable(challenge.name, challenge.purpose)
    digits = tuple(DIGITS.values())
    return Script(
        parts=(
            Part("name", ((("i",),), *_readings(challenge.name))),
            Part("consent", ((("consent",),),)),
            Part("cloning", tuple(((word,),) for word in CLONING.split())),
            Part("purpose", _readings(challenge.purpose)),
        ),
        drawn=challenge.spoken_phrase,
        choices=(*(digits for _ in challenge.digits), *(WORDS for _ in challenge.words)),
    )


def _folded(text: str) -> str:
    for sign, word in _SIGNS.items():
        text = text.replace(sign, word)
    return text.translate(_LETTERS_ELSEWHERE)


def _readings(text: str) -> tuple[Readings, ...]:
    """Each written word as it may be said: as a word, in full, or letter by letter."""
    found: list[Readings] = []
    for token in re.split(r"[\s/_-]+", _folded(text)):
        words = tuple(normalize(token))
        if not words:
            continue
        readings = [words]
        bare = re.sub(r"[^A-Za-z]", "", token)
        if len(words) == 1 and words[0] in _SAID_AS:
            readings.append((_SAID_AS[words[0]],))
        elif bare == token.strip(".,;:!?()'\"") and bare.isupper() and len(bare) > 1:
            if len(bare) <= _LONGEST_SPELLED:
                readings.append(tuple(bare.lower()))
        elif re.fullmatch(r"(?:[A-Za-z]\.){2,6}", token):
            readings = [tuple(bare.lower())]
        if re.fullmatch(r"[12]\d{3}", token):
            readings.append(tuple(normalize(f"{token[:2]} {token[2:]}")))
        found.append(tuple(dict.fromkeys(readings)))
    return tuple(found)
