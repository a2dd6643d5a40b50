"""The browser's page, and leave to call from it.

``GET /`` is the page. It asks ``POST /webrtc/session`` for a token that is good once, for one
agent, and shows it with its SDP offer (:mod:`.signalling`). Other sites' pages get no token here:
they may not read the reply (no CORS headers), and requests that name a foreign ``Origin`` are
refused; their own servers get theirs with an API key.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from ringtrue.agent.web.assets import asset
from ringtrue.agent.web.signalling import (
    Accept,
    Answer,
    BusyError,
    OfferRequest,
    Origins,
    Signalling,
    read_body,
    refuse,
    reply,
    signalling_routes,
)
from ringtrue.config.webrtc_settings import IceServer
from ringtrue.telephony.webrtc.access import AccessTokens
from ringtrue.telephony.webrtc.live import LiveCalls

_ASSETS: Final = (
    "index.html",
    "app.js",
    "call.js",
    "chart.js",
    "link.js",
    "meter.js",
    "style.css",
    "icon.svg",
)


@dataclass(frozen=True, slots=True)
class AgentChoice:
    """One agent the page offers."""

    name: str
    """As :attr:`OfferRequest.agent` names it."""

    title: str
    description: str = ""
    examples: tuple[str, ...] = ()
    """What a caller may say, shown as suggestions."""

    tenant: str = field(default="default", repr=False)
    """Whose it is; not told."""


@dataclass(frozen=True, slots=True)
class IcePolicy:
    """How callers' audio may find its way."""

    servers: Callable[[], Sequence[IceServer]] = tuple
    """STUN and TURN servers for a new caller, credentials included, as WebRTC needs them."""

    relay_only: bool = False
    reconnect_seconds: float = 10.0
    """How long the server waits for a caller that it no longer hears."""

    def described(self) -> dict[str, Any]:
        """As a page's session and a token's holder are told."""
        return {
            "ice_servers": [_browser_ice(server) for server in self.servers()],
            "ice_transport_policy": "relay" if self.relay_only else "all",
            "reconnect_seconds": self.reconnect_seconds,
        }


def webrtc_router(
    accept: Accept,
    *,
    agents: Sequence[AgentChoice],
    name: str = "Ringtrue",
    ice: IcePolicy | None = None,
    tokens: AccessTokens | None = None,
    live: LiveCalls | None = None,
    token_ttl: float = 120.0,
    public_url: str | None = None,
    origins: Collection[str] = (),
    page: bool = True,
    clock: Callable[[], float] = time.time,
) -> APIRouter:
    """The page at ``/``, its files under ``/static``, ``/webrtc/session`` and the signalling.

    ``accept`` answers an offer. It may raise
    :class:`~ringtrue.telephony.webrtc.errors.OfferError` (the page gets 400) and
    :class:`BusyError` (503 with ``Retry-After``). ``public_url`` is allowed as ``Origin`` besides
    the request's own host, ``origins`` for tokens bound to one of them. Without ``page`` only
    the signalling is there. ``clock`` gives Unix time.

    Raises ``ValueError`` without any agent.
    """
    if not agents:
        raise ValueError("agents is empty; allowed: at least one agent for the page to call")
    tokens = tokens or AccessTokens(secrets.token_bytes(32))
    ice = ice or IcePolicy()
    allowed = Origins(public_url, origins)
    choices = {agent.name: agent for agent in agents}
    signalling = Signalling(
        accept,
        agents=choices,
        tokens=tokens,
        live=LiveCalls() if live is None else live,
        origins=allowed,
        clock=clock,
    )
    router = signalling_routes(signalling, allowed)
    if page:
        about = {
            "name": name,
            "agents": [_described(agent) for agent in agents],
            "expires_in": token_ttl,
        }

        async def session(request: Request) -> Response:
            """Who can be called, and a token to call one of them with, the first if none is named.

            The body may be ``{"agent": NAME}``.
            """
            if not allowed.own(request):
                return refuse(403, "origin", "this page belongs to another site")
            wanted = choices.get(await _wanted(request) or agents[0].name)
            if wanted is None:
                return refuse(400, "request", f"unknown agent; there are: {', '.join(choices)}")
            token, _ = tokens.mint(wanted.name, wanted.tenant, now=clock(), ttl=token_ttl)
            return reply(200, about | ice.described() | {"token": token})

        router.add_api_route("/webrtc/session", session, methods=["POST"])
        _add_page(router)
    return router


def _add_page(router: APIRouter) -> None:
    async def page() -> Response:
        return asset("index.html")

    async def static(file: str) -> Response:
        if file not in _ASSETS:
            return refuse(404, "not_found", "no such file")
        return asset(file)

    router.add_api_route("/", page, include_in_schema=False)
    router.add_api_route("/static/{file}", static, include_in_schema=False)


async def _wanted(request: Request) -> str | None:
    """The agent a request names; None where it names none, or isn't JSON."""
    body = await read_body(request)
    try:
        asked = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return None
    agent = asked.get("agent") if isinstance(asked, dict) else None
    return agent if isinstance(agent, str) else None


def _described(agent: AgentChoice) -> dict[str, Any]:
    return {name: value for name, value in asdict(agent).items() if name != "tenant"}


def _browser_ice(server: IceServer) -> dict[str, Any]:
    """An ``RTCIceServer`` as browsers take it."""
    described: dict[str, Any] = {"urls": list(server.urls)}
    if server.username is not None:
        described["username"] = server.username
    if server.credential is not None:
        described["credential"] = server.credential.get_secret_value()
    return described


__all__ = [
    "AgentChoice",
    "Answer",
    "BusyError",
    "IcePolicy",
    "OfferRequest",
    "webrtc_router",
]
