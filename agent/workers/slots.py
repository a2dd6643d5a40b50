"""A place for one worker, and when it is filled again: pauses grow while workers die young."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ringtrue.agent.workers.child import Worker

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 30.0
"""Seconds between the end of a worker and the start of the next; doubled for each one that died
young."""

YOUNG: Final = 60.0
"""A worker that lived less long than this died young."""

LOOPING: Final = 3
"""So many that died young in a row are a crash loop."""


class SlotState(StrEnum):
    """What is in a slot."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    WAITING = "waiting"
    """Its worker died; the next one is started after a pause."""

    ENDED = "ended"


@dataclass(slots=True, eq=False)
class Slot:
    """One of the N places."""

    number: int
    worker: Worker | None = None
    state: SlotState = SlotState.STARTING
    restarts: int = 0
    young: int = 0
    """Workers in a row that died young."""

    @property
    def looping(self) -> bool:
        """Whether workers keep dying here."""
        return self.young >= LOOPING

    @property
    def calls(self) -> int:
        """Calls its worker has."""
        return 0 if self.worker is None else self.worker.status.calls

    def died(self, lived: float) -> float:
        """Its worker is dead after ``lived`` seconds; returns the pause before the next."""
        self.worker = None
        self.state = SlotState.WAITING
        self.restarts += 1
        self.young = self.young + 1 if lived < YOUNG else 0
        return min(FIRST_PAUSE * 2.0**self.young, LONGEST_PAUSE)

    def told(self) -> dict[str, object]:
        """As health shows it."""
        return {
            "slot": self.number,
            "pid": None if self.worker is None else self.worker.pid,
            "state": self.state.value,
            "calls": self.calls,
            "open": self.worker is not None and self.worker.status.open,
            "restarts": self.restarts,
            "crash_loop": self.looping,
        }
