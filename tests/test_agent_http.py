"""What the web server answers, and what it doesn't where it is switched off."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from httpx import ASGITransport
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from peers.twilio_client import new_sid, signed_headers
from ringtrue.agent.browser_setup import EXAMPLES
from ringtrue.agent.http import build_app
from ringtrue.agent.server import Server
from ringtrue.agent.web.enrol import FILES
from ringtrue.config.settings import load_settings

AUTH = "0123456789abcdef0123456789abcdef"
TWILIO = {"TWILIO__ENABLED": "true", "TWILIO__AUTH_TOKEN": AUTH}
ROUTES = ["/", "/static/app.js", "/healthz", "/readyz", "/metrics"]


def server_with(**settings: str) -> Server:
    """A server that is built and not started."""
    return Server(load_settings(environ={f"RINGTRUE_{k}": v for k, v in settings.items()}))


@asynccontextmanager
async def visitor(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    transport = ASGITransport(app=build_app(server))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_health_and_readiness_are_told_apart() -> None:
    server = server_with()
    async with visitor(server) as client:
        alive, early = await client.get("/healthz"), await client.get("/readyz")
        assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
        assert (early.status_code, early.json()) == (503, {"status": "not ready"})
        server.ready = True
        assert server.calls.reserve() is None
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "calls": 1})
        server.calls.door.capacity.shut_by = "loop"
        assert (await client.get("/readyz")).json() == {**ready.json(), "shut_by": "loop"}
        server.ready = False
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200


async def test_metrics_are_prometheus_text() -> None:
    server = server_with(SERVER__MAX_CALLS="1")
    server.calls.reserve()
    server.calls.reserve()
    async with visitor(server) as client:
        page = await client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=")
    lines = page.text.splitlines()
    assert 'ringtrue_calls_refused_total{reason="full"} 1.0' in lines
    assert "# TYPE ringtrue_ttfa_seconds histogram" in lines


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({}, set()),
        ({"HTTP__METRICS": "false"}, {"/metrics"}),
        ({"WEBRTC__ENABLED": "false"}, {"/", "/static/app.js"}),
    ],
)
async def test_what_is_off_is_not_there(settings: dict[str, str], missing: set[str]) -> None:
    async with visitor(server_with(**settings)) as client:
        answers = {path: (await client.get(path)).status_code for path in ROUTES}
        posts = {
            path: (await client.post(path)).status_code
            for path in ("/webrtc/session", "/webrtc/offer", "/twilio/voice")
        }
    assert {path for path, status in answers.items() if status == 404} == missing
    assert (posts["/webrtc/session"] == 404) == ("/" in missing)
    assert (posts["/webrtc/offer"] == 404) == ("/" in missing)
    assert posts["/twilio/voice"] == 404


async def test_cloned_voices_are_served_unless_switched_off() -> None:
    async with visitor(server_with()) as client:
        page = await client.get("/enrol")
        assert (page.status_code, "unsafe" in page.headers["content-security-policy"]) == (
            200,
            False,
        )
        for name in (*FILES, "router.py", "..%2frouter.py", "enrol.html"):
            found = (await client.get(f"/enrol/{name}")).status_code
            assert found == (200 if name in FILES else 404), name
        assert (await client.get("/v1/openapi.json")).status_code == 200
        assert (await client.get("/v1/voices")).status_code == 401
        # No library of voices has been opened.
        shown = await client.get("/v1/voices", headers={"Authorization": "Bearer x"})
        assert (shown.status_code, shown.headers["retry-after"]) == (503, "30")
    async with visitor(server_with(VOICES__ENABLED="false")) as client:
        for path in ("/enrol", "/enrol/enrol.js", "/v1/voices", "/v1/openapi.json"):
            assert (await client.get(path)).status_code == 404


async def test_nothing_describes_the_interface_to_strangers() -> None:
    async with visitor(server_with()) as client:
        for path in ("/docs", "/redoc", "/openapi.json"):
            assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("settings", [{}, TWILIO])
def test_the_media_websocket_needs_twilio_and_a_token(settings: dict[str, str]) -> None:
    server = server_with(**settings)
    client = TestClient(build_app(server))

    def knock() -> None:
        with client.websocket_connect("/twilio/media") as socket:
            socket.send_json({"event": "start"})
            socket.receive_json()

    with pytest.raises(WebSocketDisconnect):
        knock()
    assert len(server.calls) == 0


async def ring(client: httpx.AsyncClient, url: str) -> httpx.Response:
    form = {"CallSid": new_sid("CA"), "AccountSid": new_sid("AC"), "From": "a", "To": "b"}
    return await client.post(
        "/twilio/voice", data=form, headers=signed_headers(AUTH, f"{url}/twilio/voice", form)
    )


async def test_the_webhook_takes_no_place_and_counts_who_it_refuses() -> None:
    server = server_with(**TWILIO, SERVER__MAX_CALLS="1")
    async with visitor(server) as client:
        for _ in range(2):
            assert "<Connect>" in (await ring(client, "http://test")).text
        assert len(server.calls) == 0
        assert server.calls.reserve() is None
        assert '<Reject reason="busy"' in (await ring(client, "http://test")).text
        assert 'refused_total{reason="full"} 1.0' in (await client.get("/metrics")).text
        server.calls.release()
        assert "<Connect>" in (await ring(client, "http://test")).text


async def test_the_webhook_is_signed_for_the_public_url() -> None:
    public = "https://voice.example.com"
    async with visitor(server_with(**TWILIO, HTTP__PUBLIC_URL=public)) as client:
        assert (await ring(client, "http://test")).status_code == 403
        answer = await ring(client, public)
    assert 'url="wss://voice.example.com/twilio/media"' in answer.text


async def test_the_page_is_told_the_agents_and_what_to_say() -> None:
    server = server_with(SERVER__NAME="Test line")
    async with visitor(server) as client:
        session = (await client.post("/webrtc/session")).json()
    assert session["name"] == "Test line"
    names = [agent["name"] for agent in session["agents"]]
    assert names[0] == "demo"
    assert set(names) == set(server.agents.agents)
    for choice in session["agents"]:
        dialogue = server.agents.agents[choice["name"]].dialogue
        assert dialogue is not None
        known = {text for intent in dialogue.intents.values() for text in intent.examples}
        assert 0 < len(choice["examples"]) <= EXAMPLES
        assert set(choice["examples"]) <= known
        assert not re.search(r"[{}]", "".join(choice["examples"]))


async def test_offers_that_come_to_nothing_keep_no_place() -> None:
    server = server_with(SERVER__MAX_CALLS="1")

    async with visitor(server) as client:

        async def offer() -> httpx.Response:
            token = (await client.post("/webrtc/session")).json()["token"]
            body = {"sdp": "v=0\r\n", "token": token, "agent": "demo"}
            return await client.post("/webrtc/offer", json=body)

        refused = await offer()
        assert (refused.status_code, refused.json()["error"]) == (400, "offer")
        assert len(server.calls) == 0
        server.calls.reserve()
        busy = await offer()
        assert (busy.status_code, busy.json()["error"]) == (503, "busy")
        assert int(busy.headers["retry-after"]) > 0
        assert len(server.calls) == 1
