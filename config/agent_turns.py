"""What an agent's file says of turn-taking, and the words of each language that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from ringtrue.config.agent_dialogue import Part, Texts


@dataclass(frozen=True, slots=True)
class TurnWords:
    """One language's words."""

    backchannels: tuple[str, ...]
    """What listeners say without wanting to speak; each a word or a few."""

    answers: tuple[str, ...]
    """Those of them that may answer a question."""

    heard: tuple[str, ...]
    """Such words, and those that stop a speaker, for the recognizer's language model."""

    still_there: tuple[str, ...]
    """Said to a caller who has spoken before and says nothing."""

    can_you_hear: tuple[str, ...]
    """Said to a caller of whom nothing was ever heard."""

    goodbye: str
    """Said before the call is ended."""


_HUMS: Final = (
    "mm",
    "mmm",
    "hm",
    "hmm",
    "mhm",
    "mm hm",
    "mm hmm",
    "uh huh",
    "uh",
    "um",
    "huh",
    "ah",
)

TURN_WORDS: Final[Mapping[str, TurnWords]] = {
    "en": TurnWords(
        backchannels=(
            *_HUMS,
            *("yeah", "yes", "yep", "yup", "okay", "ok", "right", "sure", "oh", "i see", "got it"),
            *("alright", "all right", "good", "great", "fine", "cool", "aha", "of course", "true"),
        ),
        answers=("yeah", "yes", "yep", "yup", "okay", "ok", "right", "sure", "fine", "uh huh"),
        heard=(
            *("uh huh", "yeah", "right", "i see", "got it", "alright", "stop", "wait", "hold on"),
            *("one moment", "no wait", "stop it", "just a moment"),
        ),
        still_there=("Are you still there?", "Hello? I can't hear you. Are you still there?"),
        can_you_hear=("Hello? I can't hear you. Can you hear me?", "Hello? Is anybody there?"),
        goodbye="I can't hear anything, so I'll end the call here. Goodbye.",
    ),
    "de": TurnWords(
        backchannels=(
            *_HUMS,
            *("ja", "jaja", "okay", "ok", "genau", "gut", "stimmt", "richtig", "ach so", "aha"),
            *("alles klar", "verstehe", "ich verstehe", "klar", "schön", "so", "äh", "ähm"),
        ),
        answers=("ja", "okay", "ok", "genau", "stimmt", "richtig", "gut"),
        heard=("aha", "genau", "stopp", "moment", "warten sie", "einen moment", "halt"),
        still_there=("Sind Sie noch da?", "Hallo? Ich höre Sie nicht. Sind Sie noch da?"),
        can_you_hear=("Hallo? Ich höre Sie nicht. Hören Sie mich?", "Hallo? Ist da jemand?"),
        goodbye="Ich höre leider nichts und beende das Gespräch. Auf Wiederhören.",
    ),
    "fr": TurnWords(
        backchannels=(
            *_HUMS,
            *("oui", "ouais", "d'accord", "okay", "ok", "ah bon", "je vois", "bien", "très bien"),
            *("voilà", "exactement", "c'est ça", "entendu", "euh", "bon", "super"),
        ),
        answers=("oui", "ouais", "d'accord", "okay", "ok", "c'est ça", "exactement"),
        heard=("d'accord", "attendez", "un instant", "stop", "un moment"),
        still_there=("Vous êtes toujours là ?", "Allô ? Je ne vous entends pas. Êtes-vous là ?"),
        can_you_hear=("Allô ? Je ne vous entends pas. M'entendez-vous ?", "Allô ?"),
        goodbye="Je n'entends rien, je vais donc raccrocher. Au revoir.",
    ),
    "es": TurnWords(
        backchannels=(
            *_HUMS,
            *("sí", "ya", "vale", "claro", "okay", "ok", "bien", "muy bien", "entiendo", "ajá"),
            *("de acuerdo", "exacto", "bueno", "perfecto", "eh"),
        ),
        answers=("sí", "vale", "claro", "okay", "ok", "de acuerdo", "exacto"),
        heard=("vale", "espere", "un momento", "pare"),
        still_there=("¿Sigue ahí?", "¿Hola? No le oigo. ¿Sigue ahí?"),
        can_you_hear=("¿Hola? No le oigo. ¿Me oye?", "¿Hola? ¿Hay alguien ahí?"),
        goodbye="No oigo nada, así que voy a colgar. Adiós.",
    ),
    "it": TurnWords(
        backchannels=(
            *_HUMS,
            *("sì", "okay", "ok", "va bene", "certo", "capisco", "bene", "esatto", "giusto"),
            *("d'accordo", "già", "ecco", "perfetto", "eh"),
        ),
        answers=("sì", "okay", "ok", "va bene", "certo", "esatto", "giusto", "d'accordo"),
        heard=("va bene", "aspetti", "un momento", "basta"),
        still_there=("È ancora in linea?", "Pronto? Non la sento. È ancora in linea?"),
        can_you_hear=("Pronto? Non la sento. Mi sente?", "Pronto? C'è qualcuno?"),
        goodbye="Non sento nulla, quindi chiudo la chiamata. Arrivederci.",
    ),
}


def turn_words(language: str) -> TurnWords:
    """The words of ``language`` (ISO 639-1, perhaps with a region); English where it has none."""
    return TURN_WORDS.get(language.partition("-")[0], TURN_WORDS["en"])


class IdleFile(Part):
    """What is said to callers who say nothing while nothing is said to them."""

    enabled: bool = True
    seconds: Annotated[float, Field(ge=3, le=600)] = 12
    """Silence of both sides before each text, and before the call is ended."""

    still_there: Texts = ()
    """Said in turn to a caller who has spoken before; none: the language's own."""

    can_you_hear: Texts = ()
    """The same for a caller of whom nothing was ever heard."""

    goodbye: Texts = ()
    """Said before the call is ended."""
