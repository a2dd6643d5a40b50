"""The web's listening end: what it looks at, and whom it hands a connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI, Request

from ringtrue.agent.web_server import WebServer, bound
from ringtrue.agent.workers import door as module
from ringtrue.agent.workers.door import Door, OwnAnswer, Seen
from ringtrue.agent.workers.routes import PRIMARY, Target, target_of

TOKEN = "rtw1." + "a" * 80 + "." + "b" * 43

Handler = Callable[[socket.socket, Seen], bool]


def seen(path: str, body: bytes = b"", method: str = "POST") -> Seen:
    return Seen(method, path, f"{method} {path} HTTP/1.1\r\n\r\n".encode() + body)


async def nothing_of_ours(seen: Seen) -> OwnAnswer | None:
    return OwnAnswer(200, b'{"status": "ok"}') if seen.path == "/healthz" else None


@asynccontextmanager
async def opened(
    hand: Handler, own: Callable[[Seen], Awaitable[OwnAnswer | None]] = nothing_of_ours
) -> AsyncIterator[int]:
    listener = bound("127.0.0.1", 0)
    door = Door(listener, own, hand)
    door.open()
    try:
        yield listener.getsockname()[1]
    finally:
        await door.close()


async def closed(reader: asyncio.StreamReader) -> None:
    """Wait for the end of a connection; one that nobody read from is reset."""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(3):
            assert await reader.read() == b""


@asynccontextmanager
async def web() -> AsyncIterator[WebServer]:
    """A web server as a worker has it."""
    app = FastAPI()

    @app.post("/webrtc/offer")
    async def offer(request: Request) -> dict[str, object]:
        body = await request.body()
        return {"bytes": len(body), "client": request.client.port if request.client else 0}

    server = WebServer(app, "127.0.0.1", 0, listens=False)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


# -- whose a request is ---------------------------------------------------------------------------


def test_what_there_is_once_is_with_the_first_worker() -> None:
    for path in ("/v1", "/v1/enrolments/x~w1", "/v1/calls/old", "/twilio/other", "/nothing"):
        assert target_of(seen(path), 4) == PRIMARY


def test_a_call_is_placed_by_anybody_and_asked_for_where_it_was_placed() -> None:
    assert target_of(seen("/v1/calls", method="POST"), 4) is Target.ANY
    assert target_of(seen("/v1/calls", method="GET"), 4) == PRIMARY
    for path in ("/v1/calls/call_0f~w3", "/v1/calls/call_0f~w3/hold"):
        assert target_of(seen(path, method="GET"), 4) == 3


def test_a_call_that_is_ordered_again_is_ordered_of_the_same_worker() -> None:
    def ordered(key: str, name: bytes = b"Idempotency-Key") -> object:
        head = b"POST /v1/calls HTTP/1.1\r\nHost: x\r\n" + name + b": " + key.encode()
        return target_of(Seen("POST", "/v1/calls", head + b"\r\n\r\n{}"), 4)

    assert {ordered(str(number)) for number in range(60)} == {0, 1, 2, 3}
    for number in range(60):
        assert ordered(str(number)) == ordered(str(number) + " ", b"idempotency-key")
    body = b"POST /v1/calls HTTP/1.1\r\n\r\n\r\nidempotency-key: x\r\n"
    assert target_of(Seen("POST", "/v1/calls", body), 4) is Target.ANY  # only the head is read


def test_pages_are_anybodys() -> None:
    for path in ("/", "/static/app.js", "/enrol", "/verify", "/twilio/voice", "/plivo/voice"):
        assert target_of(seen(path, method="GET"), 4) is Target.ANY


def test_a_mark_names_the_worker() -> None:
    assert target_of(seen("/webrtc/calls/webrtc-0f~w2/resume"), 4) == 2
    assert target_of(seen("/twilio/media/~w1"), 4) == 1
    assert target_of(seen("/telnyx/media/abc~w3"), 4) == 3
    assert target_of(seen("/webrtc/calls/webrtc-0f~w7"), 4) == PRIMARY  # there is none such
    assert target_of(seen("/webrtc/calls/x", b"~w2"), 4) == PRIMARY  # only the path is read


def test_a_token_is_always_shown_to_the_same_worker_and_tokens_are_spread() -> None:
    slots = set()
    for number in range(60):
        body = TOKEN.replace("aa", f"{number:02}", 1).encode()
        slot = target_of(seen("/webrtc/offer", body), 4)
        assert slot == target_of(seen("/webrtc/offer", b'{"token": "' + body + b'"}'), 4)
        slots.add(slot)
    assert slots == {0, 1, 2, 3}
    assert target_of(seen("/webrtc/offer", b"{}"), 4) == PRIMARY


def test_a_signed_websocket_request_is_always_shown_to_the_same_worker() -> None:
    def asked(nonce: str) -> Seen:
        text = f'GET /genesys/audiohook HTTP/1.1\r\nsignature-input: s=();nonce="{nonce}"\r\n\r\n'
        return Seen("GET", "/genesys/audiohook", text.encode())

    slots = [target_of(asked(f"nonce-{number}"), 4) for number in range(60)]
    assert slots == [target_of(asked(f"nonce-{number}"), 4) for number in range(60)]
    assert set(slots) == {0, 1, 2, 3}
    assert target_of(seen("/genesys/audiohook", method="GET"), 4) is Target.ANY


# -- the door -------------------------------------------------------------------------------------


async def test_a_request_is_looked_at_and_handed_over_whole() -> None:
    looked: list[Seen] = []
    async with web() as server:

        def hand(connection: socket.socket, seen: Seen) -> bool:
            looked.append(seen)
            server.take(connection.dup())
            return True

        async with opened(hand) as port, httpx.AsyncClient() as client:
            body = b'{"token": "x", "sdp": "' + b"v" * 60_000 + b'"}'
            for number in range(3):
                answer = await client.post(f"http://127.0.0.1:{port}/webrtc/offer", content=body)
                assert answer.json()["bytes"] == len(body)
                assert answer.json()["client"] != port
                assert answer.headers["connection"] == "close"
                assert len(looked) == number + 1  # each by the door
                assert looked[-1].data.endswith(body)
            assert (await client.get(f"http://127.0.0.1:{port}/healthz")).json() == {"status": "ok"}
            assert len(looked) == 3


async def test_a_request_that_comes_in_pieces() -> None:
    looked: list[Seen] = []

    def hand(connection: socket.socket, seen: Seen) -> bool:
        looked.append(seen)
        return True

    async with opened(hand) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in (
            b"POST /webrtc/of",
            b"fer HTTP/1.1\r\nContent-Le",
            b"ngth: 4\r\n\r\nab",
            b"cd",
        ):
            assert not looked
            writer.write(piece)
            await asyncio.sleep(0.03)
        await closed(reader)
        assert looked[0].path == "/webrtc/offer"
        assert looked[0].data.endswith(b"abcd")
        writer.close()


async def test_who_says_nothing_or_noise_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.2)
    taken: list[Seen] = []

    def hand(connection: socket.socket, seen: Seen) -> bool:
        taken.append(seen)
        return True

    async with opened(hand) as port:
        for noise in (
            b"",
            b"\x16\x03\x01\r\n\r\n",
            b"GET",
            b"G ET / HTTP/1.1\r\n\r\n",
            b"\0" * 300_000,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(noise)
            await closed(reader)
            writer.close()
    assert not taken


async def test_the_first_of_too_many_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LOOKING", 2)
    async with opened(lambda connection, seen: True) as port:
        first, kept = await asyncio.open_connection("127.0.0.1", port)
        others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        async with asyncio.timeout(2):
            assert await first.read() == b""
        for writer in (kept, *(pair[1] for pair in others)):
            writer.close()


async def test_nobody_to_take_it() -> None:
    async with opened(lambda connection, seen: False) as port, httpx.AsyncClient() as client:
        answer = await client.post(f"http://127.0.0.1:{port}/v1/calls", json={})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"


async def test_a_website_that_expects_to_be_asked_for_its_body_is_not_kept_waiting() -> None:
    looked: list[Seen] = []

    def hand(connection: socket.socket, seen: Seen) -> bool:
        looked.append(seen)
        return True

    async with opened(hand) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/x HTTP/1.1\r\nContent-Length: 50\r\nExpect: 100-continue\r\n\r\n")
        await closed(reader)
        assert looked[0].path == "/v1/x"
        writer.close()
