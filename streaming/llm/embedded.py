"""The embedded dialogue behind the same hook as a language model.

It takes ``LLMContextFrame`` and streams ``LLMTextFrame`` tokens; what follows in the graph can't
tell it from a model that answers at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import structlog
from pipecat.frames.frames import (
    EagerEndOfTurnCancelFrame,
    Frame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import LLMSettings

from ringtrue.streaming.llm.actions import CallActionFrame, Hangup
from ringtrue.streaming.llm.dialogue import Dialogue
from ringtrue.streaming.llm.dialogue_state import DialogueState, Event, Input, Keyed, Spoken
from ringtrue.streaming.llm.hook import LlmHook, turns, word_tokens
from ringtrue.streaming.turns.expect import Expect

log = structlog.get_logger(__name__)

_KEYED: Final = re.compile(r"DTMF: ([0-9*#]+)")
"""How Pipecat's DTMF aggregator writes keys into the context."""


def local_now() -> datetime:
    """The server's wall-clock time, for dates and times that are spoken."""
    return datetime.now().astimezone()


def last_input(context: LLMContext, confidence: float | None = None) -> Input | None:
    """What the context's last message means to the dialogue; None where the agent spoke last.

    ``confidence`` is the recognizer's in the caller's words.
    """
    said = turns(context)
    if not said:
        return Event.START
    role, text = said[-1]
    if role == "developer":
        return Event.UNHEARD
    if role != "user":
        return None
    keys = _KEYED.findall(text)
    if keys:
        return Keyed(str(keys[-1]))
    return Spoken(text, confidence) if text.strip() else Event.UNHEARD


class DialogueLLMService(LlmHook):
    """Runs a :class:`~ringtrue.streaming.llm.dialogue.Dialogue` for one call."""

    def __init__(
        self,
        dialogue: Dialogue,
        *,
        variables: Mapping[str, str] | None = None,
        seed: int = 0,
        now: Callable[[], datetime] = local_now,
    ) -> None:
        """Begin a call; ``variables`` and ``seed`` as in :meth:`Dialogue.start`.

        Raises :class:`~ringtrue.streaming.errors.LanguageError` for an unknown variable.
        """
        super().__init__(
            name="dialogue",
            settings=LLMSettings(
                model="dialogue",
                system_instruction=None,
                temperature=None,
                max_tokens=None,
                top_p=None,
                top_k=None,
                frequency_penalty=None,
                presence_penalty=None,
                seed=None,
                filter_incomplete_user_turns=False,
                user_turn_completion_config=None,
            ),
        )
        self._dialogue = dialogue
        self._now = now
        self._state = dialogue.start(variables=variables, seed=seed)
        self._provisional: DialogueState | None = None

    @property
    def state(self) -> DialogueState:
        """Where the call stands."""
        return self._state

    def completes(self, text: str) -> bool:
        """As :meth:`Dialogue.completes` at this point of the call."""
        return self._dialogue.completes(text, self._state)

    def expects(self, context: LLMContext) -> Expect:
        """What the dialogue waits for."""
        return self._dialogue.expects(self._state)

    def suffices(self, text: str) -> bool | None:
        """Whether ``text`` gives the value that the dialogue waits for."""
        return self._dialogue.suffices(text, self._state, self._now())

    def sensitive(self) -> bool:
        """Whether the dialogue waits for a slot that is sensitive, or may be about to."""
        return self._dialogue.sensitive(self._state) or (
            self._provisional is not None and self._dialogue.sensitive(self._provisional)
        )

    def can_generate_metrics(self) -> bool:
        """It measures its time to the first token like any other LLM service."""
        return True

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Answer a context; pass everything else."""
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMContextFrame):
            if not self.settled:
                await self._answer(frame)
            return
        if isinstance(frame, UserStoppedSpeakingFrame) and self._provisional is not None:
            self._state, self._provisional = self._provisional, None
        elif isinstance(frame, EagerEndOfTurnCancelFrame | InterruptionFrame):
            self._provisional = None
        await self.push_frame(frame, direction)

    async def _answer(self, frame: LLMContextFrame) -> None:
        speculating = self._speculation_gate.is_speculating
        heard = last_input(frame.context, None if speculating else self.confidence)
        if heard is None:
            return
        reply = self._dialogue.reply(heard, self._state, self._now())
        if speculating and any(isinstance(action, Hangup) for action in reply.actions):
            # How sure the words are is known at the turn's end, and no call ends on less.
            await self.broadcast_frame(EagerEndOfTurnCancelFrame)
            return
        await self.push_frame(LLMFullResponseStartFrame())
        await self.start_ttfb_metrics()
        await self.stop_ttfb_metrics()
        # An answer to a turn that may go on must leave no trace if it is withdrawn.
        if speculating:
            self._provisional = reply.state
        else:
            self._state = reply.state
        log.info("dialogue.reply", intent=reply.intent, state=reply.state.name)
        for token in word_tokens(reply.text):
            await self._push_llm_text(token)
        await self.push_frame(LLMFullResponseEndFrame())
        for action in reply.actions:
            await self.push_frame(CallActionFrame(action, reason=reply.intent or "gave_up"))
