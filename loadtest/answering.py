"""Callers who are called: the target is told to place a call, and this phone answers it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx

from ringtrue.loadtest.calling import CallerOptions, Calling
from ringtrue.loadtest.phone import media_of
from ringtrue.loadtest.twilio import refused
from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.ports import Call
from ringtrue.telephony.rtp.ports import PortPool
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.errors import SipError
from ringtrue.telephony.sip.handles import ServerInvite
from ringtrue.telephony.sip.media import MediaError
from ringtrue.telephony.sip.uri import SipUri, parse_uri

HTTP_SECONDS: Final = 15.0
RING_SECONDS: Final = 0.2
"""How long it rings before somebody answers."""


class NotCalledError(RingtrueError):
    """The target placed no call."""


@dataclass(slots=True)
class _Awaited:
    invite: asyncio.Future[ServerInvite]
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it was answered, or nobody wants it any more."""


class AnsweringPhone(Calling):
    """Has a target call it, and answers; any number at once. Use ``async with``.

    Each call is ordered for a user of its own at this phone's address, so that the INVITE that
    comes says whose it is. The target's rules must allow ``sip:*@HOST:*``.
    """

    def __init__(
        self,
        host: str,
        *,
        agent: str,
        url: str,
        api_key: str,
        codecs: Sequence[str] = ("PCMU",),
        drift_ppm: float = 0.0,
    ) -> None:
        """``agent`` calls; ``url`` is the target's web server, ``api_key`` may place calls there.

        Raises ``ValueError`` without either.
        """
        if not url or not api_key:
            raise ValueError(
                "a scenario of placed calls needs --api-url and an API key with calls:place in "
                "RINGTRUE_API_KEY"
            )
        self._agent, self._codecs = agent, tuple(codecs)
        self._pool = PortPool(host)
        self._host = host
        self._endpoint = SipEndpoint(host, 0, on_invite=self._invited)
        headers = {"Authorization": f"Bearer {api_key}"}
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=HTTP_SECONDS)
        super().__init__(drift_ppm, self._http, self._endpoint)
        self._awaited: dict[str, _Awaited] = {}

    @property
    def port(self) -> int:
        """Where it can be called, once bound."""
        return self._endpoint.port

    async def _dial(self, target: str, options: CallerOptions) -> Call:
        user = f"callee-{secrets.token_hex(4)}"
        awaited = self._awaited[user] = _Awaited(asyncio.get_running_loop().create_future())
        try:
            await self._order(f"sip:{user}@{self._host}:{self._endpoint.port}")
            invite = await awaited.invite
            try:
                await invite.ring()
                await asyncio.sleep(RING_SECONDS)
                media = media_of(self._pool, self._codecs, options)
                return await invite.answer(media)
            except (SipError, MediaError) as error:
                raise NotCalledError(f"the target's call failed: {error}") from None
        finally:
            del self._awaited[user]
            awaited.settled.set()

    async def _order(self, to: str) -> None:
        try:
            answer = await self._http.post("/v1/calls", json={"to": to, "agent": self._agent})
        except httpx.HTTPError as error:
            raise NotCalledError(f"the target can't be asked: {type(error).__name__}") from None
        if answer.status_code != 202:
            raise refused(answer)

    async def _invited(self, invite: ServerInvite) -> None:
        try:
            dialled = parse_uri(invite.request_uri)
        except SipError:
            dialled = None
        user = dialled.user if isinstance(dialled, SipUri) else None
        awaited = self._awaited.get(user or "")
        if awaited is None or awaited.invite.done():
            await invite.reject(404)
            return
        awaited.invite.set_result(invite)
        # The endpoint takes an invitation whose handler returns for one nobody wanted.
        await awaited.settled.wait()
