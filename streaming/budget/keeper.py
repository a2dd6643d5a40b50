"""The ladder, enacted in the graph of one call; stands right before the synthesizer.

It knows when an answer is owed from the frames that pass and the moments the call reports, and
says or does what :class:`~ringtrue.streaming.budget.ladder.Ladder` decides. What it says to fill
the time is never the same twice in a row, and is part of the conversation: the LLM's context has
it as it was heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import structlog
from pipecat.frames.frames import (
    AggregatedTextFrame,
    CancelFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    FunctionCallsStartedFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    StartFrame,
    TTSSpeakFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from ringtrue.streaming.budget.deadline import BudgetPolicy, BudgetStage, Deadline
from ringtrue.streaming.budget.filler import AnswerJoinedFrame, FillerFrame
from ringtrue.streaming.budget.ladder import Ladder, LadderPolicy, LadderStep, Rung
from ringtrue.streaming.budget.silence import SilenceMeter
from ringtrue.streaming.llm.actions import CallAction, CallActionFrame, Hangup, Transfer
from ringtrue.streaming.recognizers.service import NothingRecognizedFrame
from ringtrue.streaming.record import Stage, TurnLog
from ringtrue.streaming.ssml import parse, set_markup

log = structlog.get_logger(__name__)

LEARN_AFTER: Final = 1.0
"""Seconds into a call after which lines are made beforehand: its first words come first."""

MAX_UNRECOGNIZED: Final = 3
"""Turns in a row that a recognizer may fail in, before the agent gives up."""

GRACE: Final = 0.3
"""Seconds that an answer is given at least, however late the caller's turn was found to be over."""

RECOGNIZER: Final = "recognizer"
LLM: Final = "llm"
TTS: Final = "tts"
GATE: Final = "gate"


@dataclass(frozen=True, slots=True)
class KeeperTexts:
    """What an agent says when a turn runs late; any may be empty, and may hold speech markup."""

    openers: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    give_up_say: tuple[str, ...] = ()
    give_up_action: CallAction = Hangup()
    others: tuple[str, ...] = ()
    """Further lines that are worth making beforehand, whoever says them."""

    @property
    def all(self) -> tuple[str, ...]:
        """Every text, what is needed first before the rest."""
        return (*self.openers, *self.waiting, *self.give_up_say, *self.others)


@dataclass(frozen=True, slots=True)
class KeeperPolicy:
    """What the keeper keeps to."""

    budget: BudgetPolicy = field(default_factory=BudgetPolicy)
    openers: bool = True
    apology: float = 1.0
    """Seconds of silence, while an answer is owed, after which something is said. The caller
    hears up to 0.45 s more: both ways of the line, and how softly speech begins."""

    apologies: int = 2
    faster_after: float = 1.0
    """Seconds in which a synthesizer may make nothing, where there is a second one."""


class Voice(Protocol):
    """A synthesizer that may know lines beforehand."""

    def knows(self, text: str) -> bool:
        """Whether ``text`` can be said at once, even while the engine makes nothing."""
        ...


class BudgetKeeper(FrameProcessor):
    """Watches the agent's side of each turn, and climbs the ladder."""

    def __init__(
        self,
        texts: KeeperTexts,
        policy: KeeperPolicy | None = None,
        *,
        hurry: Callable[[], Awaitable[None]] | None = None,
        faster: Callable[[], Awaitable[bool]] | None = None,
        disclosed: Callable[[], bool] | None = None,
        disclose: Callable[[], str] | None = None,
    ) -> None:
        """``hurry`` hands the first phrase over as it is, ``faster`` lets the second synthesizer
        say it (False: it can't).

        ``disclosed`` says whether the caller knows by now that an AI speaks; where not, there are
        no openers, and what ``disclose`` gives is said before anything else.
        """
        super().__init__(name="budget", enable_direct_mode=True)
        policy = policy or KeeperPolicy()
        self.policy = policy
        self._texts = texts
        self.voice: Voice | None = None
        """Who knows lines beforehand; None: they are spoken as they are needed."""

        self.learn: Callable[[Sequence[str], int], Awaitable[None]] | None = None
        """Lets the voice make lines beforehand, at a rate in Hz."""

        self._hurry = hurry
        self._faster = faster
        self._disclosed = disclosed
        self._disclose = disclose
        last = Rung.TRANSFER if isinstance(texts.give_up_action, Transfer) else Rung.HANGUP
        self._ladder = Ladder(
            LadderPolicy(
                opener=policy.openers and bool(texts.openers),
                faster_voice=None if faster is None else policy.faster_after,
                apology=policy.apology,
                apologies=policy.apologies,
                last=last,
            )
        )
        self._turns: TurnLog | None = None
        self._meter: SilenceMeter | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._enacting: asyncio.Task[None] | None = None
        self._learning: asyncio.Task[None] | None = None
        self._said: dict[tuple[str, ...], int] = {}
        self._last_said = ""
        self._fillers = 0
        """Handed over since an answer was owed."""

        self._handed = False
        """So was text of the answer."""

        self._answered = False
        """The agent was audible with the answer since text of it was handed over last."""

        self._responding = self._calling = False
        self._unrecognized = False
        self._awaiting = False
        """What is owed is an answer to words that aren't known yet."""

        self._unheard = 0
        """Fillers that were handed over for those, and had not begun to sound when they came."""

        self._failures = 0
        """Turns in a row that the recognizer failed in."""

        self._gave_up = False
        """What the model says to the turn that was given up is not said behind the last words."""

    def attach(self, turns: TurnLog, meter: SilenceMeter) -> None:
        """Write to a call's record, and follow its moments."""
        self._turns, self._meter = turns, meter
        turns.on_moment = self._moment
        meter.on_speech = self._speech

    def asked(self) -> None:
        """The caller's words went to the model, which has not necessarily begun to respond."""
        turn = None if self._turns is None else self._turns.current
        if turn is not None and not self._owed and Stage.FIRST_PHRASE not in turn.stages:
            self._responding = False
            self._owe(self._now())
            self._arm()

    def awaiting(self, since: float | None) -> None:
        """The caller is silent since loop time ``since``, but the words are not known yet.

        None: the caller speaks again, and what was said to fill the time stops.
        """
        if since is None:
            if self._awaiting:
                said = self._fillers
                self._settle()
                if said:
                    stop = self.broadcast_interruption()  # type: ignore[no-untyped-call]
                    self._enacting = self.create_task(stop, "budget::yield")
        elif not self._owed and not self._gave_up:
            self._awaiting = True
            self._fillers, self._handed, self._answered = 0, False, False
            self._ladder.owe(since, None)
            if self._meter is not None:
                self._meter.owe(since, self._cause)
            self._arm()

    def took(self, rung: Rung, reason: str) -> None:
        """Somebody else took a step: it is written to the record."""
        if self._turns is not None:
            self._turns.stepped(rung, reason, self._now())

    def explain(self, stage: BudgetStage, reason: str) -> None:
        """Why ``stage`` of the turn in hand is late."""
        if self._turns is not None and self._turns.current is not None:
            self._turns.current.deadline.explain(stage, reason)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Watch what passes; pass everything."""
        await super().process_frame(frame, direction)
        if isinstance(frame, StartFrame):
            if self.learn is not None:
                self._learning = self.create_task(self._learn(), "budget::learn")
        elif direction is FrameDirection.UPSTREAM:
            if isinstance(frame, ErrorFrame) and self._owed and self._handed:
                self.explain(BudgetStage.FIRST_PCM, "engine_failed")
            elif isinstance(frame, AnswerJoinedFrame):
                self._fillers = max(0, self._fillers - frame.fillers)
        elif isinstance(frame, InterruptionFrame | CancelFrame | EndFrame):
            self._gave_up = False
            self._settle()
        elif self._gave_up and type(frame) is AggregatedTextFrame:
            return
        elif isinstance(frame, LLMFullResponseStartFrame):
            self._responding, self._calling = True, False
            if not self._owed and not self._gave_up:
                self._owe(self._now())
        elif isinstance(frame, LLMFullResponseEndFrame):
            self._responding = self._gave_up = False
            if self._answered:
                self._settle()
        elif isinstance(frame, FunctionCallsStartedFrame):
            self._calling = True
        elif isinstance(frame, CallActionFrame):
            self._settle()
        elif isinstance(frame, FillerFrame):
            self._filled()
        elif isinstance(frame, TTSSpeakFrame) or type(frame) is AggregatedTextFrame:
            self._handed, self._answered = True, False
        elif isinstance(frame, NothingRecognizedFrame) and frame.failed:
            await self._not_understood()
        self._arm()
        await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        """Do nothing more."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        self._settle()
        tasks = self._enacting, self._learning
        self._enacting = self._learning = None
        for task in tasks:
            if task is not None:
                await self.cancel_task(task)

    async def _learn(self) -> None:
        """Have the lines made that aren't known yet, once the greeting is under way."""
        assert self.learn is not None
        await asyncio.sleep(LEARN_AFTER)
        await self.learn(self._texts.all, self.processor_setup.audio_out_sample_rate)

    @property
    def filling(self) -> bool:
        """Whether something was said to fill the time since an answer was owed."""
        return self._owed and self._fillers > 0

    @property
    def _owed(self) -> bool:
        return self._ladder.owed

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _moment(self, stage: Stage, at: float) -> None:
        if stage is Stage.VAD_STOPPED:
            self._unrecognized = False
        elif stage is Stage.TURN_ENDED:
            begun = 0 if self._meter is None else self._meter.utterances
            self._unheard = max(0, self._fillers - begun) if self._awaiting else 0
            self._settle()
        self._arm()

    def _owe(self, now: float) -> None:
        """An answer is owed: to the turn that ended just now, or without one."""
        turn = None if self._turns is None else self._turns.current
        deadline = None
        since = now
        if turn is not None and Stage.FIRST_PACKET not in turn.stages:
            deadline = turn.deadline
            ended = deadline.at(Stage.TURN_ENDED)
            if ended is not None:
                since = ended
            if ended is not None and self._unrecognized:
                since = deadline.at(Stage.VAD_STOPPED) or ended
                deadline.explain(BudgetStage.RECOGNIZER, "recognizer_failed")
        self._fillers, self._unheard = self._unheard, 0
        self._handed = self._answered = False
        if not self._unrecognized:
            self._failures = 0
        self._ladder.owe(self._silent_since(deadline, since), deadline)
        if self._meter is not None:
            self._meter.owe(since, self._cause, None if turn is None else turn.index)

    def _silent_since(self, deadline: Deadline | None, since: float) -> float:
        """From when on the ladder counts silence: as the caller does, from their last word on."""
        spoken = None if deadline is None else deadline.at(Stage.SPEECH_ENDED)
        ended = None if deadline is None else deadline.at(Stage.TURN_ENDED)
        if spoken is None or ended is None:
            return since
        return max(spoken, ended + GRACE - self.policy.apology)

    async def _not_understood(self) -> None:
        """The recognizer failed to say what the caller said: again and again is too often."""
        self._unrecognized = True
        self._failures += 1
        if self._failures >= MAX_UNRECOGNIZED:
            self._failures = 0
            await self._give_up()
            self._gave_up = True
            self.took(self._ladder.policy.last, "recognizer_failed")

    def _settle(self) -> None:
        self._awaiting = False
        self._ladder.settle()
        if self._meter is not None:
            self._meter.settle()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _speech(self, now: float, utterances: int) -> None:
        """The agent is audible, in the so-many-th utterance since an answer was owed."""
        self._ladder.heard(now)
        if utterances > self._fillers and self._handed:
            self._answered = True
            if not self._responding:
                self._settle()

    def _cause(self) -> str:
        if self._unrecognized or self._awaiting:
            return RECOGNIZER
        if not self._handed:
            return LLM
        turn = None if self._turns is None else self._turns.current
        if turn is not None and Stage.FIRST_AUDIO in turn.stages and not self._responding:
            return GATE if Stage.FIRST_PACKET not in turn.stages else TTS
        return LLM if self._responding or self._calling else TTS

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._ladder.due(self._now())
        if due is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        steps = self._ladder.advance(self._now(), self._cause())
        if steps:
            self._enacting = self.create_task(self._enact(steps), "budget::enact")
        else:
            self._arm()

    async def _enact(self, steps: list[LadderStep]) -> None:
        for step in steps:
            if step.rung is Rung.SHORTER_CLAUSE:
                done = self._hurry is not None
                if self._hurry is not None:
                    await self._hurry()
            elif step.rung is Rung.FASTER_VOICE:
                done = self._faster is not None and await self._faster()
            elif step.rung is Rung.OPENER:
                done = await self._open()
            elif step.rung is Rung.APOLOGY and self._awaiting and not self._fillers:
                # A turn's first: nothing that is worth an apology has happened yet.
                openers = self._texts.openers if self.policy.openers else ()
                done = await self._fill(openers or self._texts.waiting)
                step = replace(step, rung=Rung.OPENER)
            elif step.rung is Rung.APOLOGY:
                done = await self._fill(self._texts.waiting or self._texts.openers)
            else:
                done = True
                await self._give_up()
            if done and self._turns is not None:
                self._turns.stepped(step.rung, step.reason, step.at)
        self._arm()

    async def _open(self) -> bool:
        if self._disclosed is not None and not self._disclosed():
            return False
        if not self._handed:
            return await self._fill(self._texts.openers)
        # The answer was handed over and isn't heard: only what is known can come before it.
        known = tuple(text for text in self._texts.openers if self._knows(text))
        return await self._fill(known)

    def _knows(self, text: str) -> bool:
        return self.voice is not None and self.voice.knows(text)

    async def _fill(self, texts: tuple[str, ...]) -> bool:
        known = tuple(text for text in texts if self._knows(text))
        text = self._choose(known or texts) if self._owed else ""
        if not text:
            return False
        before = "" if self._disclose is None else self._disclose()
        if not before and self._disclosed is not None and not self._disclosed():
            return False  # it is about to be said, and comes first
        if before:
            self._filled()
            await self.push_frame(FillerFrame(before, append_to_context=True))
        self._filled()
        frame = FillerFrame(parse(text).text, append_to_context=True)
        set_markup(frame, text)
        await self.push_frame(frame)
        return True

    def _filled(self) -> None:
        """Something was handed over that is not the answer."""
        if self._owed:
            self._fillers += 1
            if self._turns is not None:
                self._turns.filled(self._now(), ahead=self._awaiting)

    async def _give_up(self) -> None:
        if text := self._choose(self._texts.give_up_say):
            frame = TTSSpeakFrame(parse(text).text, append_to_context=True)
            set_markup(frame, text)
            await self.push_frame(frame)
        await self.push_frame(CallActionFrame(self._texts.give_up_action, reason="budget"))
        self._settle()

    def _choose(self, texts: tuple[str, ...]) -> str:
        """The next of ``texts``, and not what was said last."""
        if not texts:
            return ""
        at = self._said.get(texts, -1) + 1
        if texts[at % len(texts)] == self._last_said and len(texts) > 1:
            at += 1
        self._said[texts] = at
        self._last_said = texts[at % len(texts)]
        return self._last_said
