"""What is said to who is called before a caller is put through, as an agent of its own.

It speaks in the calling agent's voice and under its disclosure, by a scripted dialogue whatever
the language model: it asks, and takes yes or no by word or key.
"""

from __future__ import annotations

import re
from typing import Final

from ringtrue.config.agent_schema import Agent, StallPolicy
from ringtrue.config.agent_transfers import ACCEPT, TransferTarget
from ringtrue.config.agent_voicemail import VoicemailFile
from ringtrue.config.recording_settings import RecordingFile

MAX_BRIEFING: Final = 400
"""Characters of a briefing that are spoken."""

_UNSPOKEN: Final = re.compile(r"[<>{}&\x00-\x1f\x7f]+")


def briefing_agent(agent: Agent, target: TransferTarget, briefing: str) -> Agent:
    """Who talks to whoever is called for ``target``; ``briefing`` is what they are told.

    A machine is hung up on, where ``agent`` judges at all who answers.
    """
    policy, judges = agent.transferring.briefing, agent.voicemail.detect
    disclosure = agent.disclosure.model_copy(
        update={
            "in_greeting": False,  # the agent's greetings are not said here
            "recorded": agent.disclosure.recorded or agent.recording.enabled,
        }
    )
    return unrecorded(agent).model_copy(
        update={
            "greeting": policy.ask,
            "dialogue": policy.dialogue(),
            "variables": agent.variables
            | {"place": target.title, "briefing": plain_sentence(briefing)},
            "disclosure": disclosure,
            "transfers": {ACCEPT: target},
            "stalls": StallPolicy(),
            "voicemail": VoicemailFile(detect=judges, action="hang_up" if judges else "talk"),
        }
    )


def unrecorded(agent: Agent) -> Agent:
    """``agent`` in the call to a colleague, who is in the recording of the caller's.

    Whoever answers is talked to by the caller: nobody is judged, and no message left.
    """
    return agent.model_copy(
        update={"recording": RecordingFile(), "voicemail": VoicemailFile(detect=False)}
    )


def plain_sentence(text: str) -> str:
    """``text`` as one sentence without markup or placeholders; what is too long is cut."""
    plain = " ".join(_UNSPOKEN.sub(" ", text)[:MAX_BRIEFING].split())
    return plain if not plain or plain[-1] in ".!?" else f"{plain}."
