"""What carries out what a call's dialogue asks for, besides speaking and hanging up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from ringtrue.config.agent_schema import Agent
from ringtrue.streaming.graph import CallGraph
from ringtrue.streaming.llm.actions import Transfer
from ringtrue.streaming.ports import Call, EndReason
from ringtrue.streaming.record import CallRecord, TransferRecord


@dataclass(frozen=True, slots=True)
class Talk:
    """A call, as far as that needs to know it."""

    call: Call
    agent: Agent
    graph: CallGraph
    record: CallRecord
    end: Callable[[EndReason], None]
    on_result: Callable[[TransferRecord], None] | None = None
    """Told of each transfer that is over."""

    person: Callable[[], Awaitable[bool]] | None = None
    """Whether a person answered, where that is judged; see
    :meth:`~ringtrue.agent.voicemail.Answering.person`."""


class Handing(Protocol):
    """Made for one call by its :data:`Desk`."""

    @property
    def greets(self) -> bool:
        """Whether the agent speaks first; else it waits."""
        ...

    @property
    def busy(self) -> bool:
        """Whether the caller is being handed over, or talks to somebody else."""
        ...

    def begin(self, action: Transfer) -> None:
        """The dialogue asks for it, and its words were heard."""
        ...

    def leaves(self) -> bool:
        """The agent wants to hang up. True where it only leaves others who go on talking."""
        ...

    async def close(self) -> None:
        """The call is over."""
        ...


Desk = Callable[[Talk], Handing]
