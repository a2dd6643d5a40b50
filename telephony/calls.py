"""What calls of every transport have in common: who they are, and how they ended."""

from __future__ import annotations

import asyncio

from ringtrue.streaming.ports import Direction, EndReason


class CallHandle:
    """Most of :class:`~ringtrue.streaming.ports.Call`; subclasses add the leg and the hangup.

    They end it by setting :attr:`_over`, once.
    """

    def __init__(
        self,
        call_id: str,
        *,
        transport: str,
        remote: str,
        local: str,
        direction: Direction = Direction.INBOUND,
    ) -> None:
        """A call that is not over; to be made while the event loop runs."""
        self._id, self._transport = call_id, transport
        self._remote, self._local = remote, local
        self._direction = direction
        self._over: asyncio.Future[EndReason] = asyncio.get_running_loop().create_future()

    @property
    def id(self) -> str:
        """Unique for the process's lifetime, safe to log."""
        return self._id

    @property
    def transport(self) -> str:
        """What carries it, as call records name it."""
        return self._transport

    @property
    def direction(self) -> Direction:
        """Who placed it."""
        return self._direction

    @property
    def remote(self) -> str:
        """The far party as its transport names it. Never log it whole."""
        return self._remote

    @property
    def local(self) -> str:
        """What was dialled, or what we called from."""
        return self._local

    async def ended(self) -> EndReason:
        """Wait until the call is over; safe to await many times."""
        return await asyncio.shield(self._over)
