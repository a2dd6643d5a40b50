"""What may reach Flite: plain lower-case words, one token each.

Flite ends the whole process on input it can't handle (``cst_error`` calls ``exit``), and its own
text normalisation guesses (states, roman numerals, streets). So nothing passes but words of
letters with at most one apostrophe and one trailing punctuation mark, of bounded length.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

MAX_LETTERS: Final = 32
"""Letters in one token; longer words are spoken in parts."""

MAX_WORD: Final = 64
"""Letters of a word that are spoken at all; noise could be spelled for minutes."""

_FOLDED: Final = str.maketrans(
    {
        "’": "'",
        "‘": "'",
        "ʼ": "'",
        "`": "'",
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "đ": "d",
        "ð": "th",
        "þ": "th",
        "ł": "l",
        "ı": "i",
        "…": ".",
        "—": ",",
        "–": ",",
    }
)

_TOKEN: Final = re.compile(r"([a-z]+(?:'[a-z]+)?)(-?)")
_LETTER: Final = re.compile(r"([A-Z])('s)?([.?!,;:]?)")
_PUNCTUATION: Final = re.compile(r"[.?!,;:]")


def fold(text: str) -> str:
    """Lower-case ``text`` and reduce it to ASCII: accents are dropped, ligatures spelled out."""
    lowered = text.lower().translate(_FOLDED)
    decomposed = unicodedata.normalize("NFKD", lowered)
    return decomposed.encode("ascii", "ignore").decode("ascii")


def spoken_tokens(spoken: str) -> list[str]:
    """The tokens Flite may see for one spoken text: ``[a-z]+('[a-z]+)?-?[.?!,;:]?``.

    A lone capital is the letter's name, which Flite is told by a ``-`` after it. Everything that
    is no word is dropped, digits too: they are for the normaliser to spell. Empty for text
    without words.
    """
    tokens: list[str] = []
    for chunk in spoken.split():
        letter = _LETTER.fullmatch(chunk)
        if letter:
            name = letter[1].lower()
            tokens.append(name + (letter[2] or "-") + letter[3])
            continue
        chunk = fold(chunk)
        words = [match.group(0) for match in _TOKEN.finditer(chunk)]
        if not words:
            continue
        last = chunk.rfind(words[-1][-1])
        ending = _PUNCTUATION.findall(chunk[last + 1 :])
        for word in words:
            whole = word if len(word) == 2 and word.endswith("-") else word.rstrip("-")
            tokens += [
                whole[i : i + MAX_LETTERS] for i in range(0, min(len(whole), MAX_WORD), MAX_LETTERS)
            ]
        if ending:
            tokens[-1] += ending[-1]
    return [token for token in tokens if token[0].isalpha()]
