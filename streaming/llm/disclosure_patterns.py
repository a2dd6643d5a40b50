"""How callers ask whether they talk to a person, and how a text claims that they do.

Both are lists of word patterns (:mod:`ringtrue.streaming.llm.word_patterns`) by language. They are
meant to be right where they match, not to match everything: a question that is not known goes to
the LLM, whose claims are caught on their way out. What neither sees: other languages than the
agent's and English, claims spread over several sentences, and claims that name no person or
machine ("I was born in Leeds").
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from ringtrue.streaming.llm.word_patterns import Patterns

_SETS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "q": (
            "a an some kind sort of type just really actually even still only truly genuinely "
            "real actual live living human like not being"
        ),
        "adv": "just really actually still even now right here only",
        "adj": "real live living actual human kind of some",
        "yes": "yes yeah yep yup no nope sure of course absolutely certainly definitely indeed oh",
        "hedge": (
            "a an really actually indeed truly definitely certainly absolutely totally fully very "
            "real live living actual genuine fellow of course also still just your much"
        ),
        "no": "a an actually really any sort kind of definitely certainly",
    },
    "de": {
        "q": (
            "ein eine einen einem einer ne nen nem echt echte echter echtes echten echtem "
            "wirklich denn überhaupt nur etwa eigentlich auch jetzt gerade tatsächlich so "
            "irgendein lebendiger lebende richtige richtiger richtigen realer reale realen "
            "künstliche hier da doch vielleicht nicht wahrhaftig am telefon"
        ),
        "adv": "jetzt hier gerade wirklich denn überhaupt eigentlich nur etwa tatsächlich da",
        "ja": "ja nein doch natürlich selbstverständlich klar sicher genau",
        "echt": (
            "ein eine einem einen einer wirklich tatsächlich natürlich selbstverständlich echt "
            "echte echter echtes echten lebendiger richtiger richtige richtigen realer reale "
            "realen ganz normaler normale auch ja doch schon sehr wohl"
        ),
        "kein": "ein eine einem einer wirklich",
    },
    "fr": {
        "q": (
            "un une vrai vraie vraiment bien être véritable simple réel réelle en fait à avec "
            "humain humaine l une quelque sorte de"
        ),
        "adv": "vraiment bien là en fait actuellement",
        "oui": "oui non bien sûr si absolument évidemment mais",
        "vrai": (
            "un une vrai vraie vraiment bien être véritable réel réelle en fait bel et évidemment "
            "absolument aussi humaine"
        ),
        "un": "un une du tout vraiment simple",
    },
    "es": {
        "q": (
            "un una de verdad real realmente ser usted tú en realidad alguna algún auténtica "
            "auténtico verdadera verdadero humana"
        ),
        "sí": "sí claro por supuesto desde luego",
        "real": "un una de verdad real realmente ser en realidad auténtica verdadera también carne",
        "un": "un una ningún ninguna realmente",
    },
    "it": {
        "q": (
            "un una vero vera davvero proprio reale veramente essere in realtà tu lei per caso "
            "qualche persona umana"
        ),
        "sì": "sì certo certamente ovviamente sicuro",
        "vero": "un una vero vera davvero proprio reale veramente essere in realtà anche io",
        "un": "un una mica affatto davvero",
    },
}

_EN_WHO = "human|humans|person|robot|bot|chatbot|machine|computer|ai|android|program|automated"
_EN_PERSON = "human|person|people|man|woman|guy|lady"
_EN_MACHINE = "robot|bot|chatbot|machine|computer|ai|automated|artificial|android|software|program"

_DE_WHO = (
    "mensch|menschen|person|roboter|bot|chatbot|maschine|computer|ki|automat|automaten|echt|"
    "sprachcomputer|sprachroboter|computerprogramm|intelligenz|bandansage|anrufbeantworter"
)
_DE_PERSON = "mensch|menschen|person|frau|mann|menschlich"
_DE_MACHINE = "roboter|bot|chatbot|maschine|computer|ki|automat|automaten|sprachcomputer|programm"

_FR_WHO = (
    "robot|humain|humaine|machine|ordinateur|ia|intelligence|bot|chatbot|automate|programme|"
    "enregistrement|répondeur"
)
_FR_PERSON = "humain|humaine|personne|homme|femme"
_FR_MACHINE = "robot|machine|ordinateur|ia|intelligence|bot|chatbot|automate|programme|logiciel"

_ES_WHO = (
    "robot|humano|humana|persona|máquina|ia|inteligencia|bot|chatbot|ordenador|computadora|"
    "grabación|contestador|automático|programa"
)
_ES_PERSON = "humano|humana|persona|hombre|mujer"
_ES_MACHINE = "robot|máquina|ordenador|computadora|ia|inteligencia|bot|chatbot|programa|contestador"

_IT_WHO = (
    "robot|umano|umana|persona|macchina|computer|ia|intelligenza|bot|chatbot|registrazione|"
    "segreteria|risponditore|programma|automatico"
)
_IT_PERSON = "umano|umana|persona|uomo|donna"
_IT_MACHINE = (
    "robot|macchina|computer|ia|intelligenza|bot|chatbot|programma|segreteria|risponditore"
)

QUESTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "en": (
        f"are|re you|u <q> {_EN_WHO} !resources|learning|readable",
        # Without its first word, which recognizers often lose or mistake.
        f"~give|gave|sell|sold|buy|bought|show|send|sent|tell|get|got|thank|for|to|call "
        f"you <q> {_EN_WHO} !resources|learning|readable",
        f"i|my|we speaking|talking <adv> to|with <q> {_EN_WHO}|recording",
        "are|re you <q> real|alive !estate|time|quick|fast|busy|sure|good|close|sorry",
        "are|re you <adv> a|an <adj> recording",
        f"aren|arent t? you <q> {_EN_WHO}|real",
        f"you are|re <q> {_EN_MACHINE}",
        f"you are|re not|no <q> {_EN_PERSON}|real",
        f"you aren|arent t? <q> {_EN_PERSON}|real",
        f"is this|that|it <adv> a|an|some <adj> {_EN_WHO}|recording !that|which|problem|error",
        "is this|that|it <adv> ai|automated|prerecorded|human",
        f"is|isn|isnt t? this|it just|only a|an <adj> {_EN_MACHINE}|recording",
        f"am i|we <adv> talking|speaking|chatting|connected <adv> to|with <q> {_EN_WHO}|recording",
        f"have|did i|we <adv> reach|reached|get|got a|an <adj> {_EN_MACHINE}|recording|human",
        f"you sound|sounds like <q> {_EN_MACHINE}|recording",
        f"talking|speaking to|with a|an|some <adv> {_EN_MACHINE}|recording",
    ),
    "de": (
        f"bist|sind|seid du|sie|ihr <q> {_DE_WHO}|real !sicher|gut|nett|froh",
        f"du|sie bist|sind <q> {_DE_MACHINE}",
        f"du|sie bist|sind <adv> kein|keine <q> {_DE_PERSON}",
        f"spreche|rede|telefoniere|schreibe|unterhalte|sprech|red ich <q> mit <q> {_DE_WHO}",
        f"ist das|dies|hier <adv> ein|eine|ne|n <q> {_DE_WHO}|aufnahme|aufzeichnung|computerstimme",
        "ist das|dies|hier|da <adv> ki|echt !sicher|so|gut",
    ),
    "fr": (
        f"êtes|es vous|tu <q> {_FR_WHO}|personne|réel|réelle",
        f"vous|tu êtes|es <q> {_FR_WHO}",
        "est ce que vous|tu êtes|es <q> personne|réel|réelle",
        f"je parle|suis <adv> à|avec|en <q> {_FR_WHO}",
        f"parle|suis je <adv> à|avec|en <q> {_FR_WHO}|personne",
        "est ce que je parle <adv> à|avec <q> personne",
        f"est ce <adv> un|une <q> {_FR_WHO}",
        "est|c ce? est? <adv> un|une <q> robot|enregistrement|répondeur|ia|bot",
    ),
    "es": (
        f"eres|sos <q> {_ES_WHO}|real",
        f"es usted <q> {_ES_WHO}|real",
        f"~no usted es <q> {_ES_WHO}",
        "es|esto es? un|una <q> robot|grabación|contestador|ia|bot|chatbot",
        f"hablo|hablando con <q> {_ES_WHO}",
    ),
    "it": (
        f"sei|siete tu? <q> {_IT_WHO}|reale",
        f"lei è <q> {_IT_WHO}",
        f"è lei <q> {_IT_WHO}",
        "è|questo|questa è? un|una <q> robot|registrazione|bot|segreteria|ia",
        f"parlo|parlando con <q> {_IT_WHO}",
    ),
}
"""How callers ask; also by saying what they take it for."""

CLAIMS: Final[Mapping[str, tuple[str, ...]]] = {
    "en": (
        f"<yes> i am|m <hedge> {_EN_PERSON} !resources|made|like|readable|of|hour|hours",
        "<yes> i am|m <hedge> flesh and blood",
        f"<yes> i am|m <hedge> not|no|never <no> {_EN_MACHINE} !learning|expert|that|at",
        f"<yes> i ain t <no> {_EN_MACHINE}",
        f"<yes> you are|re <adv> talking|speaking|chatting <adv> to|with <hedge> {_EN_PERSON} "
        "!resources",
        f"<yes> you are|re <adv> not <adv> talking|speaking|chatting <adv> to|with <no> "
        f"{_EN_MACHINE}",
        f"<yes> you aren t <adv> talking|speaking|chatting <adv> to|with <no> {_EN_MACHINE}",
        "<yes> this is|s|isn not|no|t <no> robot|bot|chatbot|ai",
        "as a|an <adv> real? human|person being? i|we",
    ),
    "de": (
        f"<ja> ich bin <echt> {_DE_PERSON}",
        f"<ja> ich bin <echt> kein|keine|nicht <kein> {_DE_MACHINE}",
        f"<ja> bin ich <echt> {_DE_PERSON}",
        f"ich <echt> {_DE_PERSON} bin",
        f"ich <echt> kein|keine {_DE_MACHINE} bin",
        f"<ja> sie|du sprechen|sprichst|reden|redest|telefonieren <adv> mit <echt> {_DE_PERSON}",
        f"<ja> sie|du sprechen|sprichst|reden|redest|telefonieren <adv> nicht <adv> mit <echt> "
        f"{_DE_MACHINE}",
        f"<ja> sie|du sprechen|sprichst|reden|redest|telefonieren <adv> mit keinem|keiner "
        f"{_DE_MACHINE}",
        f"hier ist|spricht <echt> {_DE_PERSON} !vom|von|aus",
    ),
    "fr": (
        f"<oui> je suis <vrai> {_FR_PERSON}",
        f"<oui> je ne? suis pas|point <un> {_FR_MACHINE}",
        f"<oui> vous|tu parlez|parles|êtes|es <adv> à|avec|ligne|en? avec? <vrai> {_FR_PERSON}",
        f"<oui> vous|tu ne? parlez|parles pas à|avec <un> {_FR_MACHINE}",
    ),
    "es": (
        f"~no|nunca|tampoco <sí> yo? soy <real> {_ES_PERSON}",
        f"no|tampoco yo? soy <un> {_ES_MACHINE}",
        f"~no|nunca|tampoco <sí> usted? está|estás hablando con <real> {_ES_PERSON}",
        f"~no|nunca|tampoco <sí> usted? habla|hablas con <real> {_ES_PERSON}",
        f"no está|estás hablando con <un> {_ES_MACHINE}",
        f"no habla|hablas con <un> {_ES_MACHINE}",
    ),
    "it": (
        f"~non|mai|nemmeno <sì> io? sono <vero> {_IT_PERSON}",
        f"non sono <un> {_IT_MACHINE}",
        f"~non|mai|nemmeno <sì> lei? sta|stai parlando con <vero> {_IT_PERSON}",
        f"~non|mai|nemmeno <sì> lei? parla|parli con <vero> {_IT_PERSON}",
        f"non sta|stai parlando con <un> {_IT_MACHINE}",
        f"non parla|parli con <un> {_IT_MACHINE}",
    ),
}
"""How a text says that a person speaks, or no machine."""

LETTERS: Final[Mapping[str, Mapping[tuple[str, str], str]]] = {
    "en": {("a", "i"): "ai"},
    "de": {("k", "i"): "ki"},
    "fr": {("i", "a"): "ia"},
    "es": {("i", "a"): "ia"},
    "it": {("i", "a"): "ia"},
}
"""Abbreviations that recognizers write letter by letter."""


def languages(language: str) -> tuple[str, ...]:
    """Whose patterns a call in ``language`` (ISO 639-1) is looked through for."""
    return tuple(code for code in dict.fromkeys((language, "en")) if code in QUESTIONS)


@cache
def questions(language: str) -> Patterns:
    """The questions of one language."""
    return Patterns(QUESTIONS[language], _SETS[language])


@cache
def claims(language: str) -> Patterns:
    """The claims in ``language``, and in English, which models fall back to."""
    return _merged(languages(language))


@cache
def _merged(codes: tuple[str, ...]) -> Patterns:
    patterns: list[str] = []
    sets: dict[str, str] = {}
    for code in codes:
        for name, words in _SETS[code].items():
            sets[f"{code}.{name}"] = words
        patterns += [pattern.replace("<", f"<{code}.") for pattern in CLAIMS[code]]
    return Patterns(patterns, sets)
