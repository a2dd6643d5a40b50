"""The end of the caller's turn: joins what smart-turn hears with the words and what was asked.

Where the turn is probably over but not certainly, the answer is begun ahead of its end
(:class:`~pipecat.turns.types.UserTurnSpeculation`): after a short pause that sounds complete, on
the words recognized so far, and while a turn that has all its words waits for silence. Nothing of
it is said before the turn has ended with the same words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

import structlog
from pipecat.frames.frames import (
    EagerEndOfTurnCancelFrame,
    Frame,
    InterimTranscriptionFrame,
    LLMRunFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.turns.types import ProcessFrameResult, UserTurnSpeculation
from pipecat.turns.user_stop import BaseUserTurnStopStrategy, NormalizedMatch

from ringtrue.streaming.recognizers.port import Transcript
from ringtrue.streaming.recognizers.service import (
    EarlierTranscriptionFrame,
    NothingRecognizedFrame,
)
from ringtrue.streaming.stages import Stage
from ringtrue.streaming.turns.expect import Expect
from ringtrue.streaming.turns.frames import SpeechPausedFrame, SpeechResumedFrame
from ringtrue.streaming.turns.policy import Pauses, TurnPolicy

log = structlog.get_logger(__name__)
T = TypeVar("T")

PREMATURE_SECONDS: Final = 0.4
"""A caller who speaks again so soon after the turn was ended had only paused."""


class Answering(Protocol):
    """What is told of answers begun ahead of the turn's end."""

    def began(self) -> None:
        """One was asked for."""
        ...

    def confirmed(self) -> None:
        """The turn ended with the words it answers."""
        ...

    def dropped(self, reason: str) -> None:
        """It will not be said."""
        ...


class SpokenTurnStop(BaseUserTurnStopStrategy):  # type: ignore[no-untyped-call]
    """Ends the user's turn when the audio says so and the words have arrived.

    The model is asked in each pause as soon as it is one; by the VAD's stop it has mostly answered.
    If it holds the turn for complete, the recognizer's final word ends it (a text, or that there
    is none), or :attr:`TurnPolicy.transcript_seconds` of waiting; where the words so far are a
    whole answer, too, the VAD is told not to wait for all its silence. If not, a silence whose
    length depends on the model's probability and on what was asked ends it, or the model itself,
    asked once more where it was in doubt; so it does, at its longest, where the model fails.
    Speech starts everything over, and words that come while the caller speaks decide nothing.
    """

    def __init__(
        self,
        judge: Callable[[], Coroutine[Any, Any, float]] | None,
        policy: TurnPolicy,
        probe: Callable[[Stage], None],
        completes: Callable[[str], bool] | None = None,
        *,
        expects: Callable[[], Expect] | None = None,
        suffices: Callable[[str], bool | None] | None = None,
        answering: Answering | None = None,
        busy: Callable[[], bool] | None = None,
        hasten: Callable[[], None] | None = None,
        on_cut_short: Callable[[], None] | None = None,
        believe: Callable[[float | None], None] | None = None,
        awaiting: Callable[[float | None], None] | None = None,
    ) -> None:
        """``judge`` starts a judgement of the audio so far; None counts every stop as complete.

        ``completes`` says whether words alone are surely a whole answer, ``expects`` what was
        asked for, ``suffices`` whether the words so far are that (None: unknown). ``answering``
        is told of answers begun ahead of the turn's end; None: there are none. While ``busy``, no
        judgement is asked for that another call's turn would have to wait for. ``awaiting`` is told
        when a turn that is over by its sound waits for its words, and since when (loop time) the
        caller has been silent; None: the caller speaks again. ``hasten`` asks the VAD for its
        stop, ``on_cut_short`` is told of turns that ended although the caller went on,
        ``believe`` of how sure the recognizer is of the words of the turn that ends, 0 to 1
        (None: it doesn't say).
        """
        super().__init__()
        self._judge = judge
        self._policy = policy
        self._probe = probe
        self._completes = completes
        self._expects = expects
        self._suffices = suffices
        self._answering = answering
        self._busy = busy
        self._hasten = hasten
        self._on_cut_short = on_cut_short
        self._believe = believe
        self._confidences: list[float] = []
        self._awaiting = awaiting
        self._matches = NormalizedMatch()
        self.pauses = Pauses()
        self._speculation: UserTurnSpeculation | None = None
        self._speculated = 0
        self._words: list[str] = []
        self._partial = ""
        self._eager: asyncio.Task[float] | None = None
        """The model's word on the short pause that the present silence began with."""

        self._probability: float | None = None
        self._judged_at = self._stopped_at = 0.0
        self._silent_since: float | None = None
        """When the caller's last speech ended, while the turn lasts or has just ended."""

        self._ended_at: float | None = None
        self._confirmed = False
        """The turn that ended last has the answer that was begun before; it may be refused yet."""

        self._ending = asyncio.Lock()
        self._speaking = False
        self._complete = False
        self._final = False
        self._judging = False
        self._timer: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._generation = 0

    async def handle_user_turn_started(self) -> None:
        """Arm for the turn now starting."""
        await self._withdraw("superseded")
        self._restart()
        self._speculated = 0
        self._confirmed = False

    async def handle_user_turn_stopped(self) -> None:
        """Forget the turn that ended."""
        await self._withdraw("unresolved")
        self._restart()
        self._words.clear()
        self._confidences.clear()
        self._partial = ""
        self._ended_at = self._now()

    async def cleanup(self) -> None:
        """Cancel what is pending."""
        self._restart()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await super().cleanup()  # type: ignore[no-untyped-call]

    async def process_frame(self, frame: Frame) -> ProcessFrameResult:
        """Follow VAD and transcripts."""
        if isinstance(frame, VADUserStartedSpeakingFrame):
            self._speaking = True
            self._went_on(frame.start_secs)
            self._restart()
            if self._awaiting is not None:
                self._awaiting(None)
            await self._withdraw("resumed")
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            self._speaking = self._final = False
            self._judging = True
            self._stopped_at = self._now()
            self._silent_since = self._stopped_at - frame.stop_secs
            self._spawn(self._stopped(self._generation))
        elif isinstance(frame, SpeechPausedFrame):
            self._drop_eager()
            if self._judge is not None and self._speaking and not self._model_is_busy:
                self._eager = self._spawn(self._judged())
                self._spawn(self._paused(self._eager))
        elif isinstance(frame, SpeechResumedFrame):
            self._drop_eager()
            await self._withdraw("resumed")
        elif isinstance(frame, InterimTranscriptionFrame):
            self._partial = frame.text.strip()
        elif isinstance(frame, EagerEndOfTurnCancelFrame):
            # Whoever pushed it has told everybody else.
            self._forget("refused")
            if self._confirmed:
                self._confirmed = False
                self._spawn(self._ask_again())
        elif isinstance(frame, TranscriptionFrame | NothingRecognizedFrame):
            await self._heard(frame)
        return ProcessFrameResult.CONTINUE

    async def _heard(self, frame: Frame) -> None:
        """The recognizer's last word on a stretch of speech."""
        self._probe(Stage.TRANSCRIPT)
        self._partial = ""
        if isinstance(frame, TranscriptionFrame) and frame.text.strip():
            self._words.append(frame.text.strip())
            if isinstance(frame.result, Transcript):
                self._confidences.append(frame.result.confidence)
        if self._speaking or isinstance(frame, EarlierTranscriptionFrame):
            return  # the words that matter are yet to come
        self._final = True
        if not self._judging:  # words without speech: digits, or a late transcript
            self._complete = True
        elif self._probability is not None and not self._complete:
            self._complete = self._plan()
        await self._maybe_end()
        if not self._complete and self._probability is not None:
            await self._speculate(self._probability, self._policy.eager_text)

    @property
    def _anticipates(self) -> bool:
        return self._policy.anticipate and self._answering is not None

    @property
    def _model_is_busy(self) -> bool:
        return self._busy is not None and self._busy()

    @property
    def _said(self) -> str:
        """All words of the turn, those that may still change included."""
        return " ".join((*self._words, self._partial)).strip()

    def _restart(self) -> None:
        self._generation += 1
        self._complete = self._final = self._judging = False
        self._drop_eager()
        self._probability = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop_eager(self) -> None:
        if self._eager is not None:
            self._eager.cancel()
            self._eager = None

    def _went_on(self, start_seconds: float) -> None:
        """The caller speaks again: how long was the pause, if it was one inside a turn?"""
        now, ended = self._now(), self._ended_at
        inside = ended is None or now - start_seconds - ended < PREMATURE_SECONDS
        if self._silent_since is not None and inside:
            self.pauses.observe(now - start_seconds - self._silent_since)
            if ended is not None:
                self.pauses.cut_short += 1
                if self._on_cut_short is not None:
                    self._on_cut_short()
        self._silent_since = self._ended_at = None

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _judged(self) -> float:
        if self._judge is None:
            return 1.0
        try:
            return await self._judge()
        except Exception:  # the turn must end all the same
            log.exception("turns.judgement_failed")
            return 0.0

    async def _paused(self, eager: asyncio.Task[float]) -> None:
        """A short pause: answer what was said so far, if it sounds complete."""
        probability = await eager
        if self._eager is not eager:
            return
        if self._speaking and self._is_whole(probability) and self._hasten is not None:
            self._hasten()
        await self._speculate(probability, self._policy.eager)

    def _is_whole(self, probability: float) -> bool:
        """Whether sound, words and caller all say that nothing more will come."""
        return (
            probability >= self._policy.complete
            and self._completes is not None
            and self._completes(self._said)
            and not self.pauses.cut_short
        )

    async def _stopped(self, generation: int) -> None:
        eager = self._eager
        probability = await (self._judged() if eager is None else eager)
        if generation != self._generation or self._speaking:
            return
        self._probability, self._judged_at = probability, self._now()
        if self._plan():
            await self._silence_ended()
            return
        if self._final:
            await self._speculate(probability, self._policy.eager_text)
        doubtful = self._policy.doubtful <= probability < self._policy.complete
        if eager is not None and doubtful and not self._model_is_busy:
            await self._judge_again(generation)

    async def _judge_again(self, generation: int) -> None:
        """In doubt, while silence is waited for: the model has more of it to hear by now."""
        probability = await self._judged()
        if generation != self._generation or self._speaking or self._complete:
            return
        if probability >= self._policy.complete:
            self._probability = probability
            if self._plan():
                await self._silence_ended()

    def _expected(self) -> Expect:
        return Expect.OPEN if self._expects is None else self._expects()

    def _goes_on(self, said: str) -> bool:
        """Whether ``said`` is probably the beginning of what was asked for, however it sounds."""
        if self._expected() not in (Expect.DIGITS, Expect.SPELLING):
            return False
        return self._suffices is None or not self._suffices(said)

    def _plan(self) -> bool:
        """Wait for as much silence as is asked for; True where none is."""
        assert self._probability is not None
        said, expected = self._said, self._expected()
        wait = self._policy.wait(
            self._probability,
            expected,
            suffices=self._suffices(said) if self._suffices is not None and said else None,
            factor=self.pauses.factor,
        )
        due = self._judged_at + wait
        if wait and self._final and self._completes is not None and self._completes(said):
            due = min(due, self._stopped_at + self._policy.sure(expected))
        if wait:
            self._at(due, self._silence_ended)
        return not wait

    async def _silence_ended(self) -> None:
        self._complete = True
        await self._maybe_end()
        if self._complete:
            self._at(self._now() + self._policy.transcript_seconds, self._end)
            if self._awaiting is not None and self._silent_since is not None:
                self._awaiting(self._silent_since)

    def _at(self, due: float, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        generation = self._generation

        def fire() -> None:
            if generation == self._generation and not self._speaking:
                self._spawn(action())

        self._timer = asyncio.get_running_loop().call_at(due, fire)

    async def _maybe_end(self) -> None:
        if self._complete and self._final and not self._speaking:
            await self._end()

    async def _end(self) -> None:
        said = " ".join(self._words)
        speculation, self._speculation = self._speculation, None
        self._restart()
        if self._believe is not None:
            self._believe(min(self._confidences, default=None))
        self._probe(Stage.TURN_ENDED)
        if speculation is None:
            await self.trigger_user_turn_stopped()
        elif said and self._matches.matches(speculation.text, said):
            if self._answering is not None:
                self._answering.confirmed()
            async with self._ending:
                self._confirmed = True
                await self.trigger_user_turn_finalized(confirms_speculation=True)
        else:
            self._tell_dropped("other_words")
            await self.trigger_user_turn_speculation_cancelled()  # type: ignore[no-untyped-call]
            await self.trigger_user_turn_stopped()

    async def _ask_again(self) -> None:
        """The refusal of an early answer and the end of its turn have crossed: ask anew."""
        async with self._ending:
            await self.push_frame(LLMRunFrame())

    async def _speculate(self, probability: float, least: float) -> None:
        """Have the words so far answered, unless they are being answered already."""
        said = self._said
        if not self._anticipates or probability < least or not said or self._goes_on(said):
            return
        if self._speculation is not None:
            if self._matches.matches(self._speculation.text, said):
                return
            await self._withdraw("other_words")
        if self._speculated >= self._policy.max_speculations:
            return
        self._speculated += 1
        self._speculation = speculation = UserTurnSpeculation(text=said)
        if self._answering is not None:
            self._answering.began()
        await self.trigger_user_turn_inference_triggered(speculation=speculation)

    async def _withdraw(self, reason: str) -> None:
        if self._speculation is not None:
            self._forget(reason)
            await self.trigger_user_turn_speculation_cancelled()  # type: ignore[no-untyped-call]

    def _forget(self, reason: str) -> None:
        if self._speculation is not None:
            self._speculation = None
            self._tell_dropped(reason)

    def _tell_dropped(self, reason: str) -> None:
        if self._answering is not None:
            self._answering.dropped(reason)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
