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
from enum import StrEnum
from typing import Any, Final

from ringtrue.streaming.ports import TransferOutcome


class Stage(StrEnum):
    """Moments of a turn, in the order they normally come."""

    SPEECH_ENDED = "speech_ended"
    """The caller's last speech sample."""

    VAD_STOPPED = "vad_stopped"
    TRANSCRIPT = "transcript"
    """The recognizer's final text."""

    TURN_ENDED = "turn_ended"
    """It was decided that the caller is done."""

    FIRST_TOKEN = "first_token"
    FIRST_PHRASE = "first_phrase"
    """The first speakable text was handed to the synthesizer."""

    FIRST_AUDIO = "first_audio"
    """The first PCM reached playout."""

    FIRST_PACKET = "first_packet"
    """The first frame of speech was written to the wire."""


INTERVALS: Final[dict[str, tuple[Stage, Stage]]] = {
    "endpointing": (Stage.SPEECH_ENDED, Stage.TURN_ENDED),
    "recognizer": (Stage.VAD_STOPPED, Stage.TRANSCRIPT),
    "language": (Stage.TURN_ENDED, Stage.FIRST_TOKEN),
    "phrase": (Stage.FIRST_TOKEN, Stage.FIRST_PHRASE),
    "synthesis": (Stage.FIRST_PHRASE, Stage.FIRST_AUDIO),
    "wire": (Stage.FIRST_AUDIO, Stage.FIRST_PACKET),
    "ttfa": (Stage.FIRST_PHRASE, Stage.FIRST_PACKET),
    "turn_latency": (Stage.SPEECH_ENDED, Stage.FIRST_PACKET),
}
"""Name → the two moments it lies between."""


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

    def interval(self, name: str) -> float | None:
        """Seconds of one of :data:`INTERVALS`, or None where a moment is missing."""
        first, last = INTERVALS[name]
        if first in self.stages and last in self.stages:
            return self.stages[last] - self.stages[first]
        return None


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
    """What a call we placed was played before it was answered."""

    transfer_requested: str | None = None
    """The agent's own name of the place the caller was to be handed to, last."""

    transfers: list[TransferRecord] = field(default_factory=list)

    turns: list[TurnRecord] = field(default_factory=list)
    interruptions: int = 0
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

        def since(moment: float | None) -> float | None:
            return None if moment is None else round((moment - self.answered_at) * 1000, 1)

        turns = []
        for turn in self.turns:
            intervals = {name: turn.interval(name) for name in INTERVALS}
            turns.append(
                {
                    "index": turn.index,
                    "at_ms": {stage.value: since(at) for stage, at in turn.stages.items()},
                    "intervals_ms": {
                        name: round(value * 1000, 1)
                        for name, value in intervals.items()
                        if value is not None
                    },
                    "interrupted_at_ms": since(turn.interrupted_at),
                    "heard_ms": round(turn.heard_samples * 1000 / self.rate, 1),
                    "stalls": dict(turn.stalls),
                }
            )
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
            "transfer_requested": self.transfer_requested,
            "transfers": [
                {
                    "to": transfer.to,
                    "outcome": str(transfer.outcome),
                    "sip_status": transfer.status,
                    "began_at_ms": since(transfer.began_at),
                    "ended_at_ms": since(transfer.ended_at),
                }
                for transfer in self.transfers
            ],
            "turns": turns,
            "interruptions": self.interruptions,
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


_CALLER_STAGES: Final = (
    Stage.SPEECH_ENDED,
    Stage.VAD_STOPPED,
    Stage.TRANSCRIPT,
    Stage.TURN_ENDED,
)


class TurnLog:
    """Builds the turns of a call from the moments its processors report.

    Caller-side moments belong to the turn being built (the last one reported wins, since a
    caller may pause and go on); the agent's first moment opens that turn, and each of the
    agent's moments counts once.
    """

    def __init__(
        self, record: CallRecord, *, on_turn: Callable[[TurnRecord], None] | None = None
    ) -> None:
        """``on_turn`` is told of each turn when its first packet has been written."""
        self._record = record
        self._on_turn = on_turn
        self._caller: dict[Stage, float] = {}
        self._turn: TurnRecord | None = None
        self._heard: TurnRecord | None = None
        """The turn whose speech is on the wire: the next one may have begun behind it."""

    @property
    def current(self) -> TurnRecord | None:
        """The turn the agent is answering, if any."""
        return self._turn

    def report(self, stage: Stage, at: float) -> None:
        """A moment was reached."""
        if stage in _CALLER_STAGES:
            self._caller[stage] = at
            if stage is Stage.TURN_ENDED:
                self._open()
            return
        if stage is Stage.FIRST_PACKET:
            self._heard = self._turn
        if self._turn is None or Stage.FIRST_PACKET in self._turn.stages:
            if stage in (Stage.FIRST_AUDIO, Stage.FIRST_PACKET):
                return
            self._open()
        turn = self._turn
        assert turn is not None
        if stage in turn.stages:
            return
        turn.stages[stage] = at
        if stage is Stage.FIRST_PACKET and self._on_turn is not None:
            self._on_turn(turn)

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

    def _open(self) -> None:
        self._turn = TurnRecord(index=len(self._record.turns), stages=self._caller)
        self._caller = {}
        self._record.turns.append(self._turn)
