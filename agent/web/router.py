"""The browser's page and its WebRTC signalling over HTTP.

``GET /`` is the page. It asks ``POST /webrtc/session`` for a one-use token, and shows it with
its SDP offer at ``POST /webrtc/offer``. Other sites' pages get no token: they may not read the
reply (no CORS headers), and requests that name a foreign ``Origin`` are refused.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter, Request, Response

from ringtrue.agent.web.assets import SECURITY, asset
from ringtrue.config.settings import IceServer
from ringtrue.streaming.errors import RingtrueError
from ringtrue.telephony.tokens import TokenStore
from ringtrue.telephony.webrtc.errors import OfferError

log = structlog.get_logger(__name__)

MAX_BODY: Final = 96 * 1024
"""Bytes of an offer with its JSON around it."""

_ASSETS: Final = (
    "index.html",
    "app.js",
    "call.js",
    "chart.js",
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


@dataclass(frozen=True, slots=True)
class OfferRequest:
    """A page that showed its token wants to call."""

    sdp: str
    agent: str
    """One of the choices' names."""

    client: str
    """The page's address as HTTP saw it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the page is told."""

    sdp: str
    call_id: str


class BusyError(RingtrueError):
    """No call can be taken now."""

    def __init__(self, retry_after: float = 10.0) -> None:
        """``retry_after`` is when to try again, in seconds."""
        super().__init__(f"all lines are busy; try again in {retry_after:.0f} s")
        self.retry_after = retry_after


def webrtc_router(
    accept: Callable[[OfferRequest], Awaitable[Answer]],
    *,
    agents: Sequence[AgentChoice],
    name: str = "Ringtrue",
    ice_servers: Sequence[IceServer] = (),
    token_ttl: float = 120.0,
    public_url: str | None = None,
) -> APIRouter:
    """The page at ``/``, its files under ``/static``, ``/webrtc/session`` and ``/webrtc/offer``.

    ``accept`` answers an offer. It may raise
    :class:`~ringtrue.telephony.webrtc.errors.OfferError` (the page gets 400) and
    :class:`BusyError` (503 with ``Retry-After``). ``ice_servers`` are told to every visitor, as
    WebRTC needs, credentials included. ``public_url`` is allowed as ``Origin`` besides the
    request's own host.

    Raises ``ValueError`` without any agent.
    """
    if not agents:
        raise ValueError("agents is empty; allowed: at least one agent for the page to call")
    router = APIRouter()
    names = {agent.name for agent in agents}
    tokens: TokenStore[bool] = TokenStore(token_ttl)
    session = {
        "name": name,
        "agents": [asdict(agent) for agent in agents],
        "ice_servers": [_browser_ice(server) for server in ice_servers],
        "expires_in": token_ttl,
    }

    @router.get("/", include_in_schema=False)
    async def page() -> Response:
        return asset("index.html")

    @router.get("/static/{file}", include_in_schema=False)
    async def static(file: str) -> Response:
        if file not in _ASSETS:
            return _refuse(404, "not_found", "no such file")
        return asset(file)

    @router.post("/webrtc/session")
    async def new_session(request: Request) -> Response:
        """Who can be called, and a token to call with."""
        if not _same_origin(request, public_url):
            return _refuse(403, "origin", "this page belongs to another site")
        token = tokens.issue(True, asyncio.get_running_loop().time())
        return _json(200, session | {"token": token})

    @router.post("/webrtc/offer")
    async def offer(request: Request) -> Response:
        """Answer the page's SDP offer."""
        if not _same_origin(request, public_url):
            return _refuse(403, "origin", "this page belongs to another site")
        body = await _body(request)
        if body is None:
            return _refuse(413, "too_large", f"offer is larger than {MAX_BODY} bytes")
        try:
            sdp, token, agent = _read(body, names)
        except ValueError as error:
            return _refuse(400, "request", str(error))
        if tokens.redeem(token, asyncio.get_running_loop().time()) is None:
            return _refuse(403, "token", "the session has expired; ask for a new one")
        client = request.client.host if request.client else ""
        try:
            answer = await accept(OfferRequest(sdp, agent, client))
        except OfferError as error:
            log.warning("webrtc_offer_refused", error=str(error))
            return _refuse(400, "offer", str(error))
        except BusyError as error:
            return _refuse(503, "busy", str(error), retry_after=error.retry_after)
        return _json(200, {"type": "answer", "sdp": answer.sdp, "call_id": answer.call_id})

    return router


def _read(body: bytes, agents: set[str]) -> tuple[str, str, str]:
    """Offer, token and agent of a request. Raises ``ValueError`` naming what is wrong."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError("body is not JSON") from error
    if not isinstance(request, dict):
        raise ValueError("body is not a JSON object")
    values = []
    for key in ("sdp", "token", "agent"):
        value = request.get(key)
        if not isinstance(value, str):
            raise ValueError(f"{key} is missing or no string")
        values.append(value)
    sdp, token, agent = values
    if agent not in agents:
        raise ValueError(f"unknown agent {agent[:40]!r}; there are: {', '.join(sorted(agents))}")
    return sdp, token, agent


async def _body(request: Request) -> bytes | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return body


def _same_origin(request: Request, public_url: str | None) -> bool:
    """False if a browser says that another site's page sent the request."""
    origin = request.headers.get("origin")
    if origin is None:
        return True
    allowed = {request.headers.get("host", "")}
    if public_url is not None:
        allowed.add(urlsplit(public_url).netloc)
    return urlsplit(origin).netloc in allowed


def _browser_ice(server: IceServer) -> dict[str, Any]:
    """An ``RTCIceServer`` as browsers take it."""
    described: dict[str, Any] = {"urls": list(server.urls)}
    if server.username is not None:
        described["username"] = server.username
    if server.credential is not None:
        described["credential"] = server.credential.get_secret_value()
    return described


def _json(status: int, value: object, headers: dict[str, str] | None = None) -> Response:
    return Response(
        json.dumps(value, ensure_ascii=False),
        status_code=status,
        media_type="application/json",
        headers=SECURITY | {"Cache-Control": "no-store"} | (headers or {}),
    )


def _refuse(status: int, code: str, message: str, *, retry_after: float | None = None) -> Response:
    headers = {} if retry_after is None else {"Retry-After": str(max(1, round(retry_after)))}
    return _json(status, {"error": code, "message": message}, headers)
