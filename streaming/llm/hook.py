"""What every LLM of a call has in common, whatever it is: it greets, it says what it is, and it
can be stopped.

:class:`LlmHook` is mixed into Pipecat LLM services. A context without any turn of the
conversation means that the call has just been answered; the agent's greeting is then spoken
without asking the model. A caller who asks whether a person speaks is answered without asking it,
too: question and answer are in its context from then on, like everything that was said.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pipecat.frames.frames import (
    EagerEndOfTurnCancelFrame,
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    SystemFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext, LLMSpecificMessage
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import LLMService
from pipecat.turns.speculation_gate import GatedFrame, SpeculationGate, SpeculationState

from ringtrue.streaming.llm.disclosure import Asked, Disclosure
from ringtrue.streaming.turns.expect import Expect, expectation


def word_tokens(text: str) -> Iterator[str]:
    """``text`` as a stream of tokens, one word each with the space before it."""
    for match in re.finditer(r"\s*\S+", text):
        yield match.group()


def turns(context: LLMContext) -> list[tuple[str, str]]:
    """(role, text) of the conversation's messages; system messages are left out."""
    found = []
    for message in context.get_messages():
        if isinstance(message, LLMSpecificMessage):
            continue
        role = str(message.get("role", ""))
        if role != "system":
            found.append((role, _text(message.get("content"))))
    return found


def unanswered(context: LLMContext) -> list[str]:
    """What the caller said since the agent last spoke; nothing where the agent spoke last."""
    said: list[str] = []
    for role, text in reversed(turns(context)):
        if role != "user":
            break
        said.insert(0, text)
    return said


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return " ".join(part for part in parts if isinstance(part, str))
    return ""


class WatchedGate(SpeculationGate):
    """Pipecat's gate, which shows what it holds."""

    on_held: Callable[[Frame], None] | None = None
    """Told of each frame of an answer as it begins to wait."""

    def process(self, frame: Frame, direction: FrameDirection) -> list[GatedFrame]:
        """As in the base class."""
        emitted = super().process(frame, direction)
        if (
            self.on_held is not None
            and self.state is SpeculationState.HOLDING
            and direction is FrameDirection.DOWNSTREAM
            and not isinstance(frame, SystemFrame)
        ):
            self.on_held(frame)
        return emitted


class LlmHook(LLMService[Any]):
    """Mixed in before a Pipecat LLM service."""

    greeting: str = ""
    """Spoken when the conversation is empty; none: the model is asked to begin."""

    disclosure: Disclosure | None = None
    """What the caller is told of the agent; None: nothing."""

    masks = False
    """Whether a model asked that the call's recording leave the caller out for now."""

    language = "en"
    """ISO 639-1, perhaps with a region: what the agent speaks."""

    expected: Expect | None = None
    """What the caller's next answer will be, from whoever knows better than :meth:`expects`."""

    confidence: float | None = None
    """How sure the recognizer is of the words of the caller's last turn, 0 to 1; None: unknown."""

    settled = False
    """Whether the context that came last was answered without the model."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what the service takes."""
        super().__init__(*args, **kwargs)
        self._stopping = asyncio.Lock()
        self._speculation_gate = self.gate = WatchedGate(name=f"{self}::gate")

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Greet in place of the model's first response, and answer whether a person speaks."""
        if isinstance(frame, LLMContextFrame):
            text = self._settles(frame.context)
            self.settled = bool(text)
            if text:
                self._speculation_gate.begin_speculation(frame.speculation)
                await self.speak(text)
                return
        elif isinstance(frame, EagerEndOfTurnCancelFrame) and self.disclosure is not None:
            self.disclosure.withdrawn()
        await super().process_frame(frame, direction)

    def _settles(self, context: LLMContext) -> str:
        """What is said without asking the model, or ""."""
        if not turns(context):
            if self.disclosure is not None:
                self.disclosure.greets()
            return self.greeting
        said = unanswered(context)
        if self.disclosure is None or not said:
            return ""
        asked = self.disclosure.asked(said)
        if asked is Asked.ALONE:
            return self.disclosure.answer()
        if asked is Asked.WITH_MORE:
            self.disclosure.owe_answer()
        return ""

    async def speak(self, text: str) -> None:
        """Push ``text`` as a response of its own, token by token."""
        await self.push_frame(LLMFullResponseStartFrame())
        for token in word_tokens(text):
            await self._push_llm_text(token)
        await self.push_frame(LLMFullResponseEndFrame())

    def completes(self, text: str) -> bool:
        """Whether ``text`` is surely all that the caller has to say; a model can't tell."""
        return False

    def expects(self, context: LLMContext) -> Expect:
        """What the agent's last words in ``context`` ask for, as far as they show it."""
        if self.expected is not None:
            return self.expected
        said = turns(context)
        if not said or said[-1][0] != "assistant":
            return Expect.OPEN
        return expectation(said[-1][1], self.language)

    def believe(self, confidence: float | None) -> None:
        """Take note of how sure the words of the turn are that has just ended."""
        self.confidence = confidence

    def suffices(self, text: str) -> bool | None:
        """Whether ``text`` is all that was asked for; None: a model can't tell."""
        return None

    def sensitive(self) -> bool:
        """Whether something is being asked that no recording may keep."""
        return self.masks

    async def cancel_generation(self) -> None:
        """Stop the response being generated, and forget contexts waiting behind it.

        Unlike an interruption it stays between this service and whoever asked.
        """
        await self._start_interruption()
        await self.stop_all_metrics()  # type: ignore[no-untyped-call]

    async def _start_interruption(self) -> None:
        # Two at once (a watchdog's and a caller's) would each start a new process task.
        async with self._stopping:
            await super()._start_interruption()  # type: ignore[no-untyped-call]


def hooked(service: type[LLMService[Any]]) -> type[LlmHook]:
    """``service`` with :class:`LlmHook` mixed in."""
    if issubclass(service, LlmHook):
        return service
    made = type(service.__name__, (LlmHook, service), {"__module__": service.__module__})
    assert issubclass(made, LlmHook)
    return made
