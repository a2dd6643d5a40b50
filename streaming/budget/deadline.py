"""A turn's deadline: how long each stage may take, has taken, and has left.

The stages of :data:`SEQUENCE` follow each other; the recognizer works inside the endpointing.
Times are seconds on whatever clock the moments were taken from; nothing here reads one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ringtrue.streaming.stages import Stage


class BudgetStage(StrEnum):
    """What a turn's time is allotted to."""

    ENDPOINTING = "endpointing"
    """The caller's last speech sample → the decision that the caller is done."""

    RECOGNIZER = "recognizer"
    """The pause was noticed → final text; a part of the endpointing."""

    FIRST_TOKEN = "first_token"
    """The turn ended → the LLM's first token."""

    FIRST_CLAUSE = "first_clause"
    """→ the first speakable text was handed to the synthesizer."""

    FIRST_PCM = "first_pcm"
    """→ its first samples reached playout."""

    GATE = "gate"
    """→ the first frame of them was admitted."""

    WIRE = "wire"
    """→ it was written."""


SPANS: Final[Mapping[BudgetStage, tuple[Stage, Stage]]] = {
    BudgetStage.ENDPOINTING: (Stage.SPEECH_ENDED, Stage.TURN_ENDED),
    BudgetStage.RECOGNIZER: (Stage.VAD_STOPPED, Stage.TRANSCRIPT),
    BudgetStage.FIRST_TOKEN: (Stage.TURN_ENDED, Stage.FIRST_TOKEN),
    BudgetStage.FIRST_CLAUSE: (Stage.FIRST_TOKEN, Stage.FIRST_PHRASE),
    BudgetStage.FIRST_PCM: (Stage.FIRST_PHRASE, Stage.FIRST_AUDIO),
    BudgetStage.GATE: (Stage.FIRST_AUDIO, Stage.FIRST_SEALED),
    BudgetStage.WIRE: (Stage.FIRST_SEALED, Stage.FIRST_PACKET),
}
"""The two moments each stage lies between."""

SEQUENCE: Final = tuple(stage for stage in BudgetStage if stage is not BudgetStage.RECOGNIZER)
"""The stages that add up to the turn."""

SPEAKING: Final = (BudgetStage.FIRST_PCM, BudgetStage.GATE, BudgetStage.WIRE)
"""Those that add up to TTFA."""

TURN: Final = "turn"
TTFA: Final = "ttfa"
"""The two totals, as misses name them."""

_PLAIN_REASONS: Final[Mapping[BudgetStage, str]] = {
    BudgetStage.RECOGNIZER: "slow_recognizer",
    BudgetStage.FIRST_TOKEN: "slow_model",
    BudgetStage.FIRST_CLAUSE: "slow_tokens",
    BudgetStage.FIRST_PCM: "slow_engine",
    BudgetStage.GATE: "queued",
    BudgetStage.WIRE: "late_tick",
}

UNFINISHED: Final = "sounded_unfinished"
NO_TEXT: Final = "no_text"
SLOW_RECOGNIZER: Final = "slow_recognizer"


def _default_allotments() -> Mapping[BudgetStage, float]:
    return {
        BudgetStage.ENDPOINTING: 0.35,
        BudgetStage.RECOGNIZER: 0.25,
        BudgetStage.FIRST_TOKEN: 0.2,
        BudgetStage.FIRST_CLAUSE: 0.05,
        BudgetStage.FIRST_PCM: 0.12,
        BudgetStage.GATE: 0.06,
        BudgetStage.WIRE: 0.02,
    }


@dataclass(frozen=True, slots=True)
class BudgetPolicy:
    """What a turn may take, in seconds."""

    turn: float = 0.8
    """The caller's last speech sample → the answer's first packet."""

    ttfa: float = 0.2
    """First speakable text → first packet."""

    allotments: Mapping[BudgetStage, float] = field(default_factory=_default_allotments)
    """Every :class:`BudgetStage`'s share."""


@dataclass(frozen=True, slots=True)
class Miss:
    """A stage, or the whole turn, that took longer than allotted. No words in it."""

    stage: str
    """A :class:`BudgetStage`, :data:`TURN` or :data:`TTFA`."""

    reason: str
    """What made it late, e.g. ``slow_model``; of a total: the stage that overran most."""

    allotted: float
    spent: float

    def as_dict(self) -> dict[str, str | float]:
        """JSON-ready, in milliseconds."""
        return {
            "stage": self.stage,
            "reason": self.reason,
            "allotted_ms": round(self.allotted * 1000, 1),
            "spent_ms": round(self.spent * 1000, 1),
        }


class Deadline:
    """One turn's. Every stage marks its moments and may look at what is left."""

    def __init__(
        self, policy: BudgetPolicy | None = None, moments: Mapping[Stage, float] | None = None
    ) -> None:
        """``moments`` are those reached so far; a mapping that grows is followed."""
        self.policy = policy or BudgetPolicy()
        self._moments: Mapping[Stage, float] = {} if moments is None else moments
        self._reasons: dict[BudgetStage, str] = {}

    def at(self, moment: Stage) -> float | None:
        """When ``moment`` was reached."""
        return self._moments.get(moment)

    @property
    def began(self) -> float | None:
        """When the turn's time began to run; None where the agent speaks of its own accord."""
        spoken = self.at(Stage.SPEECH_ENDED)
        return self.at(Stage.TURN_ENDED) if spoken is None else spoken

    def allotted(self, stage: BudgetStage) -> float:
        """Its share in seconds."""
        return self.policy.allotments[stage]

    def explain(self, stage: BudgetStage, reason: str) -> None:
        """Why ``stage`` is late, where that is known better than by its name."""
        self._reasons[stage] = reason

    def current(self) -> BudgetStage | None:
        """The stage under way; None before the caller fell silent and once all is written.

        What never came is passed over where something later did.
        """
        if self.began is None and self.at(Stage.FIRST_PHRASE) is None:
            return None
        for stage in SEQUENCE:
            if not self._passed(stage):
                return stage
        return None

    def spent(self, stage: BudgetStage, now: float | None = None) -> float:
        """Seconds it took, or has taken at ``now`` while under way; 0 before it began."""
        begun, ended = self._begun(stage), self.at(SPANS[stage][1])
        if begun is None:
            return 0.0
        if ended is None:
            if now is None or self._passed(stage):
                return 0.0
            ended = now
        return max(0.0, ended - begun)

    def remaining(self, stage: BudgetStage, now: float) -> float:
        """Seconds it may still take: its own share, and what stages before it saved.

        Their overrun is not taken off it. Negative once it is late.
        """
        own = self.allotted(stage) - self.spent(stage, now)
        if self.began is None or stage is BudgetStage.RECOGNIZER:
            return own
        before = SEQUENCE[: SEQUENCE.index(stage) + 1]
        return max(own, self.began + sum(map(self.allotted, before)) - now)

    def left(self, now: float) -> float:
        """Seconds until the whole turn is late; its whole time before it began."""
        return self.policy.turn - (0.0 if self.began is None else now - self.began)

    @property
    def overrun(self) -> dict[BudgetStage, float]:
        """Seconds over its share, of every stage that is over and was late."""
        late = {stage: self.spent(stage) - self.allotted(stage) for stage in BudgetStage}
        return {stage: over for stage, over in late.items() if over > 0}

    def misses(self, now: float | None = None) -> list[Miss]:
        """What was late and why; with ``now``, also what is late and not over yet."""
        found = []
        over: dict[BudgetStage, float] = {}
        for stage in BudgetStage:
            spent = self.spent(stage, now)
            over[stage] = spent - self.allotted(stage)
            if over[stage] > 0:
                found.append(Miss(stage, self._reason(stage), self.allotted(stage), spent))
        packet, phrase = self.at(Stage.FIRST_PACKET), self.at(Stage.FIRST_PHRASE)
        if packet is None:
            return found
        totals = (
            (TTFA, phrase, self.policy.ttfa, SPEAKING),
            (TURN, self.began, self.policy.turn, SEQUENCE),
        )
        for name, begun, allotted, stages in totals:
            if begun is not None and packet - begun > allotted:
                worst = max(stages, key=lambda stage: over[stage])
                found.append(Miss(name, worst, allotted, packet - begun))
        return found

    def _begun(self, stage: BudgetStage) -> float | None:
        begun, ended = self.at(SPANS[stage][0]), self.at(Stage.TURN_ENDED)
        if begun is None or stage in (BudgetStage.ENDPOINTING, BudgetStage.RECOGNIZER):
            return begun
        # What was made ahead of the turn's end could not be heard before it.
        return begun if ended is None else max(begun, ended)

    def _passed(self, stage: BudgetStage) -> bool:
        if stage is BudgetStage.RECOGNIZER:
            return self.at(Stage.TRANSCRIPT) is not None or self.at(Stage.TURN_ENDED) is not None
        later = SEQUENCE[SEQUENCE.index(stage) :]
        return any(self.at(SPANS[each][1]) is not None for each in later)

    def _reason(self, stage: BudgetStage) -> str:
        if stage in self._reasons:
            return self._reasons[stage]
        if stage is not BudgetStage.ENDPOINTING:
            return _PLAIN_REASONS[stage]
        if BudgetStage.RECOGNIZER in self._reasons:
            return self._reasons[BudgetStage.RECOGNIZER]
        if self.at(Stage.TRANSCRIPT) is None:
            return NO_TEXT
        if self.spent(BudgetStage.RECOGNIZER) > self.allotted(BudgetStage.RECOGNIZER):
            return SLOW_RECOGNIZER
        return UNFINISHED
