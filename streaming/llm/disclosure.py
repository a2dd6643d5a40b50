"""What one call's caller was told of the agent, and what is still to be told: sans IO.

:class:`Disclosure` hears what the caller heard, word by word as playout releases it, so that a
disclosure that was talked over counts as far as it was heard, and is said again. It also knows a
caller's question whether a person speaks, and gives its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from ringtrue.config.agent_disclosure import DisclosureTexts, folded, words_of
from ringtrue.streaming.llm.disclosure_patterns import LETTERS, languages, questions
from ringtrue.streaming.llm.word_patterns import Found, Patterns
from ringtrue.streaming.ssml import parse

MAX_ATTEMPTS: Final = 5
"""Times that it is begun to be said, before a caller who never lets it end is spared it."""

MAX_SPAN: Final = 3
"""What a caller said in so many messages, none of them answered, is one question."""

MORE_WORDS: Final = 5
"""Words beside the question from which the LLM answers, too."""

_EMPTY_WORDS: Final = frozenset(
    (
        *("hello", "hi", "hey", "sorry", "excuse", "me", "um", "uh", "well", "so", "wait", "ok"),
        *("okay", "please", "tell", "or", "a", "an", "is", "it", "the", "just", "really", "i"),
        *("hallo", "entschuldigung", "bitte", "oder", "ein", "eine", "sagen", "sie", "mal", "das"),
        *("bonjour", "pardon", "ou", "un", "une", "dites", "moi", "alors", "hola", "perdone", "o"),
        *("ciao", "pronto", "scusi", "mi", "dica", "per", "favore", "por", "favor", "que"),
    )
)


class Asked(StrEnum):
    """What a caller's turn holds of the question."""

    NOTHING = "nothing"
    ALONE = "alone"
    WITH_MORE = "with_more"
    """The question, and something that the LLM has to answer."""


class Told(StrEnum):
    """How much of the disclosure was heard."""

    NONE = "none"
    PARTLY = "partly"
    FULLY = "fully"


class Disclosure:
    """The state of one call."""

    def __init__(self, texts: DisclosureTexts) -> None:
        """Nothing was said yet."""
        self.texts = texts
        self.attempts = 0
        """Times that it was begun to be said."""

        self.told = Told.NONE
        self.questions = 0
        """Times that the caller asked whether a person speaks."""

        self.claims = 0
        """Sentences replaced that claimed so."""

        self._awaited = _Awaited("")
        self._under_way = False
        self._owes_answer = False
        self._answers_itself = False
        self._greets = False
        self._collected: list[str] | None = None
        self._early: list[str] = []
        self._own = Patterns(" ".join(words) for q in texts.questions if (words := words_of(q)))

    def asked(self, messages: Sequence[str]) -> Asked:
        """Whether the caller asks if a person speaks; ``messages``: what was said since the agent
        last spoke, oldest first."""
        words = words_of(" ".join(messages[-MAX_SPAN:]))
        for code in (*languages(self.texts.language), ""):
            patterns = questions(code) if code else self._own
            joined = _joined(words, code)
            found = patterns.find(joined)
            if found is not None:
                return Asked.WITH_MORE if _says_more(joined, found) else Asked.ALONE
        return Asked.NOTHING

    def answer(self) -> str:
        """The answer, which the response that begins next consists of."""
        self.questions += 1
        self._answers_itself = True
        return self._answer()

    def owe_answer(self) -> None:
        """The response that begins next is to begin with the answer."""
        self.questions += 1
        self._owes_answer = True

    def anew(self) -> None:
        """Somebody hears from now on who has heard nothing: it is told from the beginning."""
        self.interrupted()
        self.told, self.attempts = Told.NONE, 0

    def greets(self) -> None:
        """The response that begins next is the agent's greeting."""
        self._greets = True

    def begins(self, *, response: bool = True) -> str:
        """The agent begins to say something; what it has to say before, or "".

        ``response``: it is a response of the LLM hook, else a text by itself.
        """
        answers, owes = self._answers_itself and response, self._owes_answer
        greets = self._greets and response
        if answers or owes:
            text = self._answer()
            self._attempt(text)
            self._answers_itself = self._owes_answer = self._greets = False
            return "" if answers else text
        if greets:
            self._greets = False
        if self.told is Told.FULLY or self._under_way or self.attempts >= MAX_ATTEMPTS:
            return ""
        if greets and self.texts.in_greeting:
            self.attempts += 1
            self._under_way = True
            self._collected, self._early = [], []
            return ""
        text = self.texts.again if self.attempts else self.texts.opening
        text = f"{text} {self.texts.recording}".strip()
        self._attempt(text)
        return text

    def said(self, text: str) -> None:
        """Part of the response that began last."""
        if self._collected is not None:
            self._collected.append(text)

    def ends(self) -> str:
        """That response is complete but for what is returned, or ""."""
        if self._collected is None:
            return ""
        self._awaited = _Awaited("".join((*self._collected, " ", self.texts.recording)))
        self._collected, early = None, self._early
        for text in early:
            self.heard(text)
        return self.texts.recording

    def heard(self, text: str) -> None:
        """The caller has heard ``text``: a word, or several."""
        if self._collected is not None:
            self._early.append(text)
            return
        if not self.attempts or self.told is Told.FULLY:
            return
        self._awaited.hear(text)
        if self._awaited.complete:
            self.told = Told.FULLY
        elif self._awaited.begun:
            self.told = Told.PARTLY

    def interrupted(self) -> None:
        """Nothing that was begun is being said any more; what was heard of it comes to be known."""
        self.ends()
        self._under_way = False
        self.withdrawn()

    def withdrawn(self) -> None:
        """The response that was to begin next will not."""
        if self._owes_answer or self._answers_itself:
            self.questions -= 1
        self._owes_answer = self._answers_itself = self._greets = False

    def stopped(self) -> None:
        """What the caller heard last has ended."""
        if self._awaited.begun:
            self._under_way = False

    def _answer(self) -> str:
        notice = "" if self.told is Told.FULLY else self.texts.recording
        return f"{self.texts.answer} {notice}".strip()

    def _attempt(self, text: str) -> None:
        self._collected = None
        if self.told is Told.FULLY:
            return
        self.attempts += 1
        self._under_way = True
        self._awaited = _Awaited(text)


class _Awaited:
    """A text that is to be heard, and how far it was: letters and digits in their order count."""

    def __init__(self, text: str) -> None:
        self._letters = _letters(parse(text).text)
        first = _letters(text.split()[0]) if text.split() else ""
        self._least = max(1, len(first))
        self._fall = _falls(self._letters)
        self._at = 0
        self._reached = 0

    @property
    def begun(self) -> bool:
        """Whether its first word, at least, was heard."""
        return self._reached >= self._least

    @property
    def complete(self) -> bool:
        """Whether all of it was heard."""
        return 0 < len(self._letters) == self._reached

    def hear(self, text: str) -> None:
        # Knuth, Morris, Pratt: how much of its beginning ends where the caller has heard to.
        if self.complete:
            return
        for letter in _letters(text):
            while self._at and self._letters[self._at] != letter:
                self._at = self._fall[self._at - 1]
            if self._letters and self._letters[self._at] == letter:
                self._at += 1
            self._reached = max(self._reached, self._at)
            if self.complete:
                return


def _falls(letters: str) -> list[int]:
    falls = [0] * len(letters)
    at = 0
    for index in range(1, len(letters)):
        while at and letters[at] != letters[index]:
            at = falls[at - 1]
        at += letters[at] == letters[index]
        falls[index] = at
    return falls


def _letters(text: str) -> str:
    return "".join(c for c in folded(text) if c.isalnum())


def _joined(words: Sequence[str], code: str) -> list[str]:
    letters = LETTERS.get(code, {})
    found: list[str] = []
    for word in words:
        together = letters.get((found[-1], word)) if found else None
        if together is not None:
            found[-1] = together
        else:
            found.append(word)
    return found


def _says_more(words: Sequence[str], found: Found) -> bool:
    rest = (*words[: found.first], *words[found.end :])
    return sum(word not in _EMPTY_WORDS for word in rest) >= MORE_WORDS
