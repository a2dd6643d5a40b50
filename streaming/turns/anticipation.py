"""Answers begun before the caller's turn has certainly ended.

The language model's text waits behind Pipecat's speculation gate, in its service; what comes of
it further down is nothing but its first phrase, which the synthesizer makes ahead of time and
keeps to itself. So an answer that is dropped has touched neither context, disclosure, tools,
actions, playout nor audit log, and there is nothing to undo. One that is confirmed takes the same
way as any other, with its first audio waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

from pipecat.frames.frames import Frame, LLMFullResponseEndFrame, LLMTextFrame
from pipecat.processors.frame_processor import FrameProcessor

from ringtrue.streaming.ahead import AheadStream
from ringtrue.streaming.llm.hook import LlmHook
from ringtrue.streaming.markers import Markers, unmarked
from ringtrue.streaming.phrases import (
    PhraseChunker,
    PhrasePolicy,
    PhraseSplitter,
    speakable_text,
    spoken_text,
)
from ringtrue.streaming.turn_taking import TurnTaking


@runtime_checkable
class Prepares(Protocol):
    """A synthesizer that can make a first phrase ahead of time."""

    def prepare(self, markup: str, on_wasted: Callable[[float], None]) -> AheadStream | None:
        """Begin with ``markup``; ``on_wasted`` is told of the seconds made for nothing."""
        ...

    def discard(self) -> None:
        """It will not be said."""
        ...


class Anticipation:
    """One call's answers ahead of their turns, one at a time."""

    def __init__(
        self,
        record: TurnTaking,
        synthesizer: Prepares | None,
        policy: Callable[[], PhrasePolicy],
    ) -> None:
        """Count into ``record``.

        ``synthesizer`` is None where it can't work ahead; ``policy`` gives how the answer will be
        cut into phrases.
        """
        self._record = record
        self._synthesizer = synthesizer
        self._policy = policy
        self._began_at: float | None = None
        self._tokens = 0
        self._splitter = PhraseSplitter(policy())
        self._markers = Markers()
        self._found = False
        self._ahead: AheadStream | None = None

    @property
    def open(self) -> bool:
        """Whether an answer waits for its turn's end."""
        return self._began_at is not None

    def began(self) -> None:
        """An answer was asked for."""
        self._record.speculations += 1
        self._began_at = self._now()
        self._tokens = 0
        self._splitter, self._markers = PhraseSplitter(self._policy()), Markers()
        self._found, self._ahead = False, None

    def confirmed(self) -> None:
        """Its turn has ended: what was prepared is used."""
        if self._began_at is None:
            return
        now, ready = self._now(), self._ahead.ready_at if self._ahead is not None else None
        self._record.confirmed += 1
        self._record.saved_ms += 1000 * ((now if ready is None else ready) - self._began_at)
        self._began_at = None

    def dropped(self, reason: str) -> None:
        """It will not be said."""
        if self._began_at is None:
            return
        self._record.dropped[reason] += 1
        self._record.wasted_tokens += self._tokens
        self._began_at = None
        if self._synthesizer is not None:
            self._synthesizer.discard()

    def held(self, frame: Frame) -> None:
        """A frame of the answer waits at the gate."""
        if self._began_at is None:
            return
        if isinstance(frame, LLMTextFrame):
            self._tokens += 1
            if not self._found and not frame.skip_tts:
                self._look(self._splitter.feed(self._markers.encode(frame.text)))
        elif isinstance(frame, LLMFullResponseEndFrame) and not self._found:
            rest = self._markers.finish()
            self._look([*self._splitter.feed(rest), *self._splitter.flush()])

    def _look(self, phrases: list[str]) -> None:
        """Have the answer's first phrase synthesized, if it is among ``phrases``."""
        for phrase in phrases:
            text = spoken_text(phrase)
            speakable = speakable_text(unmarked(text))
            markup = self._markers.decode(text, speakable=speakable)
            if speakable:
                self._found = True
                if self._synthesizer is not None:
                    self._ahead = self._synthesizer.prepare(markup, self._wasted)
                return

    def _wasted(self, seconds: float) -> None:
        self._record.wasted_ms += 1000 * seconds

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def anticipation(
    record: TurnTaking,
    llm: FrameProcessor,
    tts: FrameProcessor,
    between: Iterable[FrameProcessor],
) -> Anticipation | None:
    """One call's, told by ``llm`` what it holds; ``between`` are the processors up to ``tts``.

    None where nothing holds what ``llm`` answers too early. A synthesizer that can't work ahead
    begins when the answer is confirmed.
    """
    if not isinstance(llm, LlmHook):
        return None
    chunkers = [each for each in between if isinstance(each, PhraseChunker)]
    made = Anticipation(
        record,
        tts if isinstance(tts, Prepares) and chunkers else None,
        lambda: chunkers[0].policy if chunkers else PhrasePolicy(),
    )
    llm.gate.on_held = made.held
    return made
