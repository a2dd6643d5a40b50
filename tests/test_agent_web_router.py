"""The page's HTTP side."""

import json
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from httpx import ASGITransport

from ringtrue.agent.web.assets import TYPES
from ringtrue.agent.web.router import (
    _ASSETS,
    AgentChoice,
    Answer,
    BusyError,
    IcePolicy,
    OfferRequest,
    webrtc_router,
)
from ringtrue.config.webrtc_settings import IceServer
from ringtrue.telephony.webrtc.errors import OfferError

AGENTS = (AgentChoice("demo", "Demo", "Small talk"), AgentChoice("reception", "Reception"))


class Office:
    def __init__(self) -> None:
        self.offers: list[OfferRequest] = []
        self.error: Exception | None = None

    async def accept(self, request: OfferRequest) -> Answer:
        self.offers.append(request)
        if self.error is not None:
            raise self.error
        return Answer("v=0 answer", "webrtc-1")


@pytest.fixture
def office() -> Office:
    return Office()


@pytest.fixture
async def client(office: Office) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    turn = IceServer(urls=("turn:turn.example.com",), username="u", credential="pass")  # type: ignore[arg-type]
    app.include_router(
        webrtc_router(
            office.accept,
            agents=AGENTS,
            ice=IcePolicy(lambda: [turn, IceServer(urls=("stun:stun.example.com",))]),
            public_url="https://voice.example.com",
            name="Test line",
        )
    )
    transport = ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as held:
        yield held


async def token(client: httpx.AsyncClient) -> str:
    return str((await client.post("/webrtc/session")).json()["token"])


async def test_every_file_of_the_page_is_served_and_exists(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.status_code == 200
    used = set(re.findall(r'(?:src|href)="/static/([^"]+)"', page.text))
    for name in _ASSETS:
        response = await client.get(f"/static/{name}")
        assert response.status_code == 200
        assert response.headers["content-type"] == TYPES[name.rpartition(".")[2]]
        used |= set(re.findall(r'from "\./([^"]+)"', response.text))
    assert used == set(_ASSETS) - {"index.html"}


async def test_nothing_else_is_served(client: httpx.AsyncClient) -> None:
    for path in ("router.py", "__init__.py", "..%2frouter.py", "%2e%2e/router.py", ".env"):
        assert (await client.get(f"/static/{path}")).status_code == 404


async def test_the_page_runs_no_inline_script_and_loads_nothing_from_elsewhere(
    client: httpx.AsyncClient,
) -> None:
    page = await client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*\ssrc=)", page.text)
    assert not re.search(r"\son\w+=|\sstyle=|javascript:", page.text)
    for name in _ASSETS:
        text = (await client.get(f"/static/{name}")).text
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)


async def test_a_session_says_who_can_be_called(client: httpx.AsyncClient) -> None:
    response = await client.post("/webrtc/session")
    assert response.headers["cache-control"] == "no-store"
    session = response.json()
    assert session["name"] == "Test line"
    assert [agent["name"] for agent in session["agents"]] == ["demo", "reception"]
    assert session["ice_servers"] == [
        {"urls": ["turn:turn.example.com"], "username": "u", "credential": "pass"},
        {"urls": ["stun:stun.example.com"]},
    ]
    assert len(session["token"]) >= 40
    assert session["token"] != await token(client)


async def test_an_offer_is_answered(client: httpx.AsyncClient, office: Office) -> None:
    offer = {"sdp": "v=0 offer", "type": "offer", "token": await token(client), "agent": "demo"}
    response = await client.post("/webrtc/offer", json=offer)
    assert response.status_code == 200
    assert response.json() == {"type": "answer", "sdp": "v=0 answer", "call_id": "webrtc-1"}
    assert office.offers == [OfferRequest("v=0 offer", "demo", "127.0.0.1")]


async def test_a_token_is_good_once(client: httpx.AsyncClient, office: Office) -> None:
    offer = {"sdp": "v=0", "token": await token(client), "agent": "demo"}
    assert (await client.post("/webrtc/offer", json=offer)).status_code == 200
    again = await client.post("/webrtc/offer", json=offer)
    assert (again.status_code, again.json()["error"]) == (403, "token")
    unknown = await client.post("/webrtc/offer", json=offer | {"token": "x" * 43})
    assert unknown.status_code == 403
    assert len(office.offers) == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 5000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "sdp is missing"),
        (b'{"sdp": 1}', "sdp is missing or no string"),
        (b'{"sdp": "", "token": "", "agent": 1}', "agent is missing or no string"),
        (json.dumps({"sdp": "", "token": "", "agent": "boss"}).encode(), "demo, reception"),
    ],
)
async def test_a_bad_request_says_what_is_wrong(
    client: httpx.AsyncClient, office: Office, body: bytes, says: str
) -> None:
    response = await client.post("/webrtc/offer", content=body)
    assert response.status_code == 400
    assert says in response.json()["message"]
    assert not office.offers


async def test_a_huge_request_is_not_read(client: httpx.AsyncClient) -> None:
    response = await client.post("/webrtc/offer", content=b"x" * 200_000)
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(OfferError("no audio"), 400, "offer"), (BusyError(7), 503, "busy")],
)
async def test_a_refusal_reaches_the_page(
    client: httpx.AsyncClient, office: Office, error: Exception, status: int, code: str
) -> None:
    office.error = error
    offer = {"sdp": "v=0", "token": await token(client), "agent": "demo"}
    response = await client.post("/webrtc/offer", json=offer)
    assert (response.status_code, response.json()["error"]) == (status, code)
    assert response.headers.get("retry-after") == ("7" if status == 503 else None)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://test", True),
        ("https://voice.example.com", True),
        ("https://evil.example.com", False),
        ("null", False),
    ],
)
async def test_other_sites_get_no_token(
    client: httpx.AsyncClient, origin: str, allowed: bool
) -> None:
    for path in ("/webrtc/session", "/webrtc/offer"):
        response = await client.post(path, headers={"Origin": origin})
        assert (response.status_code != 403) is allowed
        assert "access-control-allow-origin" not in response.headers


def test_a_page_without_agents_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="agents is empty"):
        webrtc_router(Office().accept, agents=())
