"""How callers ask whether a person speaks, and how they don't, in five languages."""

from __future__ import annotations

import pytest
from phrasebook import sentences

from ringtrue.config.agent_disclosure import LOCALES, DisclosureFile, texts_of
from ringtrue.streaming.llm.disclosure import Asked, Disclosure
from ringtrue.streaming.llm.disclosure_patterns import CLAIMS, LETTERS, QUESTIONS, languages

ASKED = {
    "en": """
        Are you a robot?|Are you human?|are you a real person|Am I talking to a machine?
        am i speaking to a real person right now|Is this a recording?|You're a robot, right?
        you are not a real person are you|is this an a i|Wait, are you an AI?|are you even human
        aren't you a bot|do i have a human or am i talking to a computer|did i reach a recording
        you sound like a robot|is this a live person|are you an actual human being
        is this automated|hold on are you real|is that a real person|are you a person or a machine
        isn't this just a machine|so I'm speaking with a bot?|thirty you a robot|the you human
        can i speaking to a real person|the my speaking to a real person|you a real person""",
    "de": """
        Sind Sie ein Mensch?|Bist du ein Roboter?|Spreche ich mit einem echten Menschen?
        Rede ich gerade mit einer Maschine?|Ist das eine Bandansage?|Sind Sie eine KI?
        sind sie echt|Sie sind doch ein Computer|Sind Sie eine künstliche Intelligenz?
        Sind Sie überhaupt ein Mensch|ist das hier eine aufnahme|sind sie eine k i""",
    "fr": """
        Êtes-vous un robot ?|Est-ce que vous êtes une vraie personne ?|Vous êtes un robot ?
        Est-ce que je parle à un robot ?|Je parle à une machine ?|C'est un enregistrement ?
        Êtes-vous humain ?|Tu es une intelligence artificielle ?|vous êtes une IA""",
    "es": """
        ¿Es usted un robot?|¿Eres una persona de verdad?|¿Eres humano?
        ¿Estoy hablando con una máquina?|¿Hablo con una persona real?|¿Esto es una grabación?
        ¿Usted es una inteligencia artificial?|eres un bot""",
    "it": """
        Sei un robot?|Lei è una persona vera?|Sto parlando con una macchina?
        È una registrazione?|Parlo con una persona?|Sei umano?|È lei un robot?""",
}
NOT_ASKED = {
    "en": """
        Can I speak to a real person?|I want to talk to a human|get me an agent
        Is there a person in charge of billing?|my computer is broken|are you sure
        is this machine still available|are you open today|are you a real estate agent
        are you recording this call|are you human resources|connect me with a person please
        is it a computer problem|I sent you a machine last week|thank you human resources
        I'd rather be talking to a real person|I gave you a program
        who am i talking to|am I speaking to the right department""",
    "de": """
        Ich möchte mit einem Menschen sprechen|Sind Sie sicher?|Mein Computer ist kaputt
        Spreche ich mit der Buchhaltung?|Haben Sie eine Maschine da""",
    "fr": """
        Je voudrais parler à une personne|Vous êtes ouverts ?|c'est une machine à laver
        je parle à la comptabilité""",
    "es": """
        Quiero hablar con una persona|¿Es usted el encargado?|es una máquina de lavar""",
    "it": """Vorrei parlare con una persona|Sei sicuro?|la macchina è rotta""",
}


def asked(language: str, *said: str) -> Asked:
    return Disclosure(texts_of(DisclosureFile(), language, "Example")).asked(said)


@pytest.mark.parametrize(("language", "said"), sentences(ASKED))
def test_the_question_is_known(language: str, said: str) -> None:
    assert asked(language, said) is Asked.ALONE


@pytest.mark.parametrize(("language", "said"), sentences(NOT_ASKED))
def test_other_questions_are_not_it(language: str, said: str) -> None:
    assert asked(language, said) is Asked.NOTHING


def test_what_the_recognizer_is_taught_is_known() -> None:
    for code, own in LOCALES.items():
        for question in own.questions:
            assert asked(code, question) is Asked.ALONE, question


def test_every_language_has_both() -> None:
    assert set(QUESTIONS) == set(CLAIMS) == set(LETTERS) == set(LOCALES)
    assert languages("de") == ("de", "en")
    assert languages("en") == ("en",)
    assert languages("pl") == ("en",)
    assert asked("de", "are you a robot") is Asked.ALONE
