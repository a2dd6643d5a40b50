"""Pronunciations: the dictionary PocketSphinx ships, and a guess for what it lacks.

The guess comes from flite's letter-to-sound rules (Black, Lenzo & Pagel 1998) when Debian's
``libflite1`` is present, else the word is spelled letter by letter. Either is reported, so that
an operator can write the right one into the agent's vocabulary.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from ringtrue.streaming.errors import RecognizerError

PHONES: Final = frozenset(
    ("AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH",
     "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH",
     "UW", "V", "W", "Y", "Z", "ZH")
)  # fmt: skip
"""The phone set of the US English acoustic model (the CMU set without stress)."""

WORD: Final = re.compile(r"[a-z][a-z']{0,39}")
"""What a word may look like: the rules below are C code, so nothing else reaches them."""

LETTERS: Final[Mapping[str, str]] = {
    "a": "EY", "b": "B IY", "c": "S IY", "d": "D IY", "e": "IY", "f": "EH F", "g": "JH IY",
    "h": "EY CH", "i": "AY", "j": "JH EY", "k": "K EY", "l": "EH L", "m": "EH M", "n": "EH N",
    "o": "OW", "p": "P IY", "q": "K Y UW", "r": "AA R", "s": "EH S", "t": "T IY", "u": "Y UW",
    "v": "V IY", "w": "D AH B AH L Y UW", "x": "EH K S", "y": "W AY", "z": "Z IY",
}  # fmt: skip
"""How the letters of the alphabet are said."""


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Pronunciations of a closed set of words."""

    entries: Mapping[str, tuple[str, ...]]
    """Word to its pronunciations, each phones separated by spaces."""

    guessed: Mapping[str, str] = field(default_factory=dict)
    """Words no dictionary had, with the pronunciation that was guessed."""

    def dictionary(self) -> str:
        """The lexicon in CMU dictionary format, alternatives numbered ``word(2)``."""
        lines = []
        for word in sorted(self.entries):
            for number, phones in enumerate(self.entries[word], 1):
                lines.append(f"{word} {phones}" if number == 1 else f"{word}({number}) {phones}")
        return "\n".join(lines) + "\n"


def look_up(
    words: Iterable[str], dictionary: Path, own: Mapping[str, str] | None = None
) -> Lexicon:
    """Pronunciations for ``words`` (lower case): ``own`` first, then ``dictionary``, else a guess.

    Raises :class:`~ringtrue.streaming.errors.RecognizerError` for a word that can't be a word, a
    pronunciation with an unknown phone, or a dictionary that can't be read.
    """
    wanted = set(words)
    for word in sorted(wanted):
        if not WORD.fullmatch(word):
            raise RecognizerError(
                f"{word!r} can't be a vocabulary word: 1-40 letters a-z and apostrophes, "
                "starting with a letter"
            )
    entries: dict[str, tuple[str, ...]] = {}
    for word, phones in (own or {}).items():
        entries[word] = (_checked(word, phones),)
    missing = wanted - entries.keys()
    entries |= _read(dictionary, missing)
    missing -= entries.keys()
    guessed = {word: _guess(word) for word in sorted(missing)}
    entries |= {word: (phones,) for word, phones in guessed.items()}
    return Lexicon({word: entries[word] for word in wanted}, guessed)


def _checked(word: str, phones: str) -> str:
    found = phones.upper().split()
    for phone in found:
        if phone not in PHONES:
            raise RecognizerError(
                f"pronunciation of {word!r}: unknown phone {phone!r}; "
                f"allowed: {' '.join(sorted(PHONES))}"
            )
    if not found:
        raise RecognizerError(f"pronunciation of {word!r} is empty")
    return " ".join(found)


def _read(path: Path, wanted: set[str]) -> dict[str, tuple[str, ...]]:
    """Scan the file for the wanted words only: the whole of it would cost 40 MB per process."""
    found: dict[str, list[str]] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                head, _, phones = line.rstrip().partition(" ")
                word = head.partition("(")[0]
                if word in wanted:
                    found.setdefault(word, []).append(phones.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise RecognizerError(f"can't read the dictionary {path}: {error}") from error
    return {word: tuple(phones) for word, phones in found.items()}


def _guess(word: str) -> str:
    phones = _letter_to_sound(word)
    if phones and PHONES.issuperset(phones):
        return " ".join(phones)
    return " ".join(LETTERS[letter] for letter in word if letter in LETTERS)


def _letter_to_sound(word: str) -> list[str]:
    """Phones by flite's lexicon and rules; empty where the library is absent."""
    try:
        core = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL("libflite_usenglish.so.1", mode=ctypes.RTLD_GLOBAL)
        lex = ctypes.CDLL("libflite_cmulex.so.1")
        call = partial(_typed, core)
        initialise = _typed(lex, "cmu_lex_init", ctypes.c_void_p)
        lookup = call("lex_lookup", ctypes.c_void_p, *[ctypes.c_void_p] * 4)
        head = call("val_car", ctypes.c_void_p, ctypes.c_void_p)
        rest = call("val_cdr", ctypes.c_void_p, ctypes.c_void_p)
        text = call("val_string", ctypes.c_char_p, ctypes.c_void_p)
        free = call("delete_val", None, ctypes.c_void_p)
    except (OSError, AttributeError):
        return []
    found = lookup(initialise(), word.encode(), None, None)
    phones: list[str] = []
    item = found
    while item:
        symbol = text(head(item)).decode().rstrip("012").upper()
        phones.append("AH" if symbol == "AX" else symbol)
        item = rest(item)
    if found:
        free(found)
    return phones


def _typed(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, name)
    function.restype, function.argtypes = result, list(arguments)
    return function
