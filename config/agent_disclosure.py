"""What callers are told of the agent: that it is an AI, whom it speaks for, and that they are
recorded.

The texts of each language stand here, outside any prompt; an agent's file may word them anew, but
not leave them out. Who speaks them, and when, is ``ringtrue.streaming.llm.disclosing``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from ringtrue.config.agent_dialogue import Part, Text, Texts, spoken_problems, unmarked_problems

ORGANISATION: Final = "organisation"
"""The placeholder of these texts for whom the agent speaks."""


@dataclass(frozen=True, slots=True)
class LocaleTexts:
    """The texts of one language."""

    opening: str
    """The first words of a call."""

    again: str
    """The same later in a call in which the opening was not heard to its end."""

    answer: str
    """What callers are told who ask whether they talk to a person."""

    truth: str
    """Stands in place of a sentence that claims the opposite."""

    recording: str
    """The notice of a call that is recorded."""

    questions: tuple[str, ...]
    """How callers ask, for the recognizer's language model."""

    machine: frozenset[str]
    """Words, folded, one of which tells a caller that no person speaks."""


LOCALES: Final[Mapping[str, LocaleTexts]] = {
    "en": LocaleTexts(
        opening="Hello, this is the automated assistant of {organisation}, an AI.",
        again="This is the automated assistant of {organisation}, an AI.",
        answer=(
            "I am an AI, the automated assistant of {organisation}. "
            "I am not a person, and my voice is made by a computer."
        ),
        truth="I am an AI, not a person.",
        recording="This call is recorded.",
        questions=(
            "are you a robot",
            "are you human",
            "are you a human",
            "are you a real person",
            "are you a machine",
            "are you a computer",
            "is this a recording",
            "is this a real person",
            "am i talking to a robot",
            "am i talking to a machine",
            "am i speaking to a real person",
        ),
        machine=frozenset(
            (
                *("ai", "artificial", "automated", "automatic", "robot", "bot", "chatbot"),
                *("computer", "machine", "synthetic"),
            )
        ),
    ),
    "de": LocaleTexts(
        opening="Guten Tag, hier ist der automatische Assistent von {organisation}, eine KI.",
        again="Hier ist der automatische Assistent von {organisation}, eine KI.",
        answer=(
            "Ich bin eine KI, der automatische Assistent von {organisation}. "
            "Ich bin kein Mensch, und meine Stimme kommt aus dem Computer."
        ),
        truth="Ich bin eine KI, kein Mensch.",
        recording="Dieses Gespräch wird aufgezeichnet.",
        questions=(
            "sind sie ein roboter",
            "sind sie ein mensch",
            "bist du ein mensch",
            "bist du ein roboter",
            "spreche ich mit einem menschen",
            "spreche ich mit einer maschine",
            "ist das eine aufnahme",
        ),
        machine=frozenset(
            (
                *("ki", "künstliche", "automatisch", "automatische", "automatischer"),
                *("automatisierte", "automatisierter", "roboter", "bot", "computer", "maschine"),
                *("sprachcomputer", "computerstimme", "sprachroboter", "synthetische"),
            )
        ),
    ),
    "fr": LocaleTexts(
        opening=(
            "Bonjour, vous parlez à l'assistant automatique de {organisation}, "
            "une intelligence artificielle."
        ),
        again=(
            "Vous parlez à l'assistant automatique de {organisation}, "
            "une intelligence artificielle."
        ),
        answer=(
            "Je suis une intelligence artificielle, l'assistant automatique de {organisation}. "
            "Je ne suis pas une personne, et ma voix est produite par un ordinateur."
        ),
        truth="Je suis une intelligence artificielle, pas une personne.",
        recording="Cet appel est enregistré.",
        questions=(
            "êtes-vous un robot",
            "êtes-vous humain",
            "est-ce que vous êtes un robot",
            "est-ce que je parle à un robot",
            "est-ce que je parle à une vraie personne",
            "c'est un enregistrement",
        ),
        machine=frozenset(
            (
                *("ia", "artificielle", "artificiel", "automatique", "automatisé", "automatisée"),
                *("robot", "bot", "ordinateur", "machine", "synthétique"),
            )
        ),
    ),
    "es": LocaleTexts(
        opening=(
            "Hola, le habla el asistente automático de {organisation}, una inteligencia artificial."
        ),
        again="Le habla el asistente automático de {organisation}, una inteligencia artificial.",
        answer=(
            "Soy una inteligencia artificial, el asistente automático de {organisation}. "
            "No soy una persona, y mi voz la produce un ordenador."
        ),
        truth="Soy una inteligencia artificial, no una persona.",
        recording="Esta llamada se graba.",
        questions=(
            "es usted un robot",
            "es usted humano",
            "eres un robot",
            "eres una persona",
            "estoy hablando con una máquina",
            "estoy hablando con una persona real",
            "es una grabación",
        ),
        machine=frozenset(
            (
                *("ia", "artificial", "automático", "automática", "automatizado", "automatizada"),
                *("robot", "bot", "ordenador", "computadora", "máquina", "sintética"),
            )
        ),
    ),
    "it": LocaleTexts(
        opening=(
            "Buongiorno, parla l'assistente automatico di {organisation}, "
            "un'intelligenza artificiale."
        ),
        again="Parla l'assistente automatico di {organisation}, un'intelligenza artificiale.",
        answer=(
            "Sono un'intelligenza artificiale, l'assistente automatico di {organisation}. "
            "Non sono una persona, e la mia voce è prodotta da un computer."
        ),
        truth="Sono un'intelligenza artificiale, non una persona.",
        recording="Questa chiamata viene registrata.",
        questions=(
            "sei un robot",
            "lei è un robot",
            "sei una persona vera",
            "sto parlando con un robot",
            "sto parlando con una macchina",
            "sto parlando con una persona",
            "è una registrazione",
        ),
        machine=frozenset(
            (
                *("ia", "artificiale", "automatico", "automatica", "automatizzato"),
                *("automatizzata", "robot", "bot", "computer", "macchina", "sintetica"),
            )
        ),
    ),
}
"""By the language's ISO 639-1 code."""


class DisclosureFile(Part):
    """How an agent's file words what callers are told. It can't be switched off."""

    in_greeting: bool = False
    """Declares that every greeting of the agent says itself that it is an AI and for whom."""

    text: Text | None = None
    """The first words of a call, in place of the language's own; may hold ``{organisation}``."""

    answer: Text | None = None
    """Told to callers who ask whether they talk to a person, in place of the language's own."""

    questions: Texts = ()
    """Further ways in which callers ask that, word for word."""

    recorded: bool = False
    """Calls are recorded: callers are told so with the first words."""

    recording: Text | None = None
    """How they are told, in place of the language's own."""


@dataclass(frozen=True, slots=True)
class DisclosureTexts:
    """What one call's agent says about itself: plain texts, nothing left to fill in."""

    language: str
    """ISO 639-1."""

    opening: str
    again: str
    answer: str
    truth: str
    recording: str = ""
    """Empty where the call is not recorded."""

    questions: tuple[str, ...] = ()
    in_greeting: bool = False


def texts_of(file: DisclosureFile, language: str, organisation: str) -> DisclosureTexts:
    """The texts of an agent of ``language`` (BCP 47); other placeholders stay in them."""
    code = language.partition("-")[0]
    own = LOCALES.get(code)

    def said(text: str) -> str:
        return text.replace(f"{{{ORGANISATION}}}", organisation)

    answer = file.answer or (own.answer if own else "")
    return DisclosureTexts(
        language=code,
        opening=said(file.text or (own.opening if own else "")),
        again=said(file.text or (own.again if own else "")),
        answer=said(answer),
        truth=said(own.truth if own else answer),
        recording=said(file.recording or (own.recording if own else "")) if file.recorded else "",
        questions=file.questions,
        in_greeting=file.in_greeting,
    )


def disclosure_problems(
    file: DisclosureFile, language: str, greeting: Texts, allowed: set[str]
) -> list[tuple[str, str]]:
    """What is wrong with a disclosure; ``allowed`` are the placeholders of the agent's texts."""
    known = {*allowed, ORGANISATION}
    problems: list[tuple[str, str]] = []
    for key in ("text", "answer", "recording"):
        text: str | None = getattr(file, key)
        if text is not None:
            problems += spoken_problems(f"disclosure.{key}", (text,), known)
    problems += unmarked_problems("disclosure.questions", file.questions)
    code = language.partition("-")[0]
    own = LOCALES.get(code)
    if own is None:
        needed = ("text", "answer", *(("recording",) if file.recorded else ()))
        built_in = ", ".join(sorted(LOCALES))
        problems += [
            (f"disclosure.{key}", f"must be given for language {language!r}; built in: {built_in}")
            for key in needed
            if getattr(file, key) is None
        ]
        return problems
    machine = {folded(word) for word in own.machine}
    claimed: dict[str, tuple[str | None, ...]] = {
        "disclosure.text": (file.text,),
        "disclosure.answer": (file.answer,),
    }
    if file.in_greeting:
        claimed["greeting"] = greeting
    for key, texts in claimed.items():
        for text in texts:
            if text is not None and not machine & set(words_of(text)):
                problems.append((key, f"tells nobody that an AI speaks: say {_some(own)}"))
    return problems


def folded(text: str) -> str:
    """``text`` for comparing: case, accents and characters nobody sees don't count."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in plain if not unicodedata.category(c).startswith(("M", "Cf")))


def words_of(text: str) -> list[str]:
    """The words of ``text``, folded; ``you're`` is two."""
    return re.findall(r"[^\W_]+", folded(text))


def _some(own: LocaleTexts) -> str:
    return "one of " + ", ".join(sorted(own.machine))


Organisation = Annotated[str, Field(min_length=1, max_length=160)]
