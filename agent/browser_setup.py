"""What takes calls from browsers in a server: tokens, relays, page and signalling together."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter

from ringtrue.agent.calls import RETRY_AFTER_SECONDS
from ringtrue.agent.web.router import (
    AgentChoice,
    Answer,
    BusyError,
    IcePolicy,
    OfferRequest,
    webrtc_router,
)
from ringtrue.agent.webrtc_api import TokenDesk
from ringtrue.config.agent_dialogue import PLACEHOLDER
from ringtrue.config.agent_schema import Agent
from ringtrue.config.webrtc_settings import IceServer, WebRtcSettings
from ringtrue.telephony.webrtc.access import AccessTokens
from ringtrue.telephony.webrtc.calls import WebRtcCall
from ringtrue.telephony.webrtc.live import LiveCalls
from ringtrue.telephony.webrtc.relay import relay_server

if TYPE_CHECKING:
    from ringtrue.agent.server import Server

PAGE_AGENT: Final = "demo"
"""Offered first by the page, where there is one of this name."""

EXAMPLES: Final = 4
"""Suggestions of what to say that the page gives for an agent."""


def ice_policy(webrtc: WebRtcSettings, clock: Callable[[], float] = time.time) -> IcePolicy:
    """What callers are told of STUN and TURN; relay credentials are made anew for each."""

    def servers() -> Sequence[IceServer]:
        turn = webrtc.turn
        if turn.secret is None:
            return webrtc.ice_servers
        relay = relay_server(
            turn.urls,
            turn.secret.get_secret_value(),
            user=secrets.token_hex(6),
            now=clock(),
            ttl=turn.ttl_seconds,
        )
        return (*webrtc.ice_servers, relay)

    return IcePolicy(servers, webrtc.relay_only, webrtc.reconnect_seconds)


def browser_routes(server: Server) -> APIRouter:
    """The page and the calls it makes; tokens for other pages under ``/v1/webrtc/tokens``."""
    webrtc = server.settings.webrtc
    ice, live = ice_policy(webrtc), LiveCalls()
    key = webrtc.token_key
    tokens = AccessTokens(
        secrets.token_bytes(32) if key is None else key.get_secret_value().encode()
    )
    server.voices.app.state.webrtc_tokens = TokenDesk(
        tokens, server.agents.agents, ice, origins=webrtc.origins, clock=time.time
    )

    async def accept(request: OfferRequest) -> Answer:
        if server.calls.reserve() is not None:
            raise BusyError(RETRY_AFTER_SECONDS)
        try:
            call = WebRtcCall(
                ice_servers=webrtc.ice_servers,
                remote=request.client,
                local=request.agent,
                reconnect_seconds=webrtc.reconnect_seconds,
                mark=server.mark,
            )
            sdp = await call.answer(request.sdp)
        except BaseException:
            server.calls.release()
            raise
        secret = live.add(call)
        server.run_when_connected(call, request.agent)
        return Answer(sdp, call.id, secret)

    agents = [
        AgentChoice(agent.name, agent.title, agent.description, _examples(agent), agent.tenant)
        for agent in server.agents.agents.values()
    ]
    return webrtc_router(
        accept,
        agents=sorted(agents, key=lambda choice: choice.name != PAGE_AGENT),
        name=server.settings.server.name,
        ice=ice,
        tokens=tokens,
        live=live,
        token_ttl=webrtc.session_token_ttl_seconds,
        public_url=server.settings.http.public_url,
        origins=webrtc.origins,
        page=webrtc.public,
    )


def _examples(agent: Agent) -> tuple[str, ...]:
    """A caller's first words, as the agent's dialogue understands them."""
    if agent.dialogue is None:
        return ()
    first = [
        intent.examples[0]
        for intent in agent.dialogue.intents.values()
        if intent.title and intent.examples and not intent.states
    ]
    return tuple(text for text in first if not PLACEHOLDER.search(text))[:EXAMPLES]
