"""Placing calls over HTTP: real keys, real rules, a real endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from outbound_line import REMINDER, Line, callee, line
from sip_media import MediaShelf
from voices_office import Office, open_office, problem

from ringtrue.agent.outbound_api import CallsApi, router
from ringtrue.agent.voices_api import PROBLEMS
from ringtrue.telephony.sip.handles import ServerInvite
from ringtrue.voices.library import utc_now

PLACE = "calls:place"


@dataclass
class Exchange:
    office: Office
    line: Line

    async def client(self, tenant: str = "default", *scopes: str) -> httpx.AsyncClient:
        return await self.office.as_tenant(tenant, *(scopes or (PLACE,)))


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    other = REMINDER.model_copy(update={"name": "other", "tenant": "acme"})
    async with open_office(tmp_path) as office, line(max_attempts_per_minute=2) as made:
        app = office.api.app
        app.state.calls = CallsApi(made.outbound, {"reminder": REMINDER, "other": other})
        app.include_router(router, responses=PROBLEMS)
        yield Exchange(office, made)


def order(port: int, **changes: Any) -> dict[str, Any]:
    return {"to": f"sip:bob@127.0.0.1:{port}", "agent": "reminder"} | changes


async def busy(invite: ServerInvite) -> None:
    await invite.reject(486)


async def test_a_call_from_order_to_hangup(exchange: Exchange) -> None:
    shelf = MediaShelf()

    async def handler(invite: ServerInvite) -> None:
        await (await invite.answer(shelf)).ended()

    client = await exchange.client()
    async with callee(handler) as port:
        placed = await client.post(
            "/v1/calls", json=order(port, variables={"customer": "Ms Rivera"})
        )
        assert placed.status_code == 202, placed.text
        body = placed.json()
        assert placed.headers["location"] == f"/v1/calls/{body['id']}"
        assert (body["state"], body["outcome"], body["to"]) == (
            "dialling",
            None,
            f"sip:***ob@127.0.0.1:{port}",
        )
        await exchange.line.desk.running.get()
        path = placed.headers["location"]
        shown = (await client.get(path)).json()
        assert (shown["state"], shown["outcome"]) == ("answered", "answered")
        waiting = asyncio.create_task(
            client.get(path, params={"after": shown["version"], "wait": 10})
        )
        await asyncio.sleep(0.05)
        assert (await client.delete(path)).status_code == 200
        ended = (await waiting).json()
        assert (ended["state"], ended["ended"]) == ("ended", "cancelled")
        assert exchange.line.desk.agents[0].variables["customer"] == "Ms Rivera"


async def test_other_tenants_and_other_scopes_see_nothing(exchange: Exchange) -> None:
    client = await exchange.client()
    async with callee(busy) as port:
        path = (await client.post("/v1/calls", json=order(port))).headers["location"]
        for method in ("GET", "DELETE"):
            stranger = await exchange.client("acme")
            problem(await stranger.request(method, path), 404, "no-such-call")
            reader = await exchange.client("default", "voices:read")
            problem(await reader.request(method, path), 403, "missing-scope")
            nobody = exchange.office.client(None)
            problem(await nobody.request(method, path), 401, "unauthorized")
        problem(await client.post("/v1/calls", json=order(5, agent="other")), 404, "no-such-agent")
        stranger = await exchange.client("acme")
        said = await stranger.post("/v1/calls", json=order(port, agent="other"))
        assert problem(said, 403, "call-refused")["reason"] == "tenant"


async def test_refusals_are_typed(exchange: Exchange) -> None:
    client = await exchange.client()

    async def refused(status: int, **changes: Any) -> dict[str, Any]:
        answer = await client.post("/v1/calls", json=order(5, **changes))
        return problem(answer, status, "call-refused")

    assert (await refused(403, to="tel:+19002345678"))["reason"] == "premium"
    assert (await refused(403, to="sip:911@127.0.0.1"))["reason"] == "emergency"
    assert (await refused(403, to="sip:bob@example.com"))["reason"] == "not_allowed"
    assert (await refused(403, **{"from": "+12015550123"}))["reason"] == "caller"
    assert (await refused(422, to="mailto:bob"))["reason"] == "target"
    async with callee(busy) as port:
        for _ in range(2):
            assert (await client.post("/v1/calls", json=order(port))).status_code == 202
        answer = await client.post("/v1/calls", json=order(port))
        assert problem(answer, 429, "call-refused")["reason"] == "attempts"
        assert 50 <= int(answer.headers["retry-after"]) <= 61


@pytest.mark.parametrize(
    "changes",
    [
        {"agent": ""},
        {"ring_seconds": 1},
        {"ring_seconds": "long"},
        {"variables": {"nonsense": "x"}},
        {"variables": {"customer": ""}},
        {"variables": {"customer": "{appointment}"}},
        {"variables": {"customer": "x" * 201}},
        {"variables": {"customer": "line\nbreak"}},
        {"tenant": "acme"},
    ],
)
async def test_what_is_wrong_is_named(exchange: Exchange, changes: dict[str, Any]) -> None:
    client = await exchange.client()
    answer = await client.post("/v1/calls", json=order(5, **changes))
    body = problem(answer, 422, "invalid-request")
    (name,) = changes
    assert body["errors"][0]["field"].startswith(name)
    assert body["errors"][0]["allowed"]
    assert exchange.line.desk.records == []


async def test_a_key_made_for_one_agent_places_its_calls_only(exchange: Exchange) -> None:
    made = await exchange.office.library.store.api_keys.create(
        "default", label="x", scopes=[PLACE], now=utc_now(), agent="reception"
    )
    client = exchange.office.client(made.token)
    problem(await client.post("/v1/calls", json=order(5)), 403, "other-agent")


async def test_the_same_order_twice_is_one_call(exchange: Exchange) -> None:
    client = await exchange.client()
    async with callee(busy) as port:
        once = {"Idempotency-Key": "a1"}
        first = (await client.post("/v1/calls", json=order(port), headers=once)).json()
        again = (await client.post("/v1/calls", json=order(port), headers=once)).json()
        assert first["id"] == again["id"]
        other = await client.post("/v1/calls", json=order(port, ring_seconds=9), headers=once)
        problem(other, 422, "idempotency-key")


async def test_the_description_names_the_routes(exchange: Exchange) -> None:
    paths = exchange.office.api.app.openapi()["paths"]
    assert set(paths["/calls"]) == {"post"}
    assert set(paths["/calls/{call}"]) == {"get", "delete"}
    assert set(paths["/calls/{call}/hold"]) == set(paths["/calls/{call}/resume"]) == {"post"}
    operations = [o for path, each in paths.items() if "/calls" in path for o in each.values()]
    assert len(operations) == 5
    for operation in operations:
        assert "calls:place" in operation["description"]
