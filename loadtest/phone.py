"""A phone that places SIP calls: one endpoint, its media ports and its media clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from ringtrue.loadtest.caller import RefusedError
from ringtrue.loadtest.calling import CallerOptions, Calling
from ringtrue.loadtest.impaired import ImpairedPorts
from ringtrue.streaming.ports import Call
from ringtrue.telephony.rtp.ports import PortPool
from ringtrue.telephony.rtp.session import session_factory
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.errors import CallFailedError, CallTimeoutError
from ringtrue.telephony.sip.handles import ServerInvite
from ringtrue.telephony.sip.media import MediaFactory
from ringtrue.telephony.sip.placing import OutgoingCall

CANCEL_SECONDS: Final = 3.0
"""How long giving up an unanswered call may take."""


class Phone(Calling):
    """Places calls from ``host``; any number at once, all on one clock. Use ``async with``.

    Targets are ``sip:user@host:port[;transport=tcp]``.
    """

    def __init__(
        self, host: str = "127.0.0.1", *, codecs: Sequence[str] = ("PCMU",), drift_ppm: float = 0.0
    ) -> None:
        """``host`` is an IP literal to bind; ports are free ones. ``codecs`` best first."""
        self._codecs = tuple(codecs)
        self._pool = PortPool(host)
        self._endpoint = SipEndpoint(host, 0, on_invite=self._refuse)
        super().__init__(drift_ppm, self._endpoint)

    async def _dial(self, target: str, options: CallerOptions) -> Call:
        outgoing = await self._endpoint.call(target, media_of(self._pool, self._codecs, options))
        try:
            return await outgoing.answered()
        except CallFailedError as error:
            if not error.heard or isinstance(error, CallTimeoutError):
                raise
            raise RefusedError(error.status, error.reason, error.retry_after) from None
        except asyncio.CancelledError:
            await _give_up(outgoing)
            raise

    @staticmethod
    async def _refuse(invite: ServerInvite) -> None:
        await invite.reject(603)


def media_of(pool: PortPool, codecs: Sequence[str], options: CallerOptions) -> MediaFactory:
    """The media of a call: on ports of ``pool``, or behind the network its caller has."""
    network = options.network
    if not (network.up.clean and network.down.clean):
        pool = ImpairedPorts(pool.host, network, options.seed)
    return session_factory(pool, codecs=codecs)


async def _give_up(outgoing: OutgoingCall) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CANCEL_SECONDS):
            await outgoing.cancel()
