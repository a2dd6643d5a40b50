"""What an agent's file says of turn-taking, as a call takes it."""

from __future__ import annotations

from ringtrue.config.agent_schema import Agent
from ringtrue.config.agent_turns import turn_words
from ringtrue.streaming.llm.factory import filled
from ringtrue.streaming.turns.idle import IdlePolicy
from ringtrue.streaming.turns.overlap import Backchannels


def backchannels_of(agent: Agent) -> Backchannels:
    """What listeners say in ``agent``'s language."""
    words = turn_words(agent.language)
    return Backchannels(words.backchannels, words.answers)


def idle_of(agent: Agent) -> IdlePolicy | None:
    """What ``agent`` says to callers who say nothing; None where it waits for them."""
    idle, words = agent.idle, turn_words(agent.language)
    if not idle.enabled:
        return None

    def texts(own: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(filled(text, agent.variables) for text in own or others)

    return IdlePolicy(
        seconds=idle.seconds,
        still_there=texts(idle.still_there, words.still_there),
        can_you_hear=texts(idle.can_you_hear, words.can_you_hear),
        goodbye=texts(idle.goodbye, (words.goodbye,)),
    )
