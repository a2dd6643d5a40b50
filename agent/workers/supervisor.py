"""Owns the addresses and keeps N workers running; never touches audio.

Each worker is a server of its own, with its event loop and media clock. SIP is passed on by the
:class:`~ringtrue.telephony.sip.front.Front`, web connections by the
:class:`~ringtrue.agent.workers.door.Door`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from typing import Final

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ringtrue.agent.sip_setup import Signalling, signalling_of
from ringtrue.agent.web_server import bound
from ringtrue.agent.workers.child import Worker
from ringtrue.agent.workers.door import Door, OwnAnswer, Seen
from ringtrue.agent.workers.plan import WorkerPlan, alike, share_of
from ringtrue.agent.workers.routes import Target, target_of
from ringtrue.agent.workers.slots import YOUNG, Slot, SlotState
from ringtrue.agent.workers.spare import Spare
from ringtrue.agent.workers.sums import Totals
from ringtrue.agent.workers.wire import Kind, Message, of_relayed
from ringtrue.config.settings import Settings
from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.lifetime import Running
from ringtrue.telephony.sip.dispatch import NOBODY
from ringtrue.telephony.sip.front import Front, Relayed
from ringtrue.telephony.sip.transport import TransportOutput

log = structlog.get_logger(__name__)

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

DRAIN_MARGIN: Final = 60.0
"""Seconds beyond its own limits that a draining worker has before it is ended by force."""

END_SECONDS: Final = 20.0
"""How long workers may take to end once they are told to do so now."""

SPARE_SECONDS: Final = 5.0
"""How long after all workers are ready a spare one is loaded: they have calls to take first."""

FAREWELL_SECONDS: Final = 2.0
"""How long far ends of dead workers' calls have to answer BYE before the sockets close."""


class WorkersError(RingtrueError):
    """No worker came up."""


class Supervisor(Running):
    """N workers behind one set of addresses. Use as ``async with``."""

    def __init__(self, settings: Settings, count: int) -> None:
        """For ``count`` workers. Raises :class:`~ringtrue.config.errors.ConfigError`."""
        self.settings = settings
        self._signalling = signalling_of(settings)
        whole = alike(settings)
        self._shares = [share_of(whole, slot, count) for slot in range(count)]
        self.slots = [Slot(number) for number in range(count)]
        self.draining = False
        self.faults = 0
        """Times that keeping a worker failed for a reason of our own."""

        self._owners = itertools.count(NOBODY + 1)
        self._workers: dict[int, Worker] = {}
        self._spare = Spare(self._made, after=SPARE_SECONDS)
        self._keepers: list[asyncio.Task[None]] = []
        self._chores: set[asyncio.Task[None]] = set()
        self._front: Front | None = None
        self._door: Door | None = None
        self._http_port = 0
        self._totals = Totals()
        self._settled = asyncio.Event()
        self._unfit = False

    @property
    def sip_port(self) -> int | None:
        """The bound SIP port; None where SIP is off."""
        return None if self._front is None else self._front.port

    @property
    def http_port(self) -> int | None:
        """The bound HTTP port; None where HTTP is off."""
        return self._http_port or None

    # -- from start to end -------------------------------------------------------------------

    async def start(self) -> None:
        """Bind, start the workers, and return once one takes calls.

        The others are started behind the first: what is made once (keys, the database) is there
        then. Raises OSError, and :class:`WorkersError` where the first ends before it is ready.
        """
        self._bind_web()
        if self._signalling is not None:
            await self._open_front(self._signalling)
        await self._fill(self.slots[:1])
        await self._fill(self.slots[1:])
        if self._door is not None:
            self._door.open()
        log.info("workers.ready", workers=len(self.slots))

    async def _fill(self, slots: list[Slot]) -> None:
        loop = asyncio.get_running_loop()
        for slot in slots:
            work = self._keep(slot)
            self._keepers.append(loop.create_task(work, name=f"worker-{slot.number}"))
        while any(slot.state is SlotState.STARTING for slot in slots):
            self._settled.clear()
            await self._settled.wait()
        if all(slot.state is not SlotState.READY for slot in slots) and slots:
            raise WorkersError("a worker ended before it was ready; its message is above")

    async def drain(self) -> None:
        """Take no more calls, let those in progress finish, and return once every worker ended."""
        self.draining = True
        await self._spare.close()
        if self._front is not None:
            self._front.dispatcher.draining = True
        for slot in self.slots:
            self._stop_slot(slot)
        await self._wait_for_keepers(self.settings.server.drain_seconds + DRAIN_MARGIN)

    def hurry(self) -> None:
        """End the calls in progress now; for a supervisor that drains."""
        for worker in tuple(self._workers.values()):
            worker.send(Message(Kind.END))
        loop = asyncio.get_running_loop()
        for worker in tuple(self._workers.values()):
            loop.call_later(END_SECONDS, worker.kill)

    async def close(self) -> None:
        """End every worker, at once where it still has calls; release the addresses."""
        self.draining = True
        await self._spare.close()
        for slot in self.slots:
            self._stop_slot(slot)
        self.hurry()
        await self._wait_for_keepers(END_SECONDS)
        if self._front is not None:
            if not await self._front.idle(FAREWELL_SECONDS):
                log.warning("workers.goodbyes_unanswered")
            await self._front.close()
        if self._door is not None:
            await self._door.close()
        for chore in tuple(self._chores):
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        log.info("workers.stopped")

    def _bind_web(self) -> None:
        http = self.settings.http
        if not http.enabled:
            return
        try:
            listener = bound(http.host, http.port)
        except OSError as error:
            reason = error.strerror or error
            text = f"HTTP can't listen on {http.host} port {http.port}: {reason}"
            raise OSError(error.errno, text) from error
        self._http_port = listener.getsockname()[1]
        self._door = Door(listener, self._own_answer, self._hand)

    async def _open_front(self, signalling: Signalling) -> None:
        sip = self.settings.sip
        front = Front(
            self._deliver,
            advertised_host=sip.advertised_host,
            auth=signalling.auth,
            call_rate=signalling.call_rate,
            tls_client=signalling.tls_client,
        )
        try:
            await front.open(sip.host, sip.port, udp=sip.udp, tcp=sip.tcp, tls=signalling.tls)
        except OSError as error:
            reason = error.strerror or error
            text = f"SIP can't listen on {sip.host} port {sip.port}: {reason}"
            raise OSError(error.errno, text) from error
        self._front = front

    # -- workers -----------------------------------------------------------------------------

    async def _keep(self, slot: Slot) -> None:
        """Run a worker in ``slot``, and another whenever one dies."""
        loop = asyncio.get_running_loop()
        while not self.draining:
            born = loop.time()
            slot.state = SlotState.STARTING
            try:
                code = await self._run(slot)
            except Exception as error:  # the fault is here, and costs this worker: as if it died
                log.error("workers.keeping_failed", worker=slot.number, exc_info=error)
                self.faults += 1
                code = None
            if self.draining:
                break
            # One that was told to end, and did, is not one that died young.
            pause = slot.died(YOUNG if code == 0 else loop.time() - born)
            log.error(
                "workers.died", worker=slot.number, code=code, again_in=pause, looping=slot.looping
            )
            self._settled.set()
            await asyncio.sleep(pause)
        slot.state = SlotState.ENDED
        self._settled.set()

    async def _run(self, slot: Slot) -> int | None:
        """One worker from its start to its end; returns its exit code."""
        worker = self._spare.take()
        if worker is None:
            worker = self._made()
            try:
                await worker.start()
            except OSError as error:
                log.error("workers.not_started", worker=slot.number, error=error.strerror)
                return None
        slot.worker = self._workers[worker.owner] = worker
        try:
            await worker.give(self._plan(slot))
            if self.draining:
                self._stop_slot(slot)
            return await worker.ended()
        finally:
            worker.kill()
            worker.release()
            del self._workers[worker.owner]
            slot.worker = None
            self._totals.end(worker.owner)
            if self._front is not None:
                self._front.worker_down(worker.owner)

    def _made(self) -> Worker:
        return Worker(
            next(self._owners),
            on_output=self._said,
            on_ready=self._ready,
            on_status=self._reported,
        )

    def _plan(self, slot: Slot) -> WorkerPlan:
        front = self._front
        return WorkerPlan(
            self._shares[slot.number],
            slot.number,
            len(self.slots),
            sip_port=0 if front is None else front.port,
            tls_port=0 if front is None else front.tls_port,
            http_port=self._http_port,
        )

    def _ready(self, worker: Worker) -> None:
        slot = self.slots[worker.plan.slot]
        if self.draining:
            self._stop_slot(slot)
            return
        slot.state = SlotState.READY
        if self._front is not None:
            self._front.worker_up(worker.owner)
        log.info("workers.worker_ready", worker=slot.number, pid=worker.pid)
        self._settled.set()
        whole = all(each.state is SlotState.READY for each in self.slots)
        if whole and self.settings.server.spare_worker:
            self._spare.provide()

    def _stop_slot(self, slot: Slot) -> None:
        worker = slot.worker
        if worker is None:
            return
        if worker.ready:
            slot.state = SlotState.DRAINING
            worker.send(Message(Kind.DRAIN))
        else:
            worker.kill()

    async def _wait_for_keepers(self, seconds: float) -> None:
        waiting = [task for task in self._keepers if not task.done()]
        for slot, task in zip(self.slots, self._keepers, strict=False):
            if slot.state is SlotState.WAITING:
                task.cancel()
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=seconds)
            for worker in tuple(self._workers.values()) if late else ():
                log.error("workers.ended_by_force", worker=worker.plan.slot)
                worker.kill()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    # -- SIP ---------------------------------------------------------------------------------

    def _deliver(self, owner: int, news: Relayed) -> bool:
        worker = self._workers.get(owner)
        return worker is not None and worker.send(of_relayed(news))

    def _said(self, owner: int, output: TransportOutput) -> None:
        if self._front is not None:
            self._front.said(owner, output)

    def _reported(self, worker: Worker) -> None:
        if self._front is None:
            return
        status = worker.status
        self._front.dispatcher.reported(
            worker.owner, status.calls, is_open=status.open, heard=status.heard
        )
        if worker.plan.primary:
            self._front.own_hosts = frozenset(status.own_hosts)

    # -- the web -----------------------------------------------------------------------------

    def _hand(self, connection: socket.socket, seen: Seen) -> bool:
        target = target_of(seen, len(self.slots))
        if isinstance(target, int):
            worker = self.slots[target].worker
            return worker is not None and worker.hand(connection)
        return any(worker.hand(connection, counted=True) for worker in self._by_load(target))

    def _by_load(self, target: Target) -> list[Worker]:
        ready = [slot.worker for slot in self.slots if slot.worker and slot.worker.ready]
        return sorted(ready, key=lambda each: (not each.status.open, each.load))

    async def _own_answer(self, seen: Seen) -> OwnAnswer | None:
        """Health and metrics, which are all workers'."""
        if seen.method not in ("GET", "HEAD"):
            return None
        if seen.path == "/healthz":
            looping = any(slot.looping for slot in self.slots)
            status, spare = "failing" if looping else "ok", self._spare.pid is not None
            return _json(200, {"status": status, "workers": self._told(), "spare": spare})
        if seen.path == "/readyz":
            return self._readiness()
        if seen.path == "/metrics" and self.settings.http.metrics:
            return OwnAnswer(200, await self.metrics(), METRICS_TYPE)
        return None

    def _readiness(self) -> OwnAnswer:
        ready = [slot for slot in self.slots if slot.state is SlotState.READY]
        calls = sum(slot.calls for slot in self.slots)
        if self.draining or not ready:
            return _json(503, {"status": "not ready", "calls": calls, "workers": self._told()})
        return _json(200, {"status": "ready", "calls": calls, "workers": self._told()})

    def _told(self) -> list[dict[str, object]]:
        return [slot.told() for slot in self.slots]

    async def metrics(self) -> bytes:
        """The exposition text of all workers together, and of the supervisor."""
        workers = list(self._workers.values())
        texts = await asyncio.gather(*(worker.metrics() for worker in workers))
        for worker, text in zip(workers, texts, strict=True):
            if text is not None and worker.owner in self._workers:
                self._totals.take(worker.owner, text)
        return self._totals.render(*self._own_metrics())

    def _own_metrics(self) -> list[Metric]:
        states = GaugeMetricFamily("ringtrue_workers", "Workers by state", labels=["state"])
        for state in SlotState:
            states.add_metric([state.value], sum(slot.state is state for slot in self.slots))
        loops = GaugeMetricFamily(
            "ringtrue_workers_crash_loop",
            "Slots whose workers keep dying young",
            value=sum(slot.looping for slot in self.slots),
        )
        restarts = CounterMetricFamily(
            "ringtrue_workers_restarts",
            "Workers that took the place of one that died",
            value=sum(slot.restarts for slot in self.slots),
        )
        faults = CounterMetricFamily(
            "ringtrue_workers_keeping_failed",
            "Workers that were replaced because the supervisor failed in keeping them",
            value=self.faults,
        )
        own: list[Metric] = [states, loops, restarts, faults]
        if self._front is not None:
            own.append(
                CounterMetricFamily(
                    "ringtrue_workers_calls_ended",
                    "Calls whose far ends were told the end because their worker was gone",
                    value=self._front.ended_for_the_dead,
                )
            )
            own.append(
                CounterMetricFamily(
                    "ringtrue_sip_calls_dropped",
                    "New calls of sources that began too many, not looked at",
                    value=self._front.dropped,
                )
            )
        return own


def _json(status: int, value: object) -> OwnAnswer:
    retry = (("Retry-After", "5"),) if status == 503 else ()
    return OwnAnswer(status, json.dumps(value).encode(), headers=retry)
