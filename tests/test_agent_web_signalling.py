"""A browser call's HTTP side: who may begin one, and who may change it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from httpx import ASGITransport
from outbound_line import REMINDER
from voices_office import Office as VoicesOffice
from voices_office import open_office, problem

from peers.loopback import ensure_ice_address
from peers.webrtc_client import WebRtcCaller
from ringtrue.agent.browser_setup import ice_policy
from ringtrue.agent.voices_api import PROBLEMS
from ringtrue.agent.web.router import AgentChoice, Answer, OfferRequest, webrtc_router
from ringtrue.agent.webrtc_api import TokenDesk, router
from ringtrue.config.webrtc_settings import WebRtcSettings
from ringtrue.streaming.ports import EndReason
from ringtrue.telephony.webrtc.access import AccessTokens
from ringtrue.telephony.webrtc.calls import WebRtcCall
from ringtrue.telephony.webrtc.candidates import MEDIA_TYPE
from ringtrue.telephony.webrtc.live import LiveCalls

SHOP = "https://shop.example.com"
NOW = 1_700_000_000.0
WEBRTC = WebRtcSettings.model_validate(
    {
        "origins": [SHOP],
        "turn": {"urls": ["turn:turn.example.com"], "secret": "north"},
        "relay_only": True,
    }
)


class Office:
    """Real calls, answered by nobody."""

    def __init__(self) -> None:
        self.live = LiveCalls()
        self.tokens = AccessTokens(b"k" * 32)
        self.calls: list[WebRtcCall] = []
        self.app = FastAPI()
        self.app.include_router(
            webrtc_router(
                self.accept,
                agents=[AgentChoice("demo", "Demo"), AgentChoice("desk", "Desk", tenant="acme")],
                tokens=self.tokens,
                live=self.live,
                ice=ice_policy(WEBRTC, lambda: NOW),
                origins=WEBRTC.origins,
                clock=lambda: NOW,
            )
        )

    async def accept(self, request: OfferRequest) -> Answer:
        call = WebRtcCall(local=request.agent)
        self.calls.append(call)
        return Answer(await call.answer(request.sdp), call.id, self.live.add(call))

    def token(self, agent: str = "demo", **options: Any) -> str:
        return self.tokens.mint(agent, "default", now=NOW, ttl=60, **options)[0]


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    ensure_ice_address()
    held = Office()
    yield held
    for call in held.calls:
        await call.hangup(EndReason.SHUTDOWN)


@pytest.fixture
async def client(office: Office) -> AsyncIterator[httpx.AsyncClient]:
    transport = ASGITransport(app=office.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as held:
        yield held


@pytest.fixture
async def offer() -> AsyncIterator[str]:
    caller = WebRtcCaller()
    yield await caller.offer()
    await caller.close()


async def placed(client: httpx.AsyncClient, office: Office, offer: str) -> dict[str, str]:
    answer = await client.post("/webrtc/offer", json={"sdp": offer, "token": office.token()})
    assert answer.status_code == 200, answer.text
    told: dict[str, str] = answer.json()
    return told


async def test_a_session_is_for_one_agent_and_has_a_relay_of_its_own(
    client: httpx.AsyncClient, office: Office
) -> None:
    first = (await client.post("/webrtc/session", json={"agent": "desk"})).json()
    second = (await client.post("/webrtc/session")).json()
    (relay,) = first["ice_servers"]
    assert relay["urls"] == ["turn:turn.example.com"]
    assert relay["username"].startswith(f"{int(NOW) + 3600}:")
    assert relay["username"] != second["ice_servers"][0]["username"]
    assert first["ice_transport_policy"] == "relay"
    assert first["reconnect_seconds"] == 10
    assert "tenant" not in first["agents"][0]
    grant = office.tokens.redeem(first["token"], now=NOW, origin=None)
    assert (grant.agent, grant.tenant) == ("desk", "acme")
    assert office.tokens.redeem(second["token"], now=NOW, origin=None).agent == "demo"
    assert (await client.post("/webrtc/session", json={"agent": "boss"})).status_code == 400


async def test_a_token_for_one_agent_calls_no_other(
    client: httpx.AsyncClient, office: Office, offer: str
) -> None:
    body = {"sdp": offer, "token": office.token("desk"), "agent": "demo"}
    refused = await client.post("/webrtc/offer", json=body)
    assert (refused.status_code, refused.json()["message"]) == (
        403,
        "the token is for another agent",
    )
    body = {"sdp": offer, "token": office.token("gone")}
    assert (await client.post("/webrtc/offer", json=body)).status_code == 403
    assert not office.calls


async def test_a_call_is_changed_with_its_secret_alone(
    client: httpx.AsyncClient, office: Office, offer: str
) -> None:
    told = await placed(client, office, offer)
    path = f"/webrtc/calls/{told['call_id']}"
    right = {"Authorization": f"Bearer {told['call_token']}"}
    end = "a=end-of-candidates\r\n"
    wrongs: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer x"},
        {"Authorization": f"Basic {told['call_token']}"},
        right | {"Origin": "https://evil.example.com"},
    ]
    for headers in wrongs:
        refused = [
            await client.patch(path, content=end, headers=headers | {"Content-Type": MEDIA_TYPE}),
            await client.post(f"{path}/resume", json={"sdp": offer}, headers=headers),
            await client.delete(path, headers=headers),
        ]
        assert [answer.status_code for answer in refused] == [404, 404, 404]
    unknown = await client.delete("/webrtc/calls/webrtc-0", headers=right)
    assert (unknown.status_code, unknown.json()) == (404, refused[0].json())

    typed = right | {"Content-Type": MEDIA_TYPE}
    assert (await client.patch(path, content=end, headers=right)).status_code == 415
    assert (await client.patch(path, content="v=0", headers=typed)).status_code == 422
    assert (await client.patch(path, content=b"x" * 200_000, headers=typed)).status_code == 413
    assert (await client.patch(path, content=end, headers=typed)).status_code == 204
    early = await client.post(f"{path}/resume", json={"sdp": offer}, headers=right)
    assert (early.status_code, early.json()["message"]) == (400, "the call is not up yet")
    assert (await client.post(f"{path}/resume", content=b"[]", headers=right)).status_code == 400
    assert (await client.delete(path, headers=right)).status_code == 204
    assert await office.calls[0].ended() is EndReason.CALLER_HUNG_UP
    assert (await client.delete(path, headers=right)).status_code == 404


async def test_another_sites_page_calls_with_a_token_bound_to_it(
    client: httpx.AsyncClient, office: Office, offer: str
) -> None:
    def body(token: str) -> dict[str, str]:
        return {"sdp": offer, "token": token}

    shop = {"Origin": SHOP}
    asked = await client.options("/webrtc/offer", headers=shop)
    assert asked.headers["access-control-allow-origin"] == SHOP
    assert "PATCH" in asked.headers["access-control-allow-methods"]
    other = await client.options("/webrtc/offer", headers={"Origin": "https://evil.example.com"})
    assert "access-control-allow-origin" not in other.headers

    unbound = await client.post("/webrtc/offer", json=body(office.token()), headers=shop)
    assert (unbound.status_code, unbound.json()["error"]) == (403, "token")
    bound = office.token(origin=SHOP)
    assert (await client.post("/webrtc/offer", json=body(bound))).status_code == 403
    answer = await client.post("/webrtc/offer", json=body(bound), headers=shop)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert answer.headers["vary"] == "Origin"
    # tokens of the page itself stay with it
    assert (await client.post("/webrtc/session", headers=shop)).status_code == 403


@pytest.fixture
async def voices(tmp_path: Path) -> AsyncIterator[VoicesOffice]:
    other = REMINDER.model_copy(update={"name": "other", "tenant": "acme"})
    agents = {"reminder": REMINDER, "other": other}
    async with open_office(tmp_path) as held:
        held.api.app.state.webrtc_tokens = TokenDesk(
            AccessTokens(b"k" * 32),
            agents,
            ice_policy(WEBRTC, lambda: NOW),
            origins=WEBRTC.origins,
            clock=lambda: NOW,
        )
        held.api.app.include_router(router, responses=PROBLEMS)
        yield held


async def test_a_key_makes_tokens_for_its_own_agents(voices: VoicesOffice) -> None:
    client = await voices.as_tenant("default", "webrtc:token")
    wanted: dict[str, Any] = {"agent": "reminder", "origin": SHOP, "ttl_seconds": 30}
    made = await client.post("/v1/webrtc/tokens", json=wanted)
    assert made.status_code == 201, made.text
    assert made.headers["cache-control"] == "no-store"
    told = made.json()
    assert datetime.fromisoformat(told["expires_at"]).timestamp() == NOW + 30
    assert told["ice_servers"][0]["username"].startswith(f"{int(NOW) + 3600}:")
    grant = AccessTokens(b"k" * 32).redeem(told["token"], now=NOW, origin=SHOP)
    assert (grant.agent, grant.tenant) == ("reminder", "default")

    async def refused(status: int, kind: str, **changes: Any) -> None:
        problem(await client.post("/v1/webrtc/tokens", json=wanted | changes), status, kind)

    await refused(404, "no-such-agent", agent="other")
    await refused(404, "no-such-agent", agent="boss")
    await refused(422, "invalid-request", origin="https://evil.example.com")
    await refused(422, "invalid-request", ttl_seconds=86_400)
    reader = await voices.as_tenant("default", "calls:place")
    problem(await reader.post("/v1/webrtc/tokens", json=wanted), 403, "missing-scope")
    nobody = voices.client(None)
    problem(await nobody.post("/v1/webrtc/tokens", json=wanted), 401, "unauthorized")
