"""The two HTTP endpoints of a Twilio number: the voice webhook and the media websocket.

The webhook is believed because Twilio signs it (``X-Twilio-Signature``: HMAC-SHA1 over the URL
and the form, keyed with the account's auth token). The websocket carries no signature, so it
must show the one-use token that the webhook's TwiML gave it as a ``<Parameter>``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

import structlog
from fastapi import APIRouter, Request, Response, WebSocket, WebSocketDisconnect
from starlette.datastructures import ImmutableMultiDict
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from twilio.twiml.voice_response import (  # type: ignore[import-untyped]
    Connect,
    Stream,
    VoiceResponse,
)

from ringtrue.telephony.tokens import TokenStore
from ringtrue.telephony.twilio.calls import (
    POLICY_VIOLATION,
    Answer,
    SocketClosedError,
    TwilioCall,
    handshake,
)
from ringtrue.telephony.twilio.protocol import TwilioProtocolError

log = structlog.get_logger(__name__)

MAX_FORM: Final = 32 * 1024
"""Bytes of a webhook's body; Twilio's have about one thousand."""

MAX_UNAUTHENTICATED: Final = 64
"""Websockets that may be between accept and token at once."""

TOKEN: Final = "token"
"""Name of the ``<Parameter>``."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """What the signed webhook said of a call; its stream token stands for this."""

    call_sid: str
    account_sid: str
    remote: str
    local: str
    agent: str | None


def twilio_router(
    answer: Answer,
    *,
    auth_token: str,
    public_url: str | None = None,
    account_sid: str | None = None,
    token_ttl: float = 30.0,
    full: Callable[[], bool] = lambda: False,
) -> APIRouter:
    """``POST /twilio/voice`` and the websocket ``/twilio/media``.

    ``answer`` is given each call whose stream showed its token and runs beside it; it is
    cancelled if it outlives the call by 5 s. ``public_url`` (e.g. ``https://voice.example.com``)
    is how Twilio reaches this server; None takes it from the request, which is right only
    without a proxy in between. ``account_sid`` refuses other accounts. ``full`` is asked before
    a call is let in; True answers busy.

    Raises ``ValueError`` if ``auth_token`` is empty: no webhook could be believed.
    """
    if not auth_token:
        raise ValueError("twilio auth_token is empty; allowed: the account's auth token")
    router = APIRouter()
    validator = RequestValidator(auth_token)
    tokens: TokenStore[Invitation] = TokenStore(token_ttl)
    waiting = 0

    @router.post("/twilio/voice")
    async def voice(request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return Response("body too large", status_code=413)
        try:
            pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=200)
        except ValueError:
            return Response("not a form", status_code=400)
        form = ImmutableMultiDict(pairs)
        url = _public(request, public_url)
        signature = request.headers.get("X-Twilio-Signature", "")
        if not signature or not validator.validate(url, form, signature):
            log.warning("twilio_signature_refused")
            return Response("signature does not match", status_code=403)
        if account_sid is not None and form.get("AccountSid") != account_sid:
            log.warning("twilio_account_refused")
            return Response("unknown account", status_code=403)
        if full():
            log.info("twilio_call_rejected", reason="full")
            return _twiml(_busy())
        invitation = Invitation(
            call_sid=form.get("CallSid", ""),
            account_sid=form.get("AccountSid", ""),
            remote=form.get("From", ""),
            local=form.get("To", ""),
            agent=request.query_params.get("agent"),
        )
        token = tokens.issue(invitation, asyncio.get_running_loop().time())
        return _twiml(_connect(_media_url(url), token))

    @router.websocket("/twilio/media")
    async def media(websocket: WebSocket) -> None:
        nonlocal waiting
        if waiting >= MAX_UNAUTHENTICATED:
            await websocket.close(POLICY_VIOLATION)
            return
        await websocket.accept()
        socket = StarletteSocket(websocket)
        waiting += 1
        try:
            call = await _admit(socket, tokens)
        except SocketClosedError:
            return
        except TwilioProtocolError as error:
            log.warning("twilio_stream_refused", error=str(error))
            await socket.close(POLICY_VIOLATION)
            return
        finally:
            waiting -= 1
        await _carry(call, answer)

    return router


async def _admit(socket: StarletteSocket, tokens: TokenStore[Invitation]) -> TwilioCall:
    """The call of a websocket that shows its token; :class:`TwilioProtocolError` otherwise."""
    protocol, started = await handshake(socket)
    now = asyncio.get_running_loop().time()
    invitation = tokens.redeem(started.parameters.get(TOKEN, ""), now)
    if invitation is None:
        raise TwilioProtocolError("stream token is missing, unknown, used or expired")
    if (invitation.call_sid, invitation.account_sid) != (started.call_sid, started.account_sid):
        raise TwilioProtocolError("stream token belongs to another call")
    return TwilioCall(
        socket,
        protocol,
        started,
        remote=invitation.remote,
        local=invitation.local,
        agent=invitation.agent,
    )


async def _carry(call: TwilioCall, answer: Answer) -> None:
    """Run the call and the agent beside it; whichever fails, both end."""
    agent = asyncio.create_task(_answered(call, answer), name=f"{call.id} agent")
    try:
        await call.run()
        _, late = await asyncio.wait({agent}, timeout=5.0)
        if late:
            log.warning("twilio_agent_late", call=call.id)
    finally:
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)


async def _answered(call: TwilioCall, answer: Answer) -> None:
    try:
        await answer(call)
    except Exception as error:  # an agent that fails must not leave the caller on a dead line
        log.error("twilio_agent_fault", call=call.id, error=repr(error))
    await call.hangup()


class StarletteSocket:
    """Starlette's websocket as a :class:`~ringtrue.telephony.twilio.calls.TextSocket`."""

    def __init__(self, websocket: WebSocket) -> None:
        """Wrap an accepted websocket."""
        self._websocket = websocket

    async def receive(self) -> str | bytes:
        """The next message. Raises :class:`SocketClosedError` once it is closed."""
        try:
            message = await self._websocket.receive()
        except RuntimeError as error:  # Starlette's word for "closed before"
            raise SocketClosedError from error
        if message["type"] == "websocket.disconnect":
            raise SocketClosedError
        text = message.get("text")
        if isinstance(text, str):
            return text
        return bytes(message.get("bytes") or b"")

    async def send(self, text: str) -> None:
        """Send a text message. Raises :class:`SocketClosedError` once it is closed."""
        try:
            await self._websocket.send_text(text)
        except (RuntimeError, WebSocketDisconnect) as error:
            raise SocketClosedError from error

    async def close(self, code: int) -> None:
        """Close with ``code``; harmless when closed already."""
        try:
            await self._websocket.close(code)
        except (RuntimeError, WebSocketDisconnect):
            return


async def _body(request: Request) -> bytes | None:
    """The body, or None if it is larger than a webhook's ever is."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            return None
    return body


def _public(request: Request, public_url: str | None) -> str:
    """The URL Twilio signed."""
    if public_url is None:
        return str(request.url)
    query = request.url.query
    return public_url.rstrip("/") + request.url.path + (f"?{query}" if query else "")


def _media_url(voice_url: str) -> str:
    scheme, _, rest = voice_url.partition("://")
    base = rest.partition("?")[0].removesuffix("/twilio/voice")
    return f"{'ws' if scheme == 'http' else 'wss'}://{base}/twilio/media"


def _connect(url: str, token: str) -> VoiceResponse:
    response = VoiceResponse()
    stream = Stream(url=url)
    stream.parameter(name=TOKEN, value=token)
    connect = Connect()
    connect.append(stream)
    response.append(connect)
    response.hangup()
    return response


def _busy() -> VoiceResponse:
    response = VoiceResponse()
    response.reject(reason="busy")
    return response


def _twiml(response: VoiceResponse) -> Response:
    return Response(str(response), media_type="text/xml")
