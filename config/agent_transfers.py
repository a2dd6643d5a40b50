"""Where an agent may hand callers over to, how, and what it says to both sides meanwhile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator

from ringtrue.config.agent_dialogue import (
    DialogueFile,
    GiveUp,
    Intent,
    Part,
    Text,
    Texts,
    TransferAction,
    spoken_problems,
    unmarked_problems,
)

_ADDRESS: Final = re.compile(r"sips?:[^\s@]+(?:@[^\s@]+)?|tel:\+?[0-9.\-()]+|\+[0-9]{4,15}")

How = Literal["blind", "attended", "conference"]
"""``blind``: the caller is sent on; ``attended``: whoever is there is called first, told who calls
and why, and asked; ``conference``: likewise, and the agent stays with both."""

ACCEPT: Final = "accept"
"""The briefing's action where whoever was called takes the caller."""

LANGUAGE: Final = "en"
"""Of the built-in texts."""


class TransferTarget(Part):
    """One place a caller may be handed to."""

    to: str
    """SIP URI, tel URI or E.164 number."""

    title: Text
    """As the agent and a model's tool name it, e.g. ``the sales team``."""

    how: How = "blind"

    @field_validator("to")
    @classmethod
    def _address(cls, value: str) -> str:
        if _ADDRESS.fullmatch(value) is None:
            raise ValueError("not a sip: or tel: URI, nor a number like +15551234567")
        return value


class BriefingPolicy(Part):
    """What is said to who is called before the caller is put through. ``{place}`` is the place's
    title, ``{briefing}`` what the dialogue or the model says of the caller."""

    ask: Annotated[Texts, Field(min_length=1)] = (
        "I have a caller for {place}. {briefing} "
        "Say yes or press 1 to take the call, say no or press 2 to decline.",
    )
    accepted: Annotated[Texts, Field(min_length=1)] = ("Thank you.",)
    """Said before the caller is there; who speaks meanwhile is asked again, so it is best short."""

    declined: Annotated[Texts, Field(min_length=1)] = ("All right. Goodbye.",)
    unclear: Annotated[Texts, Field(min_length=1)] = (
        "Sorry, I didn't get that. Say yes or press 1 to take the call, or no or press 2.",
        "To take the call, press 1. To decline, press 2.",
    )
    """Said one after the other while no answer is understood; then it is declined."""

    yes: Annotated[Texts, Field(min_length=1)] = (
        "yes",
        "yes please",
        "yeah",
        "sure",
        "okay",
        "of course",
        "put them through",
        "i'll take it",
    )
    no: Annotated[Texts, Field(min_length=1)] = (
        "no",
        "no thanks",
        "nope",
        "not now",
        "i can't",
        "i am busy",
    )
    seconds: Annotated[float, Field(ge=5, le=180)] = 45
    """How long it may take to accept; an answering machine never does."""

    def dialogue(self) -> DialogueFile:
        """The conversation: a question, and what is made of the answer."""
        return DialogueFile(
            intents={
                ACCEPT: Intent(
                    examples=self.yes,
                    answers=self.accepted,
                    follow_up=(),
                    action=TransferAction(transfer=ACCEPT),
                ),
                "decline": Intent(
                    examples=self.no, answers=self.declined, follow_up=(), action="hangup"
                ),
            },
            dtmf={"1": ACCEPT, "2": "decline"},
            fallbacks=self.unclear,
            unheard=self.unclear[:1],
            give_up=GiveUp(say=self.declined),
        )


class TransferPolicy(Part):
    """How callers are handed over."""

    failed: Annotated[Texts, Field(min_length=1)] = (
        "I'm sorry, I couldn't put you through. Is there anything else I can do for you?",
    )
    """Said when nobody took the caller; ``{place}`` is the place's title. The first time the
    first, and so on."""

    seconds: Annotated[float, Field(ge=5, le=180)] = 45
    """How long it may take until somebody answers."""

    music: bool = True
    """What the caller hears meanwhile, while its phone leaves that to us; else silence."""

    hand_over: Literal["auto", "bridge"] = "auto"
    """``auto``: callers' phones are sent on where they can be, else their calls and ours are
    joined here; ``bridge``: always the latter."""

    briefing: BriefingPolicy = BriefingPolicy()
    introduction: Texts = ()
    """Said to both where a conference begins."""

    returned: Annotated[Texts, Field(min_length=1)] = (
        "You are with me again. Is there anything else I can do for you?",
    )
    """Said to the caller when everybody else has left a conference."""

    follow: bool = False
    """Whether callers' phones may send us on (REFER), to places of the agent's own list."""


def transfer_problems(
    policy: TransferPolicy,
    targets: Mapping[str, TransferTarget],
    variables: set[str],
    language: str,
) -> list[tuple[str, str]]:
    """What doesn't fit together: (dotted key, message) pairs."""
    key, known = "transferring", {*variables, "place"}
    briefing = policy.briefing
    problems = spoken_problems(f"{key}.failed", policy.failed, known)
    problems += spoken_problems(f"{key}.introduction", policy.introduction, known)
    problems += spoken_problems(f"{key}.returned", policy.returned, known)
    problems += spoken_problems(f"{key}.briefing.ask", briefing.ask, {*known, "briefing"})
    for name in ("accepted", "declined", "unclear"):
        texts: Texts = getattr(briefing, name)
        problems += spoken_problems(f"{key}.briefing.{name}", texts, known)
    problems += unmarked_problems(f"{key}.briefing.yes", briefing.yes)
    problems += unmarked_problems(f"{key}.briefing.no", briefing.no)
    for name, target in targets.items():
        problems += spoken_problems(f"transfers.{name}.title", (target.title,), None)
    if language.partition("-")[0] == LANGUAGE:
        return problems
    ways = {target.how for target in targets.values()}
    needed: list[str] = []
    if ways - {"blind"}:
        names = ("ask", "accepted", "declined", "unclear", "yes", "no")
        given = briefing.model_fields_set
        needed += [f"briefing.{name}" for name in names if name not in given]
    if "conference" in ways and "returned" not in policy.model_fields_set:
        needed.append("returned")
    problems += [
        (f"{key}.{name}", f"must be given for language {language!r}; built in: en")
        for name in needed
    ]
    return problems
