"""What is done when a turn runs late, step by step: a state machine without clock or graph.

It is told when an answer is owed, when the agent is heard, and asked at :meth:`Ladder.due` what to
do. Each step is taken once in a turn, but for apologies, and has a reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ringtrue.streaming.budget.deadline import BudgetStage, Deadline


class Rung(StrEnum):
    """The steps, mildest first."""

    SHORTER_CLAUSE = "shorter_clause"
    """The first phrase is handed over as soon as it can be spoken."""

    SECOND_MODEL = "second_model"
    """Another request was made, or another model asked."""

    FASTER_VOICE = "faster_voice"
    """The second synthesizer speaks."""

    OPENER = "opener"
    """A few words that were made beforehand."""

    ASKED_AGAIN = "asked_again"
    """The model is asked once more."""

    APOLOGY = "apology"
    TRANSFER = "transfer"
    HANGUP = "hangup"


@dataclass(frozen=True, slots=True)
class LadderStep:
    """One step that was taken. No words in it."""

    rung: Rung
    reason: str
    at: float
    """Loop time in seconds."""


@dataclass(frozen=True, slots=True)
class LadderPolicy:
    """Which steps there are, and when the agent has been silent too long."""

    opener: bool = True
    faster_voice: float | None = None
    """Seconds that the first PCM may take before another synthesizer is tried; None: there is
    none."""

    apology: float = 1.2
    """Seconds of silence, while an answer is owed, after which something is said."""

    apologies: int = 2
    """How often in a turn; then :attr:`last` is taken."""

    last: Rung = Rung.HANGUP


MARGIN: Final = 0.02
"""Seconds an opener is begun earlier than it has to be: one frame."""

_NOW: Final = 0.0005
"""Seconds within which something is due: timers are not exact."""

_WHY: Final = {
    BudgetStage.FIRST_TOKEN: "no_first_token",
    BudgetStage.FIRST_CLAUSE: "slow_tokens",
    BudgetStage.FIRST_PCM: "no_audio",
}


class Ladder:
    """One call's; climbs anew each turn."""

    def __init__(self, policy: LadderPolicy | None = None) -> None:
        """Nothing is owed yet."""
        self.policy = policy or LadderPolicy()
        self._deadline: Deadline | None = None
        self._owed = False
        self._quiet_since = 0.0
        self._taken: set[Rung] = set()
        self._apologies = 0
        self._hurried_until = 0.0
        """When a hurried clause must have shown before more is done about it."""

    @property
    def owed(self) -> bool:
        """Whether an answer is owed."""
        return self._owed

    def owe(self, now: float, deadline: Deadline | None) -> None:
        """An answer is owed from ``now`` on; ``deadline`` is its turn's, if it answers one."""
        self._deadline, self._owed = deadline, True
        self._quiet_since = now
        self._taken.clear()
        self._apologies = 0
        self._hurried_until = now

    def settle(self) -> None:
        """Nothing is owed any more."""
        self._owed, self._deadline = False, None

    def heard(self, now: float) -> None:
        """The agent is audible, or is silent by design, at ``now``."""
        self._quiet_since = max(self._quiet_since, now)

    def due(self, now: float) -> float | None:
        """When to ask :meth:`advance` again unless something happens; None: not before it does."""
        if not self._owed:
            return None
        moments = [self._quiet_since + self.policy.apology]
        stage = self._stage()
        if stage is not None and self._deadline is not None:
            late = now + self._deadline.remaining(stage, now)
            if self._clause_is_slow(stage):
                moments.append(late)
            if (patience := self._patience(stage, now)) is not None:
                moments.append(now + patience)
            if self._wants_opener(stage):
                moments.append(max(late, now + self._slack(now), self._hurried_until))
        return max(now, min(moments))

    def advance(self, now: float, cause: str = "silence") -> list[LadderStep]:
        """The steps to take at ``now``; ``cause`` says what holds things up where no stage does."""
        if not self._owed:
            return []
        steps = []
        stage = self._stage()
        reason = cause if stage is None else _WHY.get(stage, cause)
        if stage is not None and self._deadline is not None:
            late = self._deadline.remaining(stage, now) <= _NOW
            if late and self._clause_is_slow(stage):
                steps.append(self._take(Rung.SHORTER_CLAUSE, reason, now))
                self._hurried_until = now + self._deadline.allotted(stage)
            patience = self._patience(stage, now)
            if patience is not None and patience <= _NOW:
                steps.append(self._take(Rung.FASTER_VOICE, reason, now))
            pressing = self._slack(now) <= _NOW and now >= self._hurried_until - _NOW
            if late and self._wants_opener(stage) and pressing:
                steps.append(self._take(Rung.OPENER, reason, now))
                self._quiet_since = now
        if now - self._quiet_since >= self.policy.apology - _NOW:
            self._quiet_since = now
            self._apologies += 1
            last = self._apologies > self.policy.apologies
            steps.append(LadderStep(self.policy.last if last else Rung.APOLOGY, reason, now))
            if last:
                self.settle()
        return steps

    def _stage(self) -> BudgetStage | None:
        """The agent's stage under way, while nothing of its answer is in playout."""
        stage = None if self._deadline is None else self._deadline.current()
        return stage if stage in _WHY else None

    def _take(self, rung: Rung, reason: str, now: float) -> LadderStep:
        self._taken.add(rung)
        return LadderStep(rung, reason, now)

    def _clause_is_slow(self, stage: BudgetStage) -> bool:
        return stage is BudgetStage.FIRST_CLAUSE and Rung.SHORTER_CLAUSE not in self._taken

    def _patience(self, stage: BudgetStage, now: float) -> float | None:
        """Seconds that are left to the synthesizer; None where no other could take over."""
        limit = self.policy.faster_voice
        if limit is None or stage is not BudgetStage.FIRST_PCM or Rung.FASTER_VOICE in self._taken:
            return None
        assert self._deadline is not None
        return limit - self._deadline.spent(stage, now)

    def _wants_opener(self, stage: BudgetStage) -> bool:
        return self.policy.opener and Rung.OPENER not in self._taken

    def _slack(self, now: float) -> float:
        """Seconds until an opener begun then would be late for the turn itself."""
        assert self._deadline is not None
        rest = self._deadline.allotted(BudgetStage.GATE) + self._deadline.allotted(BudgetStage.WIRE)
        return self._deadline.left(now) - rest - MARGIN
