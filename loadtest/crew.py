"""The callers of one process: each calls, follows the script, and is measured."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

from ringtrue.loadtest.caller import CallResult, Script, VirtualCaller
from ringtrue.loadtest.calling import CallerOptions, Calling
from ringtrue.loadtest.clips import ClipKeeper
from ringtrue.loadtest.expecting import expectations, unheard
from ringtrue.loadtest.phones import Access, open_phone
from ringtrue.loadtest.report import report_call
from ringtrue.loadtest.results import (
    MeasuredCall,
    Network,
    Outcome,
    Refusal,
    Transport,
)
from ringtrue.loadtest.scenario.schema import Scenario
from ringtrue.loadtest.script import load_spoken, script_of, warm
from ringtrue.loadtest.target import read_target
from ringtrue.loadtest.virtual_time import VirtualTimeLoop

STATE_SECONDS: Final = 0.5
"""Time between two reports of how many calls are up."""

REFUSED_SECONDS: Final = 1.0
"""A caller who keeps calling waits so long at least after a refusal that doesn't say how long."""

RETRY_LIMIT: Final = 30.0
"""And so long at most."""

VIRTUAL_PHASE: Final = 0.007
"""Seconds between a target's ticks and its callers' where both are on one virtual loop."""

MAX_CALLS: Final = 20_000
"""Of one run."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One caller's place: a call, or with a duration, one call after the other."""

    number: int
    begin_s: float
    """When it first calls, in seconds of the run."""

    listened: bool = False
    """Whether its first call is recorded whole, to be listened to after the run."""


@dataclass(frozen=True, slots=True)
class CrewSpec:
    """What a crew does. JSON-ready."""

    scenario: Scenario
    target: str
    slots: tuple[Slot, ...]
    seed: int
    start_at: float
    """Loop time (monotonic) of the run's beginning."""

    duration_s: float | None = None
    """Keep calling for so long; None: each slot calls once."""

    clips: Path | None = None
    """The run's directory, for the audio of its worst turns; None: none is kept."""

    recordings: Path | None = None
    """Where whole recordings go."""

    texts: Path | None = None
    host: str = "127.0.0.1"
    """Address to call from."""

    access: Access = field(default_factory=Access)


@dataclass(frozen=True, slots=True)
class CallDone:
    """A call is over."""

    call: MeasuredCall


@dataclass(frozen=True, slots=True)
class CrewState:
    """Where the crew stands."""

    at_s: float
    up: int
    ringing: int
    done: int


@dataclass(frozen=True, slots=True)
class CrewEnd:
    """The crew has finished; how its clock kept time and what it took."""

    ticks: int
    late: int
    skipped: int
    cpu_seconds: float


CrewEvent: TypeAlias = CallDone | CrewState | CrewEnd


class Crew:
    """The callers of ``spec`` on this event loop."""

    def __init__(self, spec: CrewSpec, emit: Callable[[CrewEvent], None]) -> None:
        """``emit`` gets every event, on the loop.

        Raises ``ValueError`` where something the callers say can't be had,
        :class:`~ringtrue.loadtest.target.TargetError` for a target that is none.
        """
        self._spec = spec
        self._scenario = spec.scenario
        self._emit = emit
        self._target = read_target(spec.target)
        self._spoken = load_spoken(spec.scenario, spec.texts)
        # Before the clock runs: it must not wait for files and filters.
        warm(self._spoken, (8000, 16000))
        self._up = self._ringing = self._done = 0
        self._skipped = 0
        # On a loop that the target is on too, its ticks and ours must not fall together: which
        # of them came first would be left to chance.
        self._virtual = isinstance(asyncio.get_running_loop(), VirtualTimeLoop)
        self._phase = VIRTUAL_PHASE if self._virtual else 0.0
        self._clips = None if spec.clips is None else ClipKeeper(spec.clips)
        self._measuring = asyncio.Lock()
        self._stopping = False

    def stop(self) -> None:
        """Begin no more calls; those in progress go on."""
        self._stopping = True

    async def run(self) -> None:
        """Call until every slot is through."""
        cpu = time.process_time()
        opened = open_phone(self._target, self._scenario, self._spec.host, self._spec.access)
        async with opened as phone:
            telling = asyncio.create_task(self._tell(), name="crew state")
            try:
                async with asyncio.TaskGroup() as group:
                    for slot in self._spec.slots:
                        group.create_task(self._keep_calling(phone, slot), name=f"slot {slot}")
            finally:
                telling.cancel()
                await asyncio.wait([telling])
            clock = phone.clock_stats
        self._state()
        self._emit(
            CrewEnd(clock.ticks, clock.late, self._skipped, round(time.process_time() - cpu, 3))
        )

    async def _tell(self) -> None:
        while True:
            self._state()
            await asyncio.sleep(STATE_SECONDS)

    def _state(self) -> None:
        at = round(max(0.0, self._since(asyncio.get_running_loop().time())), 3)
        self._emit(CrewState(at, self._up, self._ringing, self._done))

    def _since(self, moment: float) -> float:
        return moment - self._spec.start_at

    async def _keep_calling(self, phone: Calling, slot: Slot) -> None:
        loop = asyncio.get_running_loop()
        duration = self._spec.duration_s
        number = 0
        await asyncio.sleep(max(0.0, self._spec.start_at + slot.begin_s - loop.time()))
        while not self._stopping:
            call = await self._one(phone, slot, number)
            self._emit(CallDone(call))
            number += 1
            if duration is None:
                return
            pause = 0.0
            if call.refusal is not None:
                pause = min(RETRY_LIMIT, call.refusal.retry_after_s or REFUSED_SECONDS)
            elif not call.completed:
                pause = REFUSED_SECONDS
            if self._since(loop.time()) + pause >= duration:
                return
            await asyncio.sleep(pause)

    async def _one(self, phone: Calling, slot: Slot, number: int) -> MeasuredCall:
        name = f"c{slot.number:04d}-{number}"
        chance = random.Random(f"{self._spec.seed}/{slot.number}/{number}")
        seed = chance.getrandbits(32)
        scenario = self._scenario
        self._ringing += 1
        script, answered = self._counting(script_of(scenario, self._spoken, chance))
        try:
            result = await phone.call(
                self._spec.target if self._target.transport is Transport.SIP
                else self._target.address,
                script,
                name=name,
                answer_within=scenario.caller.answer_within,
                max_seconds=scenario.max_seconds,
                options=CallerOptions(
                    scenario.network, seed, scenario.caller.background_dbfs, self._phase
                ),
            )  # fmt: skip
        finally:
            if not answered:
                self._ringing -= 1
            self._done += 1
        self._skipped += len(result.faults.skipped)
        whole = slot.listened and number == 0
        async with self._measuring:  # one at a time: they share the clips, and the callers' core
            return await asyncio.to_thread(self._measured, result, seed, whole)

    def _counting(self, script: Script) -> tuple[Script, list[bool]]:
        """``script`` counted as a call that is up while it runs; the list fills at the answer."""
        answered: list[bool] = []

        @contextlib.contextmanager
        def up() -> Iterator[None]:
            answered.append(True)
            self._ringing -= 1
            self._up += 1
            try:
                yield
            finally:
                self._up -= 1

        async def counted(caller: VirtualCaller) -> None:
            with up():
                await script(caller)

        return counted, answered

    def _measured(self, result: CallResult, seed: int, whole: bool) -> MeasuredCall:
        """The record of a call that is over; what is kept of its audio is written."""
        scenario, spec = self._scenario, self._spec
        report = report_call(result, excused=result.excused)
        expected = expectations(scenario, result, report)
        if whole and not result.agent:
            expected += unheard(scenario.expect, "nothing was heard")
        if self._clips is not None:
            self._clips.offer(result.name, result, report)
        if whole and spec.recordings is not None and result.recording is not None:
            result.recording.write(spec.recordings / f"{result.name}.wav")
        started = self._since(result.dialled_at)
        answered = None if result.answered_at is None else self._since(result.answered_at)
        return MeasuredCall(
            id=result.name,
            seed=seed,
            transport=self._target.transport,
            outcome=outcome_of(result),
            detail=result.detail,
            started_s=round(started, 4),
            answered_s=None if answered is None else round(answered, 4),
            ended_s=round(self._since(result.over_at), 4),
            refusal=refusal_of(result),
            turns_expected=scenario.turns,
            expectations=tuple(expected),
            network=self._network(result),
            heard=report if result.recording is not None else None,
        )

    def _network(self, result: CallResult) -> Network:
        network = Network.of(result.stats, emulated=self._scenario.network.words())
        # A round trip through the system's sockets is none of a virtual loop's time.
        return replace(network, round_trip_ms=None) if self._virtual else network


def outcome_of(result: CallResult) -> Outcome:
    """How a call went."""
    if result.refused is not None:
        return Outcome.REFUSED
    if result.ok:
        return Outcome.COMPLETED
    if result.answered_at is None:
        return Outcome.UNANSWERED
    return Outcome.BROKEN if result.failure == "broken" else Outcome.FAILED


def refusal_of(result: CallResult) -> Refusal | None:
    """The answer that refused a call."""
    refused = result.refused
    if refused is None:
        return None
    return Refusal(
        status=refused.status,
        reason=refused.reason[:120],
        retry_after_s=refused.retry_after,
        after_ms=round(1000 * (result.over_at - result.dialled_at), 1),
    )
