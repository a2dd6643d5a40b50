"""What an agent says to fill the time, in the languages there are texts for.

An opener is a few words that promise nothing and fit before any answer; a waiting line is for a
caller who has waited longer. Other languages need ``openers`` and ``stalls.waiting`` of their own,
or the agent says none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

OPENERS: Final[Mapping[str, tuple[str, ...]]] = {
    "en": ("One moment.", "Let me see.", "Just a second.", "Right, one moment."),
    "de": ("Einen Moment.", "Mal sehen.", "Einen Augenblick.", "Gut, einen Moment."),
    "fr": ("Un instant.", "Voyons voir.", "Une petite seconde.", "D'accord, un instant."),
    "es": ("Un momento.", "Vamos a ver.", "Un segundo.", "Bien, un momento."),
    "it": ("Un momento.", "Vediamo un po'.", "Un secondo.", "Bene, un momento."),
}
"""By ISO 639-1 code."""

WAITING: Final[Mapping[str, tuple[str, ...]]] = {
    "en": ("Sorry, this is taking a little longer.", "Thank you for waiting, I'm still on it."),
    "de": ("Entschuldigung, das dauert etwas länger.", "Danke fürs Warten, ich bin noch dran."),
    "fr": ("Désolé, cela prend un peu plus de temps.", "Merci de patienter, je m'en occupe."),
    "es": ("Perdone, esto tarda un poco más.", "Gracias por esperar, sigo en ello."),
    "it": ("Mi scusi, ci vuole ancora un momento.", "Grazie per l'attesa, ci sto lavorando."),
}


def openers_of(language: str) -> tuple[str, ...]:
    """The openers of ``language``, e.g. ``en`` or ``de-AT``; none where there are none."""
    return OPENERS.get(language.partition("-")[0], ())


def waiting_of(language: str) -> tuple[str, ...]:
    """The waiting lines of ``language``; none where there are none."""
    return WAITING.get(language.partition("-")[0], ())
