"""A browser call's HTTP side: its offer, its candidates as they come, its return, its end.

``POST /webrtc/offer`` shows a token and gets an answer, the call's id and its secret. With the
secret as bearer (RFC 6750) the call is changed at ``/webrtc/calls/ID``: ``PATCH`` adds candidates
(RFC 8840 §9, as WHIP does it, RFC 9725 §4.3), ``POST …/resume`` replaces the connection, and
``DELETE`` hangs up. An unknown call and a wrong secret are answered alike.

A page of another site may do so where the settings name its origin and its token is bound to it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter, Request, Response

from ringtrue.agent.web.assets import SECURITY
from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.ports import EndReason
from ringtrue.telephony.webrtc.access import AccessTokens, TokenError
from ringtrue.telephony.webrtc.calls import WebRtcCall
from ringtrue.telephony.webrtc.candidates import MEDIA_TYPE, parse_fragment
from ringtrue.telephony.webrtc.errors import OfferError, WebRtcError
from ringtrue.telephony.webrtc.live import LiveCalls

log = structlog.get_logger(__name__)

MAX_BODY: Final = 96 * 1024
"""Bytes of an offer with its JSON around it."""


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
    call_token: str = ""
    """The call's secret, as :class:`LiveCalls` gave it."""


class BusyError(RingtrueError):
    """No call can be taken now."""

    def __init__(self, retry_after: float = 10.0) -> None:
        """``retry_after`` is when to try again, in seconds."""
        super().__init__(f"all lines are busy; try again in {retry_after:.0f} s")
        self.retry_after = retry_after


class Origins:
    """Whose pages may ask."""

    def __init__(self, public_url: str | None = None, others: Collection[str] = ()) -> None:
        """This server's own, which ``public_url`` may name, and ``others``."""
        self._public = None if public_url is None else urlsplit(public_url).netloc
        self._others = frozenset(others)

    def own(self, request: Request) -> bool:
        """False if a browser says that another site's page sent the request."""
        origin = request.headers.get("origin")
        if origin is None:
            return True
        allowed = {request.headers.get("host", "")}
        if self._public is not None:
            allowed.add(self._public)
        return urlsplit(origin).netloc in allowed

    def foreign(self, request: Request) -> str | None:
        """The named site that sent the request; None if it is our own, or no named one."""
        origin = request.headers.get("origin")
        return origin if origin in self._others and not self.own(request) else None

    def headers(self, request: Request) -> dict[str, str]:
        """What lets a named site's page read the answer (Fetch Standard, CORS)."""
        origin = self.foreign(request)
        return {} if origin is None else {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


Accept = Callable[[OfferRequest], Awaitable[Answer]]


class Signalling:
    """What the routes do."""

    def __init__(
        self,
        accept: Accept,
        *,
        agents: Collection[str],
        tokens: AccessTokens,
        live: LiveCalls,
        origins: Origins,
        clock: Callable[[], float],
    ) -> None:
        """``accept`` answers an offer, see :func:`.router.webrtc_router`; ``clock`` gives Unix
        time in seconds."""
        self._accept = accept
        self._agents = frozenset(agents)
        self._tokens = tokens
        self._live = live
        self._origins = origins
        self._clock = clock

    async def offer(self, request: Request) -> Response:
        """Answer the page's SDP offer."""
        foreign = self._origins.foreign(request)
        if foreign is None and not self._origins.own(request):
            return refuse(403, "origin", "this page belongs to another site")
        body = await read_body(request)
        if body is None:
            return refuse(413, "too_large", f"offer is larger than {MAX_BODY} bytes")
        try:
            asked = _texts(body, "sdp", "token", "agent?")
        except ValueError as error:
            return refuse(400, "request", str(error))
        agent = asked["agent"]
        if agent and agent not in self._agents:
            known = ", ".join(sorted(self._agents))
            return refuse(400, "request", f"unknown agent {agent[:40]!r}; there are: {known}")
        try:
            origin = request.headers.get("origin")
            grant = self._tokens.redeem(asked["token"], now=self._clock(), origin=origin)
        except TokenError as error:
            return refuse(403, "token", str(error))
        if foreign is not None and grant.origin != foreign:
            return refuse(403, "token", "the token isn't bound to this page's site")
        if agent not in ("", grant.agent) or grant.agent not in self._agents:
            return refuse(403, "token", "the token is for another agent")
        client = request.client.host if request.client else ""
        try:
            answer = await self._accept(OfferRequest(asked["sdp"], grant.agent, client))
        except OfferError as error:
            log.warning("webrtc_offer_refused", error=str(error))
            return refuse(400, "offer", str(error))
        except BusyError as error:
            return refuse(503, "busy", str(error), retry_after=error.retry_after)
        told = {"type": "answer", "sdp": answer.sdp, "call_id": answer.call_id}
        if answer.call_token:
            told["call_token"] = answer.call_token
        return reply(200, told)

    async def candidates(self, call_id: str, request: Request) -> Response:
        """Add candidates."""
        call = self._find(call_id, request)
        if call is None:
            return _unknown()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != MEDIA_TYPE:
            return refuse(415, "media_type", f"allowed: {MEDIA_TYPE}")
        body = await read_body(request)
        if body is None:
            return refuse(413, "too_large", f"fragment is larger than {MAX_BODY} bytes")
        try:
            await call.add_candidates(parse_fragment(body.decode("utf-8", "replace")))
        except WebRtcError as error:
            return refuse(422, "candidates", str(error))
        return Response(status_code=204, headers=SECURITY)

    async def resume(self, call_id: str, request: Request) -> Response:
        """Answer an offer that replaces a call's connection."""
        call = self._find(call_id, request)
        if call is None:
            return _unknown()
        body = await read_body(request)
        if body is None:
            return refuse(413, "too_large", f"offer is larger than {MAX_BODY} bytes")
        try:
            sdp = await call.resume(_texts(body, "sdp")["sdp"])
        except ValueError as error:
            return refuse(400, "request", str(error))
        except OfferError as error:
            return refuse(400, "offer", str(error))
        return reply(200, {"type": "answer", "sdp": sdp, "call_id": call.id})

    async def hang_up(self, call_id: str, request: Request) -> Response:
        """End a call."""
        call = self._find(call_id, request)
        if call is None:
            return _unknown()
        await call.hangup(EndReason.CALLER_HUNG_UP)
        return Response(status_code=204, headers=SECURITY)

    def _find(self, call_id: str, request: Request) -> WebRtcCall | None:
        if self._origins.foreign(request) is None and not self._origins.own(request):
            return None
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        return self._live.find(call_id, secret.strip()) if scheme.lower() == "bearer" else None


def signalling_routes(signalling: Signalling, origins: Origins) -> APIRouter:
    """``/webrtc/offer`` and ``/webrtc/calls/ID``."""
    router = APIRouter()

    @router.post("/webrtc/offer")
    async def offer(request: Request) -> Response:
        """Answer the page's SDP offer."""
        return _shared(await signalling.offer(request), request)

    @router.patch("/webrtc/calls/{call}")
    async def candidates(call: str, request: Request) -> Response:
        """Add candidates."""
        return _shared(await signalling.candidates(call, request), request)

    @router.post("/webrtc/calls/{call}/resume")
    async def resume(call: str, request: Request) -> Response:
        """Replace the connection."""
        return _shared(await signalling.resume(call, request), request)

    @router.delete("/webrtc/calls/{call}")
    async def hang_up(call: str, request: Request) -> Response:
        """Hang up."""
        return _shared(await signalling.hang_up(call, request), request)

    @router.options("/webrtc/{path:path}")
    async def ask(path: str, request: Request) -> Response:
        """Tell a named site's page that it may ask; another's gets nothing."""
        headers = origins.headers(request)
        if headers:
            headers |= {
                "Access-Control-Allow-Methods": "POST, PATCH, DELETE",
                "Access-Control-Allow-Headers": "authorization, content-type",
                "Access-Control-Max-Age": "600",
            }
        return Response(status_code=204, headers=SECURITY | headers)

    def _shared(response: Response, request: Request) -> Response:
        headers = origins.headers(request)
        if headers:
            response.headers.update(headers)
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response

    return router


def _texts(body: bytes, *names: str) -> dict[str, str]:
    """The strings of a JSON object; those with ``?`` may be missing.

    Raises ``ValueError`` naming what is wrong.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError("body is not JSON") from error
    if not isinstance(request, dict):
        raise ValueError("body is not a JSON object")
    values = {}
    for name in names:
        key = name.rstrip("?")
        value = request.get(key, "" if name.endswith("?") else None)
        if not isinstance(value, str):
            raise ValueError(f"{key} is missing or no string")
        values[key] = value
    return values


async def read_body(request: Request) -> bytes | None:
    """The body, or None where it is larger than any of ours."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return body


def reply(status: int, value: object, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer that nobody keeps."""
    content: Any = json.dumps(value, ensure_ascii=False)
    return Response(
        content,
        status_code=status,
        media_type="application/json",
        headers=SECURITY | {"Cache-Control": "no-store"} | (headers or {}),
    )


def refuse(status: int, code: str, message: str, *, retry_after: float | None = None) -> Response:
    """A refusal that says why."""
    headers = {} if retry_after is None else {"Retry-After": str(max(1, round(retry_after)))}
    return reply(status, {"error": code, "message": message}, headers)


def _unknown() -> Response:
    return refuse(404, "not_found", "no such call, or it is over")
