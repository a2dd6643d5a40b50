"""The call record: what happened, when, per call and turn. No words, numbers or audio in it.

Times are seconds on the loop's monotonic clock while a call runs, and milliseconds since the
call was answered once written out. TTFA runs from the first speakable text handed to the
synthesizer to the first packet of speech; turn latency from the caller's last speech sample, as
this server heard it, to the same packet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from ringtrue.streaming.budget.deadline import BudgetPolicy, Deadline, Miss
from ringtrue.streaming.budget.ladder import LadderStep, Rung
from ringtrue.streaming.budget.silence import UnexplainedSilence
from ringtrue.streaming.ports import TransferOutcome
from ringtrue.streaming.stages import CALLER_STAGES, INTERVALS, Stage
from ringtrue.streaming.turn_taking import TurnTaking

log = structlog.get_logger(__name__)

__all__ = [
    "INTERVALS",
    "CallRecord",
    "Stage",
    "TransferRecord",
    "TurnLog",
    "TurnRecord",
]


@dataclass(slots=True)
class TurnRecord:
    """One exchange: what the caller said and what the agent answered."""

    index: int
    stages: dict[Stage, float] = field(default_factory=dict)
    interrupted_at: float | None = None
    """When a barge-in cut the agent's answer; None if it was heard to the end."""

    heard_samples: int = 0
    """Samples of the answer that went out before it ended or was cut."""

    stalls: Counter[str] = field(default_factory=Counter)
    """LLM stalls by reason."""

    budget: BudgetPolicy = field(default_factory=BudgetPolicy)
    misses: list[Miss] = field(default_factory=list)
    """What took longer than its share of :attr:`budget`, and why."""

    ladder: list[LadderStep] = field(default_factory=list)
    """What was done about it."""

    answer: dict[Stage, float] = field(default_factory=dict)
    """The answer's own moments from its first phrase on, where something was said before it to
    fill the time; :attr:`stages` then has that."""

    deadline: Deadline = field(init=False, repr=False)
    """How much of :attr:`budget` each stage has spent and has left."""

    fillers: int = field(default=0, repr=False)
    """Utterances that were said to fill the time."""

    begun: int = field(default=0, repr=False)
    """Utterances that were begun to be sent."""

    def __post_init__(self) -> None:
        """Let the deadline follow the moments."""
        self.deadline = Deadline(self.budget, self.stages)

    def interval(self, name: str) -> float | None:
        """Seconds of one of :data:`INTERVALS`, or None where a moment is missing."""
        first, last = INTERVALS[name]
        if first in self.stages and last in self.stages:
            return max(0.0, self.stages[last] - self.stages[first])
        return None

    def as_dict(self, answered_at: float, rate: int) -> dict[str, Any]:
        """The turn as JSON-ready values; times in milliseconds since ``answered_at``."""
        since = _clock(answered_at)
        intervals = {name: self.interval(name) for name in INTERVALS}
        written: dict[str, Any] = {
            "index": self.index,
            "at_ms": {stage.value: since(at) for stage, at in self.stages.items()},
            "intervals_ms": {
                name: round(value * 1000, 1)
                for name, value in intervals.items()
                if value is not None
            },
            "interrupted_at_ms": since(self.interrupted_at),
            "heard_ms": round(self.heard_samples * 1000 / rate, 1),
            "stalls": dict(self.stalls),
            "misses": [miss.as_dict() for miss in self.misses],
            "ladder": [
                {"step": str(step.rung), "reason": step.reason, "at_ms": since(step.at)}
                for step in self.ladder
            ],
        }
        if self.answer:
            written["answer_at_ms"] = {stage.value: since(at) for stage, at in self.answer.items()}
        return written


@dataclass(slots=True)
class TransferRecord:
    """One transfer that was asked for."""

    to: str
    """The agent's own name of the place."""

    outcome: TransferOutcome
    began_at: float
    ended_at: float | None = None
    status: int | None = None
    """SIP status that it ended with."""

    how: str = "refer"
    """``refer``: the far end called the place itself; ``replaces``: it took over our call to the
    place; ``bridge``: we called the place and passed the audio on; ``conference``: and took part.
    """

    call: str | None = None
    """Id of the call that we placed to the place, where we did."""


@dataclass(slots=True)
class CallRecord:
    """One call."""

    call_id: str
    transport: str
    direction: str
    agent: str
    rate: int
    answered_at: float
    ended_at: float | None = None
    outcome: str | None = None
    voice: str | None = None
    """The stock voice's name, or the cloned voice's id, that the call began with."""

    consent: str | None = None
    """Serial of the consent that voice began to speak by."""

    voice_refused: str | None = None
    """Why the cloned voice that the agent names did not speak."""

    voice_revoked: str | None = None
    """Why the cloned voice gave way to the stock voice."""

    voice_revoked_at: float | None = None
    watermark: str | None = None
    """Which mark everything that was sent carries."""

    disclosure: str | None = None
    """How much the caller heard of it that an AI speaks, and for whom: none, partly, fully."""

    disclosure_attempts: int = 0
    """Times that it was begun to be said."""

    asked_whether_human: int = 0
    """Times that the caller asked whether a person speaks, and was answered."""

    claims_replaced: int = 0
    """Sentences of the agent that claimed so, and were not spoken."""

    dialled_at: float | None = None
    """When we began to place it; None for a call that came in."""

    sip_status: int | None = None
    """Final status of a call we placed that was not answered."""

    sip_reason: str | None = None
    """Its reason phrase, as far as it can be printed and is no number."""

    early_media_ms: int = 0
    answered_by: str | None = None
    """Of a call we placed: human, machine or unknown; None where nobody judged."""

    answered_by_ms: int | None = None
    """How much the far end had sent when that was known."""

    message_left: bool = False
    """The agent's message was left with a machine."""

    """What a call we placed was played before it was answered."""

    transfer_requested: str | None = None
    """The agent's own name of the place the caller was to be handed to, last."""

    transfers: list[TransferRecord] = field(default_factory=list)

    turns: list[TurnRecord] = field(default_factory=list)
    unexplained_silences: list[UnexplainedSilence] = field(default_factory=list)
    """Silences of over 1.5 s while the caller was owed an answer."""

    interruptions: int = 0
    turn_taking: TurnTaking = field(default_factory=TurnTaking)
    """Answers begun early, pauses for what was no interruption, and idle prompts."""

    underruns: int = 0
    inbound_dropped: int = 0
    """Blocks of caller audio dropped because the graph did not keep up."""

    refused: dict[str, int] = field(default_factory=dict)
    """Frames that were not sent, by reason; marked comfort noise went out instead."""

    frames_sealed: int = 0
    packets_received: int = 0
    packets_lost: int = 0
    packets_late: int = 0
    frames_concealed: int = 0
    jitter_ms: float = 0.0
    media: dict[str, float] = field(default_factory=dict)
    """Further counters and estimates of the transport; docs/media.md says what they mean."""

    standing_delay_in_ms: float = 0.0
    """Caller's audio waiting between socket and graph: largest seen."""

    standing_delay_out_ms: float = 0.0
    """Agent's audio: from being made to its first packet, largest seen."""

    digests: list[str] = field(default_factory=list)
    """Chained SHA-256 of each utterance as sent."""

    recording: dict[str, Any] | None = None
    """Id, seconds, seconds in which the caller was silenced, and frames dropped, of the call's
    recording; ``stopped``: why it ended early. None where it wasn't recorded."""

    errors: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON-ready values; times in milliseconds since the call was answered."""

        since = _clock(self.answered_at)
        return {
            "call_id": self.call_id,
            "transport": self.transport,
            "direction": self.direction,
            "agent": self.agent,
            "rate": self.rate,
            "duration_ms": since(self.ended_at),
            "outcome": self.outcome,
            "voice": self.voice,
            "consent": self.consent,
            "voice_refused": self.voice_refused,
            "voice_revoked": self.voice_revoked,
            "voice_revoked_at_ms": since(self.voice_revoked_at),
            "watermark": self.watermark,
            "disclosure": self.disclosure,
            "disclosure_attempts": self.disclosure_attempts,
            "asked_whether_human": self.asked_whether_human,
            "claims_replaced": self.claims_replaced,
            "setup_ms": None if self.dialled_at is None else -(since(self.dialled_at) or 0.0),
            "sip_status": self.sip_status,
            "sip_reason": self.sip_reason,
            "early_media_ms": self.early_media_ms,
            "answered_by": self.answered_by,
            "answered_by_ms": self.answered_by_ms,
            "message_left": self.message_left,
            "transfer_requested": self.transfer_requested,
            "transfers": [
                {
                    "to": transfer.to,
                    "outcome": str(transfer.outcome),
                    "sip_status": transfer.status,
                    "how": transfer.how,
                    "call": transfer.call,
                    "began_at_ms": since(transfer.began_at),
                    "ended_at_ms": since(transfer.ended_at),
                }
                for transfer in self.transfers
            ],
            "turns": [turn.as_dict(self.answered_at, self.rate) for turn in self.turns],
            "unexplained_silences": [
                silence.as_dict(self.answered_at) for silence in self.unexplained_silences
            ],
            "interruptions": self.interruptions,
            "turn_taking": self.turn_taking.as_dict(),
            "underruns": self.underruns,
            "inbound_dropped": self.inbound_dropped,
            "refused": self.refused,
            "frames_sealed": self.frames_sealed,
            "packets_received": self.packets_received,
            "packets_lost": self.packets_lost,
            "packets_late": self.packets_late,
            "frames_concealed": self.frames_concealed,
            "jitter_ms": round(self.jitter_ms, 2),
            "media": {name: round(value, 3) for name, value in sorted(self.media.items())},
            "standing_delay_in_ms": round(self.standing_delay_in_ms, 1),
            "standing_delay_out_ms": round(self.standing_delay_out_ms, 1),
            "digests": self.digests,
            "recording": self.recording,
            "errors": dict(self.errors),
        }


def _clock(answered_at: float) -> Callable[[float | None], float | None]:
    def since(moment: float | None) -> float | None:
        return None if moment is None else round((moment - answered_at) * 1000, 1)

    return since


class TurnLog:
    """Builds the turns of a call from the moments its processors report.

    Caller-side moments belong to the turn being built (the last one reported wins, since a
    caller may pause and go on); the agent's first moment opens that turn, and each of the
    agent's moments counts once.
    """

    def __init__(
        self,
        record: CallRecord,
        *,
        budget: BudgetPolicy | None = None,
        on_turn: Callable[[TurnRecord], None] | None = None,
    ) -> None:
        """``budget`` is what each turn may take; ``on_turn`` is told of each turn when its first
        packet has been written."""
        self._record = record
        self._budget = budget or BudgetPolicy()
        self._on_turn = on_turn
        self._caller: dict[Stage, float] = {}
        self._turn: TurnRecord | None = None
        self._ahead = False
        """The turn was opened before the caller's was over, by what fills the time until it is."""

        self._heard: TurnRecord | None = None
        """The turn whose speech is on the wire: the next one may have begun behind it."""

        self.on_moment: Callable[[Stage, float], None] | None = None
        """Told of every moment once it is noted."""

    @property
    def current(self) -> TurnRecord | None:
        """The turn the agent is answering, if any."""
        return self._turn

    @property
    def deadline(self) -> Deadline:
        """Of the turn being answered, or while the caller has the floor, of the one to come."""
        if self._turn is None or self._caller:
            return Deadline(self._budget, self._caller)
        return self._turn.deadline

    def report(self, stage: Stage, at: float) -> None:
        """A moment was reached."""
        if stage in (Stage.SPEECH_ENDED, Stage.VAD_STOPPED):
            self._ahead = False  # the caller went on, behind what was said meanwhile
        if self._ahead and self._turn is not None and stage in CALLER_STAGES:
            self._turn.stages[stage] = at
            self._ahead = stage is not Stage.TURN_ENDED
        elif stage in CALLER_STAGES:
            self._caller[stage] = at
            if stage is Stage.TURN_ENDED:
                self._open()
        else:
            self._agent(stage, at)
        if self.on_moment is not None:
            self.on_moment(stage, at)

    def _agent(self, stage: Stage, at: float) -> None:
        if stage is Stage.FIRST_PACKET:
            self._heard = self._turn
        turn = self._turn
        if turn is not None and turn.fillers and self._after_filler(turn, stage, at):
            return
        if turn is None or Stage.FIRST_PACKET in turn.stages:
            if stage in (Stage.FIRST_AUDIO, Stage.FIRST_SEALED, Stage.FIRST_PACKET):
                return
            turn = self._open()
        if stage in turn.stages:
            return
        turn.stages[stage] = at
        if stage is Stage.FIRST_PACKET:
            self._judge(turn, at)
            if self._on_turn is not None:
                self._on_turn(turn)

    def _after_filler(self, turn: TurnRecord, stage: Stage, at: float) -> bool:
        """Whether ``stage`` is the answer's own, behind what was said to fill the time."""
        if stage is Stage.FIRST_TOKEN:
            turn.stages.setdefault(stage, at)
            return Stage.FIRST_PACKET not in turn.answer
        if stage is Stage.FIRST_PHRASE:
            if stage in turn.answer:
                return Stage.FIRST_PACKET not in turn.answer
            turn.answer[stage] = at
            return True
        if stage is Stage.FIRST_PACKET:
            turn.begun += 1
            if turn.begun > turn.fillers and Stage.FIRST_PHRASE in turn.answer:
                turn.answer.setdefault(stage, at)
        return False

    def filled(self, at: float, *, ahead: bool = False) -> None:
        """Something that is not the answer was handed to the synthesizer to fill the time.

        ``ahead``: it fills the time until the caller's turn is known to be over.
        """
        if ahead and not self._ahead:
            self._open()
            self._ahead = True
        turn = self._turn
        if turn is None or Stage.FIRST_PACKET in turn.answer:
            return
        if Stage.FIRST_PHRASE in turn.stages and not turn.fillers:
            # Its answer was handed over before: what is late is the voice.
            turn.answer[Stage.FIRST_PHRASE] = turn.stages[Stage.FIRST_PHRASE]
        turn.stages.setdefault(Stage.FIRST_PHRASE, at)
        turn.fillers += 1

    def stepped(self, rung: Rung, reason: str, at: float) -> None:
        """The ladder took a step in the turn being answered."""
        log.info("turn.ladder", call=self._record.call_id, step=str(rung), reason=reason)
        if self._turn is not None:
            self._turn.ladder.append(LadderStep(rung, reason, at))

    def silent(self, silence: UnexplainedSilence) -> None:
        """The caller has waited too long for an answer."""
        log.warning("turn.unexplained_silence", call=self._record.call_id, cause=silence.cause)
        self._record.unexplained_silences.append(silence)

    def ignored(self) -> None:
        """What the caller said last is of no turn: it was said while listening."""
        self._caller = {}

    def interrupted(self, at: float, heard_samples: int) -> None:
        """A barge-in cut the answer being heard."""
        self._record.interruptions += 1
        if self._heard is not None:
            self._heard.interrupted_at = at
            self._heard.heard_samples += heard_samples

    def heard(self, samples: int) -> None:
        """An utterance was heard to its end."""
        if self._heard is not None:
            self._heard.heard_samples += samples

    def stalled(self, reason: str) -> None:
        """The LLM missed a deadline."""
        if self._turn is not None:
            self._turn.stalls[reason] += 1

    def close(self) -> None:
        """The call is over: judge its last turn."""
        if self._turn is not None:
            self._turn.misses = self._turn.deadline.misses()

    def _open(self) -> TurnRecord:
        self.close()
        self._ahead = False
        turn = TurnRecord(index=len(self._record.turns), stages=self._caller, budget=self._budget)
        self._turn = turn
        self._caller = {}
        self._record.turns.append(turn)
        return turn

    def _judge(self, turn: TurnRecord, now: float) -> None:
        turn.misses = turn.deadline.misses(now)
        for miss in turn.misses:
            log.info(
                "turn.over_budget",
                call=self._record.call_id,
                turn=turn.index,
                stage=miss.stage,
                reason=miss.reason,
                over_ms=round((miss.spent - miss.allotted) * 1000, 1),
            )
