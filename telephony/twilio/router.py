"""Twilio's HTTP endpoints: voice webhook, callbacks of placed calls, and the media websocket.

A webhook is believed because Twilio signs it (``X-Twilio-Signature``: HMAC-SHA1 over the URL and
the form, keyed with the account's auth token). The websocket carries no signature, so it must
show the one-use token that signed TwiML gave it as a ``<Parameter>``.
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

from ringtrue.streaming.ports import Direction
from ringtrue.telephony.media_streams.calls import (
    POLICY_VIOLATION,
    Answer,
    SocketClosedError,
    carry,
)
from ringtrue.telephony.media_streams.sockets import StarletteSocket, public_address, read_body
from ringtrue.telephony.tokens import TokenStore
from ringtrue.telephony.twilio.calls import TwilioCall, handshake
from ringtrue.telephony.twilio.placing import OutgoingTwilioCall, TwilioDialler
from ringtrue.telephony.twilio.protocol import TwilioProtocolError
from ringtrue.telephony.twilio.status import CallbackError, read_update
from ringtrue.telephony.twilio.twiml import TOKEN, busy, connect, websocket_url

log = structlog.get_logger(__name__)

MAX_UNAUTHENTICATED: Final = 64
"""Websockets that may be between accept and token at once."""


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
    dialler: TwilioDialler | None = None,
    mark: str = "",
) -> APIRouter:
    """``POST /twilio/voice``, ``POST /twilio/calls/ID`` and the websocket ``/twilio/media``.

    ``answer`` is given each call whose stream showed its token and runs beside it; it is
    cancelled if it outlives the call by 5 s. ``public_url`` (e.g. ``https://voice.example.com``)
    is how Twilio reaches this server; None takes it from the request, which is right only
    without a proxy in between. ``account_sid`` refuses other accounts. ``full`` is asked before
    a call is let in; True answers busy. ``dialler`` places calls; ``mark`` ends tokens and the
    websocket's path.

    Raises ``ValueError`` if ``auth_token`` is empty: no webhook could be believed.
    """
    if not auth_token:
        raise ValueError("twilio auth_token is empty; allowed: the account's auth token")
    router = APIRouter()
    desk = _Desk(RequestValidator(auth_token), public_url, account_sid)
    tokens: TokenStore[Invitation] = TokenStore(token_ttl, mark=mark)
    waiting = 0

    @router.post("/twilio/voice")
    async def voice(request: Request) -> Response:
        form = await desk.form(request)
        if isinstance(form, Response):
            return form
        if full():
            log.info("twilio_call_rejected", reason="full")
            return _twiml(busy())
        invitation = Invitation(
            call_sid=form.get("CallSid", ""),
            account_sid=form.get("AccountSid", ""),
            remote=form.get("From", ""),
            local=form.get("To", ""),
            agent=request.query_params.get("agent"),
        )
        token = tokens.issue(invitation, asyncio.get_running_loop().time())
        base = public_address(request, public_url).partition("?")[0].removesuffix("/twilio/voice")
        return _twiml(connect(websocket_url(base, mark), token))

    @router.post("/twilio/calls/{call}")
    async def progress(call: str, request: Request) -> Response:
        """How a placed call goes."""
        form = await desk.form(request)
        if isinstance(form, Response):
            return form
        if dialler is not None and (outgoing := dialler.find(call)) is not None:
            try:
                update = read_update(form)
            except CallbackError as error:
                log.warning("twilio_callback_refused", error=str(error))
                return Response(str(error), status_code=400)
            outgoing.update(update)
            if outgoing.ended:
                dialler.forget(outgoing)
        return Response(status_code=204)

    @router.websocket("/twilio/media")
    @router.websocket("/twilio/media/{process}")
    async def media(websocket: WebSocket) -> None:
        nonlocal waiting
        if waiting >= MAX_UNAUTHENTICATED:
            await websocket.close(POLICY_VIOLATION)
            return
        await websocket.accept()
        socket = StarletteSocket(websocket)
        waiting += 1
        try:
            call, outgoing = await _admit(socket, tokens, dialler)
        except SocketClosedError:
            return
        except TwilioProtocolError as error:
            log.warning("twilio_stream_refused", error=str(error))
            await socket.close(POLICY_VIOLATION)
            return
        finally:
            waiting -= 1
        if outgoing is None:
            await carry(call, answer)
        elif outgoing.connected(call):
            await call.run()
        else:
            await socket.close(POLICY_VIOLATION)

    return router


class _Desk:
    """Believes what Twilio signed."""

    def __init__(
        self, validator: RequestValidator, public_url: str | None, account_sid: str | None
    ) -> None:
        self._validator = validator
        self._public_url = public_url
        self._account_sid = account_sid

    async def form(self, request: Request) -> ImmutableMultiDict[str, str] | Response:
        """What a webhook says, or what it is refused with."""
        body = await read_body(request)
        if body is None:
            return Response("body too large", status_code=413)
        try:
            pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=200)
        except ValueError:
            return Response("not a form", status_code=400)
        form = ImmutableMultiDict(pairs)
        url = public_address(request, self._public_url)
        signature = request.headers.get("X-Twilio-Signature", "")
        if not signature or not self._validator.validate(url, form, signature):
            log.warning("twilio_signature_refused")
            return Response("signature does not match", status_code=403)
        if self._account_sid is not None and form.get("AccountSid") != self._account_sid:
            log.warning("twilio_account_refused")
            return Response("unknown account", status_code=403)
        return form


async def _admit(
    socket: StarletteSocket, tokens: TokenStore[Invitation], dialler: TwilioDialler | None
) -> tuple[TwilioCall, OutgoingTwilioCall | None]:
    """The call of a websocket that shows its token, and the order that placed it, if any.

    Raises :class:`TwilioProtocolError` where it shows none.
    """
    protocol, started = await handshake(socket)
    token = started.parameters.get(TOKEN, "")
    invitation = tokens.redeem(token, asyncio.get_running_loop().time())
    if invitation is not None:
        called = (invitation.call_sid, invitation.account_sid)
        if called != (started.call_sid, started.account_sid):
            raise TwilioProtocolError("stream token belongs to another call")
        call = TwilioCall(
            socket,
            protocol,
            started,
            remote=invitation.remote,
            local=invitation.local,
            agent=invitation.agent,
        )
        return call, None
    outgoing = None if dialler is None else dialler.redeem(token)
    if outgoing is None:
        raise TwilioProtocolError("stream token is missing, unknown, used or expired")
    if not await outgoing.take(started):
        raise TwilioProtocolError("stream token belongs to another call, or to one given up")
    placed = TwilioCall(
        socket,
        protocol,
        started,
        remote=outgoing.remote,
        local=outgoing.local,
        direction=Direction.OUTBOUND,
    )
    return placed, outgoing


def _twiml(text: str) -> Response:
    return Response(text, media_type="text/xml")
