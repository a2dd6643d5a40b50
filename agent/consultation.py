"""The call to whoever shall take a caller: they are asked, and say yes, no, or nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from ringtrue.agent.handing import Desk, Handing, Talk
from ringtrue.config.agent_schema import Agent
from ringtrue.config.agent_transfers import ACCEPT
from ringtrue.streaming.llm.actions import Transfer
from ringtrue.streaming.ports import EndReason


class Consultation:
    """One such call. Its :meth:`desk` is given to whoever runs it."""

    def __init__(self, *, asks: bool) -> None:
        """Where not ``asks``, answering is accepting, and nothing is said."""
        self._asks = asks
        self._accepted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.talk: Talk | None = None
        """The call, once it was answered."""

        self.over = asyncio.Event()
        """Set once it has ended."""

    def desk(self, talk: Talk) -> Handing:
        """Take the call."""
        self.talk = talk
        if not self._asks and not self._accepted.done():
            self._accepted.set_result(True)
        return self

    @property
    def greets(self) -> bool:
        """Whether something is asked."""
        return self._asks

    @property
    def busy(self) -> bool:
        """It is part of a transfer all the time."""
        return True

    def begin(self, action: Transfer) -> None:
        """They said yes."""
        if action.target == ACCEPT and not self._accepted.done():
            self._accepted.set_result(True)

    def leaves(self) -> bool:
        """They said no: the call ends."""
        return False

    async def close(self) -> None:
        """The call is over."""
        self.over.set()
        if not self._accepted.done():
            self._accepted.set_result(False)

    async def accepted(self, within: float) -> bool:
        """Whether they take the caller; no where they hang up, say nothing for ``within``
        seconds, or turn out to be a machine."""
        await asyncio.wait([self._accepted], timeout=within)
        taken = self._accepted.done() and self._accepted.result()
        if taken and self.talk is not None and self.talk.person is not None:
            taken = await self.talk.person()
        return taken and not self.over.is_set()

    def end(self, reason: EndReason) -> None:
        """Hang up. Nothing happens where it is over, or was never answered."""
        if self.talk is not None and not self.over.is_set():
            self.talk.end(reason)


@dataclass(frozen=True, slots=True)
class Reached:
    """What came of calling somebody."""

    call: str | None
    """Id of the call's record; None where there was none."""

    answered: bool
    status: int | None = None
    """SIP's, where it was not answered."""


class Line(Protocol):
    """What calls them: by the rules for calls that this server places, and no others."""

    def usable(self, tenant: str) -> bool:
        """Whether it places calls for ``tenant`` at all."""
        ...

    async def call(self, agent: Agent, to: str, *, within: float, desk: Desk) -> Reached:
        """Call ``to`` and return once it is answered, or won't be, in ``within`` seconds.

        An answered call goes on by itself, with ``agent`` and ``desk``. Raises a
        :class:`~ringtrue.streaming.errors.RingtrueError` where the rules don't allow it; cancelled,
        it gives the call up.
        """
        ...
