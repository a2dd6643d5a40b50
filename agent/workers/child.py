"""One worker as its supervisor sees it: its process, its socket, what it last said."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
import sys
from collections.abc import Callable
from typing import Final

import structlog

from ringtrue.agent.workers.channel import Channel
from ringtrue.agent.workers.handing import Handings
from ringtrue.agent.workers.plan import WorkerPlan
from ringtrue.agent.workers.wire import Kind, Message, Status, WireError, output
from ringtrue.telephony.sip.transport import TransportOutput

log = structlog.get_logger(__name__)

COMMAND: Final = (sys.executable, "-P", "-m", "ringtrue.agent.workers.process")

HUNG_SECONDS: Final = 10.0
"""A worker that said nothing for so long, though it says how it is four times a second."""

START_SECONDS: Final = 120.0
"""How long a worker may load."""

SCRAPE_SECONDS: Final = 2.0


class Worker:
    """One process. ``owner`` names it for the dispatcher, and no other process ever.

    It loads as soon as it is started, and serves once it is given a plan.
    """

    def __init__(
        self,
        owner: int,
        *,
        on_output: Callable[[int, TransportOutput], None],
        on_ready: Callable[[Worker], None],
        on_status: Callable[[Worker], None],
    ) -> None:
        """Nothing runs before :meth:`start`."""
        self.owner = owner
        self._plan: WorkerPlan | None = None
        self.status = Status(0, open=False)
        self.ready = False
        self._handings = Handings()
        self._on_output, self._on_ready, self._on_status = on_output, on_ready, on_status
        self._channel = Channel(self._heard, self._gone)
        self._process: asyncio.subprocess.Process | None = None
        self._door: socket.socket | None = None
        self._heard_at = 0.0
        self._scraping: asyncio.Future[bytes] | None = None

    @property
    def plan(self) -> WorkerPlan:
        """What it was given to serve; only for one that was."""
        assert self._plan is not None
        return self._plan

    @property
    def living(self) -> bool:
        """Whether its process was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def load(self) -> int:
        """Its calls, and connections handed over that may be calls by now."""
        return self.status.calls + self._handings.untold(asyncio.get_running_loop().time())

    @property
    def pid(self) -> int | None:
        """Of the process; None before there is one."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the process. Raises OSError."""
        ours, theirs = socket.socketpair()
        door, theirs_door = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, theirs_door:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *COMMAND,
                    str(theirs.fileno()),
                    str(theirs_door.fileno()),
                    stdin=asyncio.subprocess.PIPE,
                    pass_fds=(theirs.fileno(), theirs_door.fileno()),
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                door.close()
                raise
        door.setblocking(False)
        self._door = door
        try:
            await self._channel.open(ours)
        except BaseException:
            ours.close()
            self.kill()
            self.release()
            raise

    async def give(self, plan: WorkerPlan) -> None:
        """Let it serve as ``plan`` says, once; it was started before."""
        self._plan = plan
        self._heard_at = asyncio.get_running_loop().time()
        assert self._process is not None
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(ConnectionError):
            stdin.write(pickle.dumps(plan))
            await stdin.drain()
        stdin.close()

    async def ended(self) -> int:
        """Wait for the end of the process, and see to it where it hangs; returns the exit code.

        One without a plan does not hang: it has nothing to say.
        """
        process = self._process
        assert process is not None
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(1.0):
                    code = await process.wait()
                    break
            except TimeoutError:
                limit = HUNG_SECONDS if self.ready else START_SECONDS
                if self._plan is not None and loop.time() - self._heard_at > limit:
                    log.error("workers.hung", worker=self._plan.slot, seconds=limit)
                    self.kill()
        self.release()
        return code

    def release(self) -> None:
        """Nothing can be told or handed over any more. Idempotent."""
        self.ready = False
        self._channel.close()
        if self._door is not None:
            self._door.close()

    def send(self, message: Message) -> bool:
        """Tell it something; False where that is dropped."""
        return self._channel.send(message)

    def hand(self, connection: socket.socket, *, counted: bool = False) -> bool:
        """Hand over an accepted connection, which stays open here; False where it can't be.

        ``counted``: it may be a call, which the next ones should not be added to.
        """
        if self._door is None or not self.ready:
            return False
        try:
            socket.send_fds(self._door, [b"c"], [connection.fileno()])
        except OSError:
            return False
        if counted:
            self._handings.handed(asyncio.get_running_loop().time())
        return True

    async def metrics(self) -> bytes | None:
        """Its exposition text; None where it doesn't come in time."""
        if not self.ready:
            return None
        if self._scraping is None:
            self._scraping = asyncio.get_running_loop().create_future()
            self.send(Message(Kind.SCRAPE))
        scraping = self._scraping
        try:
            async with asyncio.timeout(SCRAPE_SECONDS):
                return await asyncio.shield(scraping)
        except TimeoutError:
            return None
        finally:
            if self._scraping is scraping:
                self._scraping = None

    def kill(self) -> None:
        """End the process by force."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _heard(self, message: Message) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        wanted = output(message)
        if wanted is not None:
            self._on_output(self.owner, wanted)
        elif message.kind is Kind.READY:
            self.ready = True
            self._on_ready(self)
        elif message.kind is Kind.STATUS:
            try:
                status = Status.of(message)
            except WireError as error:
                log.error("workers.status_unreadable", worker=self.plan.slot, error=str(error))
                return
            self._handings.reported(self.status.calls, status.calls)
            self.status = status
            self._on_status(self)
        elif message.kind is Kind.METRICS:
            scraping = self._scraping
            if scraping is not None and not scraping.done():
                scraping.set_result(message.data)

    def _gone(self) -> None:
        self.ready = False
