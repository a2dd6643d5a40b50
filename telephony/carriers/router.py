"""The carriers' HTTP endpoints: a webhook that proves where it comes from, and its media websocket.

``/CARRIER/voice`` answers a believed webhook with what sends the call to ``/CARRIER/media/TOKEN``;
the token is good once, and soon not at all. Genesys has no webhook: its websocket's own request,
``/genesys/audiohook``, shows an API key and may be signed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs
from xml.sax.saxutils import quoteattr

import structlog
from fastapi import APIRouter, Request, Response, WebSocket
from starlette.responses import JSONResponse

from ringtrue.config.carrier_settings import CarriersSettings
from ringtrue.telephony.carriers import signatures, wires
from ringtrue.telephony.carriers.serialized import load
from ringtrue.telephony.carriers.wires import Begun, Receive
from ringtrue.telephony.media_streams.calls import (
    NORMAL,
    POLICY_VIOLATION,
    Answer,
    SocketClosedError,
    StreamCall,
    carry,
)
from ringtrue.telephony.media_streams.sockets import StarletteSocket, public_address, read_body
from ringtrue.telephony.media_streams.wire import StreamError
from ringtrue.telephony.tokens import TokenStore

log = structlog.get_logger(__name__)

MAX_UNAUTHENTICATED: Final = 64
"""Websockets that may be between accept and the beginning of their stream at once."""

START_TIMEOUT: Final = 5.0
PROBE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A webhook, read."""

    method: str
    url: str
    """As the carrier knows it."""

    headers: dict[str, str]
    body: bytes
    form: dict[str, list[str]]
    """Of the body, or of the query where there is none."""

    def value(self, *names: str) -> str:
        """The first of the parameters that is there."""
        return next((self.form[name][0] for name in names if name in self.form), "")


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a believed webhook said of a call; its stream's token stands for this."""

    carrier: str
    remote: str
    local: str
    agent: str | None


@dataclass(frozen=True, slots=True)
class Carrier:
    """One carrier's ways."""

    name: str
    believes: Callable[[Asked], bool]
    numbers: Callable[[Asked], tuple[str, str]]
    """Who calls, and whom."""

    sends: Callable[[str], Response]
    """The answer that sends the call to a websocket's URL."""

    refuses: Callable[[], Response]
    """The answer when there is no room."""

    begins: Callable[[Receive], Awaitable[Begun]]


def carriers_router(
    answer: Answer,
    settings: CarriersSettings,
    *,
    public_url: str | None = None,
    full: Callable[[], bool] = lambda: False,
    mark: str = "",
    clock: Callable[[], float] = time.time,
) -> APIRouter:
    """The endpoints of every carrier that ``settings`` enable.

    ``answer`` is given each call whose stream has begun and runs beside it. ``public_url`` is how
    carriers reach this server; None takes it from the request. ``full`` is asked before a call
    is let in. ``mark`` ends the tokens. ``clock`` gives Unix time.
    """
    router = APIRouter()
    doors = _Doors(answer, settings, mark)
    for carrier in _carriers(settings, clock):
        _add(router, carrier, doors, public_url, full)
    if settings.genesys.enabled:
        _add_genesys(router, doors, settings, full, clock)
    return router


class _Doors:
    """Lets streams in."""

    def __init__(self, answer: Answer, settings: CarriersSettings, mark: str) -> None:
        self._answer = answer
        self._mark = mark
        self.tokens: TokenStore[Invitation] = TokenStore(
            settings.stream_token_ttl_seconds, mark=mark
        )
        self._waiting = 0

    async def enter(
        self,
        websocket: WebSocket,
        invitation: Invitation,
        begins: Callable[[Receive], Awaitable[Begun]],
    ) -> None:
        """Take a stream from its first message to its end."""
        if self._waiting >= MAX_UNAUTHENTICATED:
            await websocket.close(POLICY_VIOLATION)
            return
        await websocket.accept()
        socket = StarletteSocket(websocket)
        self._waiting += 1
        try:
            async with asyncio.timeout(START_TIMEOUT):
                begun = await begins(socket.receive)
                await begun.wire.begin()
                for reply in begun.replies:
                    await socket.send(reply)
        except SocketClosedError:
            return
        except (StreamError, TimeoutError) as error:
            log.warning("carrier_stream_refused", carrier=invitation.carrier, error=str(error))
            await socket.close(POLICY_VIOLATION)
            return
        finally:
            self._waiting -= 1
        if begun.probe:
            await _probe(socket, begun)
            return
        stream = hashlib.sha256(begun.stream.encode() or websocket.url.path.encode()).hexdigest()
        call = StreamCall(
            socket,
            begun.wire,
            call_id=f"{invitation.carrier}-{stream[:24]}{self._mark}",
            transport=invitation.carrier,
            remote=invitation.remote or begun.remote,
            local=invitation.local or begun.local,
            agent=invitation.agent,
        )
        await carry(call, self._answer)


async def _probe(socket: StarletteSocket, begun: Begun) -> None:
    """Answer a session that only tries the connection, until it is closed."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            while True:
                for message in await wires.answer_probe(begun, socket.receive):
                    await socket.send(message)
    except (SocketClosedError, StreamError, TimeoutError):
        await socket.close(NORMAL)


def _add(
    router: APIRouter,
    carrier: Carrier,
    doors: _Doors,
    public_url: str | None,
    full: Callable[[], bool],
) -> None:
    async def voice(request: Request) -> Response:
        body = await read_body(request)
        if body is None:
            return Response("body too large", status_code=413)
        asked = _asked(request, body, public_url)
        if asked is None:
            return Response("not a form", status_code=400)
        if not carrier.believes(asked):
            log.warning("carrier_webhook_refused", carrier=carrier.name)
            return Response("not believed", status_code=403)
        if full():
            log.info("carrier_call_rejected", carrier=carrier.name, reason="full")
            return carrier.refuses()
        remote, local = carrier.numbers(asked)
        invitation = Invitation(carrier.name, remote, local, request.query_params.get("agent"))
        token = doors.tokens.issue(invitation, asyncio.get_running_loop().time())
        base = asked.url.partition("?")[0].removesuffix("/voice")
        scheme, _, rest = base.partition("://")
        return carrier.sends(f"{'ws' if scheme == 'http' else 'wss'}://{rest}/media/{token}")

    async def media(websocket: WebSocket, token: str) -> None:
        invitation = doors.tokens.redeem(token, asyncio.get_running_loop().time())
        if invitation is None or invitation.carrier != carrier.name:
            log.warning("carrier_token_refused", carrier=carrier.name)
            await websocket.close(POLICY_VIOLATION)  # before accept: HTTP 403
            return
        await doors.enter(websocket, invitation, carrier.begins)

    router.add_api_route(f"/{carrier.name}/voice", voice, methods=["GET", "POST"])
    router.add_api_websocket_route(f"/{carrier.name}/media/{{token}}", media)


def _add_genesys(
    router: APIRouter,
    doors: _Doors,
    settings: CarriersSettings,
    full: Callable[[], bool],
    clock: Callable[[], float],
) -> None:
    genesys = settings.genesys
    assert genesys.api_key is not None
    key = genesys.api_key.get_secret_value()
    secret = genesys.client_secret
    nonces = signatures.Nonces(2 * signatures.MAX_SOCKET_AGE)

    def believed(websocket: WebSocket) -> bool:
        headers = dict(websocket.headers)
        if not signatures.same(headers.get("x-api-key", ""), key):
            return False
        if secret is None:
            return True
        query = websocket.url.query
        target = websocket.url.path + (f"?{query}" if query else "")
        shared = base64.b64decode(secret.get_secret_value())
        return signatures.genesys(headers, target, shared, nonces, clock())

    async def audiohook(websocket: WebSocket) -> None:
        if not believed(websocket) or full():
            log.warning("carrier_socket_refused", carrier="genesys")
            await websocket.close(POLICY_VIOLATION)
            return
        invitation = Invitation("genesys", "", "", websocket.query_params.get("agent"))
        await doors.enter(websocket, invitation, wires.begin_genesys)

    router.add_api_websocket_route("/genesys/audiohook", audiohook)


def _asked(request: Request, body: bytes, public_url: str | None) -> Asked | None:
    try:
        if body and request.headers.get("content-type", "").startswith("application/json"):
            form = {key: [value] for key, value in load(body.decode()).items() if _is_text(value)}
        else:
            text = body.decode() if body else request.url.query
            form = parse_qs(text, keep_blank_values=True, max_num_fields=200)
    except (ValueError, StreamError):
        return None
    url = public_address(request, public_url)
    return Asked(request.method, url, dict(request.headers), body, form)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _carriers(settings: CarriersSettings, clock: Callable[[], float]) -> list[Carrier]:
    made = (_telnyx, _plivo, _exotel, _vonage)
    return [carrier for make in made if (carrier := make(settings, clock)) is not None]


def _telnyx(settings: CarriersSettings, clock: Callable[[], float]) -> Carrier | None:
    telnyx = settings.telnyx
    if not telnyx.enabled:
        return None
    public = base64.b64decode(telnyx.public_key or "")
    key = None if telnyx.api_key is None else telnyx.api_key.get_secret_value()

    def sends(url: str) -> Response:
        return _xml(
            f'<Connect><Stream url={quoteattr(url)} bidirectionalMode="rtp" '
            'bidirectionalCodec="PCMU"/></Connect><Hangup/>'
        )

    return Carrier(
        "telnyx",
        lambda asked: signatures.telnyx(asked.headers, asked.body, public, clock()),
        lambda asked: (asked.value("From"), asked.value("To")),
        sends,
        lambda: _xml('<Reject reason="busy"/>'),
        lambda receive: wires.begin_telnyx(receive, api_key=key),
    )


def _plivo(settings: CarriersSettings, clock: Callable[[], float]) -> Carrier | None:
    plivo = settings.plivo
    if not plivo.enabled or plivo.auth_id is None or plivo.auth_token is None:
        return None
    auth_id, token = plivo.auth_id, plivo.auth_token.get_secret_value()

    def believes(asked: Asked) -> bool:
        form = asked.form if asked.body else {}
        return signatures.plivo(asked.headers, asked.method, asked.url, form, token)

    def sends(url: str) -> Response:
        return _xml(
            '<Stream bidirectional="true" keepCallAlive="true" '
            f'contentType="audio/x-mulaw;rate=8000">{url}</Stream>'
        )

    return Carrier(
        "plivo",
        believes,
        lambda asked: (asked.value("From"), asked.value("To")),
        sends,
        lambda: _xml('<Hangup reason="busy"/>'),
        lambda receive: wires.begin_plivo(receive, auth_id=auth_id, auth_token=token),
    )


def _exotel(settings: CarriersSettings, clock: Callable[[], float]) -> Carrier | None:
    exotel = settings.exotel
    if not exotel.enabled or exotel.api_key is None or exotel.api_token is None:
        return None
    key, token, rate = exotel.api_key, exotel.api_token.get_secret_value(), exotel.rate

    def sends(url: str) -> Response:
        return JSONResponse({"url": f"{url}?sample-rate={rate}"})

    return Carrier(
        "exotel",
        lambda asked: signatures.basic(asked.headers.get("authorization", ""), key, token),
        lambda asked: (asked.value("CallFrom", "From"), asked.value("CallTo", "To")),
        sends,
        lambda: Response("all lines are busy", status_code=503),
        lambda receive: wires.begin_exotel(receive, rate=rate),
    )


def _vonage(settings: CarriersSettings, clock: Callable[[], float]) -> Carrier | None:
    vonage = settings.vonage
    if not vonage.enabled or vonage.signature_secret is None:
        return None
    secret, rate = vonage.signature_secret.get_secret_value(), vonage.rate

    def believes(asked: Asked) -> bool:
        header = asked.headers.get("authorization", "")
        return signatures.vonage(header, asked.body, secret, vonage.api_key, clock())

    def sends(url: str) -> Response:
        endpoint: dict[str, Any] = {
            "type": "websocket",
            "uri": url,
            "content-type": f"audio/l16;rate={rate}",
        }
        return JSONResponse([{"action": "connect", "endpoint": [endpoint]}])

    return Carrier(
        "vonage",
        believes,
        lambda asked: (asked.value("from"), asked.value("to")),
        sends,
        lambda: JSONResponse([]),  # an empty NCCO hangs up
        lambda receive: wires.begin_vonage(receive, rate=rate),
    )


def _xml(verbs: str) -> Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?><Response>{verbs}</Response>'
    return Response(text, media_type="text/xml")
