"""A front with user agents behind it, all on one loop; each of them can be killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sip_media import MediaShelf

from ringtrue.telephony.sip.driver import TlsListener
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.front import Front, Relayed
from ringtrue.telephony.sip.handles import ServerInvite, SipCall
from ringtrue.telephony.sip.relay import Relay
from ringtrue.telephony.sip.transport import TransportOutput

OnInvite = Callable[[ServerInvite], Awaitable[None]]


class Worker:
    """A user agent behind the front. What it does with calls is ``on_invite``'s."""

    def __init__(
        self,
        owner: int,
        front: Front,
        on_invite: OnInvite | None = None,
        front_tls: TlsListener | None = None,
    ) -> None:
        self.owner = owner
        self.dead = False
        self.invites: list[ServerInvite] = []
        self.calls: list[SipCall] = []
        self.media = MediaShelf()
        self._front = front
        self._on_invite = on_invite
        self.relay = Relay(self._say, port=front.port, tls_port=front.tls_port)
        self.endpoint = SipEndpoint(
            "127.0.0.1",
            0,
            on_invite=self._invited,
            tls=front_tls,
            network=self.relay.network,
        )

    def hear(self, news: Relayed) -> None:
        """Not at once: a socket is between them."""
        asyncio.get_running_loop().call_soon(self._hear, news)

    def kill(self) -> None:
        """As ``kill -9``: it does and says nothing any more."""
        self.dead = True
        self._front.worker_down(self.owner)

    async def close(self) -> None:
        await self.endpoint._driver.close()  # no goodbyes: peers of tests don't answer them
        for call in self.calls:
            call.abandon()

    def _hear(self, news: Relayed) -> None:
        if not self.dead:
            self.relay.hear(news)

    def _say(self, output: TransportOutput) -> None:
        if not self.dead:
            self._front.said(self.owner, output)

    async def _invited(self, invite: ServerInvite) -> None:
        self.invites.append(invite)
        if self._on_invite is not None:
            await self._on_invite(invite)
            return
        call = await invite.answer(self.media)
        self.calls.append(call)
        await call.ended()


class House:
    """The front and its workers."""

    def __init__(self, **options: Any) -> None:
        self.workers: dict[int, Worker] = {}
        self.tls: TlsListener | None = None
        self.front = Front(self._deliver, **options)

    async def add(self, on_invite: OnInvite | None = None) -> Worker:
        """Another worker, ready."""
        worker = Worker(len(self.workers) + 1, self.front, on_invite, self.tls)
        self.workers[worker.owner] = worker
        await worker.endpoint.start()
        self.front.worker_up(worker.owner)
        return worker

    def _deliver(self, owner: int, news: Relayed) -> bool:
        self.workers[owner].hear(news)
        return True


@asynccontextmanager
async def house(*, tls: TlsListener | None = None, **options: Any) -> AsyncIterator[House]:
    """A front on loopback, without workers yet."""
    made = House(**options)
    made.tls = tls
    await made.front.open("127.0.0.1", 0, udp=True, tcp=True, tls=tls)
    try:
        yield made
    finally:
        async with asyncio.TaskGroup() as closing:
            for worker in made.workers.values():
                closing.create_task(worker.close())
        await made.front.close()
