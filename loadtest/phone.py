"""A phone that places SIP calls: one endpoint, its media ports and its media clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from ringtrue.loadtest.caller import CallResult, Script, run_call
from ringtrue.loadtest.line import caller_clock
from ringtrue.streaming.clock import ClockStats
from ringtrue.streaming.ports import Call
from ringtrue.telephony.rtp.ports import PortPool
from ringtrue.telephony.rtp.session import session_factory
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.handles import ServerInvite
from ringtrue.telephony.sip.placing import OutgoingCall

CANCEL_SECONDS: Final = 3.0
"""How long giving up an unanswered call may take."""


class Phone:
    """Places calls from ``host``; any number at once, all on one clock. Use ``async with``."""

    def __init__(self, host: str = "127.0.0.1", *, codecs: Sequence[str] = ("PCMU",)) -> None:
        """``host`` is an IP literal to bind; ports are free ones. ``codecs`` best first."""
        self._pool = PortPool(host)
        self._media = session_factory(self._pool, codecs=codecs)
        self._endpoint = SipEndpoint(host, 0, on_invite=self._refuse)
        self._clock = caller_clock()

    @property
    def clock_stats(self) -> ClockStats:
        """How well the phone's own clock kept its time: the measurements are as good as that."""
        return self._clock.stats

    async def call(
        self,
        target: str,
        script: Script,
        *,
        name: str = "caller",
        answer_within: float = 10.0,
        max_seconds: float = 180.0,
    ) -> CallResult:
        """Call ``target`` (``sip:user@host:port[;transport=tcp]``) and follow ``script``.

        Only cancellation raises; see :func:`~ringtrue.loadtest.caller.run_call`.
        """
        return await run_call(
            lambda: self._dial(target),
            script,
            self._clock,
            name=name,
            answer_within=answer_within,
            max_seconds=max_seconds,
        )

    async def __aenter__(self) -> Self:
        """Bind. Raises OSError where that can't be done."""
        await self._endpoint.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End what is still up and release the ports."""
        await self._endpoint.close()
        self._clock.stop()

    async def _dial(self, target: str) -> Call:
        outgoing = await self._endpoint.call(target, self._media)
        try:
            return await outgoing.answered()
        except asyncio.CancelledError:
            await _give_up(outgoing)
            raise

    @staticmethod
    async def _refuse(invite: ServerInvite) -> None:
        await invite.reject(603)


async def _give_up(outgoing: OutgoingCall) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CANCEL_SECONDS):
            await outgoing.cancel()
