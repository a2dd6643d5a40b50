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
from fastapi import APIRouter, Request, Response, WebSocket
from starlette.datastructures import ImmutableMultiDict
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from twilio.twiml.voice_response import (  # type: ignore[import-untyped]
    Connect,
    Stream,
    VoiceResponse,
)

from ringtrue.telephony.media_streams.calls import (
    POLICY_VIOLATION,
    Answer,
    SocketClosedError,
    carry,
)
from ringtrue.telephony.media_streams.sockets import StarletteSocket, public_address, read_body
from ringtrue.telephony.tokens import TokenStore
from ringtrue.telephony.twilio.calls import TwilioCall, handshake
from ringtrue.telephony.twilio.protocol import TwilioProtocolError

log = structlog.get_logger(__name__)

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
        body = await read_body(request)
        if body is None:
            return Response("body too large", status_code=413)
        try:
            pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=200)
        except ValueError:
            return Response("not a form", status_code=400)
        form = ImmutableMultiDict(pairs)
        url = public_address(request, public_url)
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
        await carry(call, answer)

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
