"""An office of voices over HTTP: a real library and real keys, an engine that hums."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from enrolment_desk import ScriptedDesk, hum_library
from fastapi import FastAPI
from httpx import ASGITransport

from ringtrue.agent.voices_api import VoicesApi
from ringtrue.voices.library import VoiceLibrary, utc_now

ALL = ("voices:read", "voices:write", "voices:speak")


@dataclass
class Office:
    api: VoicesApi
    library: VoiceLibrary
    desk: ScriptedDesk
    app: FastAPI
    clients: list[httpx.AsyncClient]

    async def token(self, tenant: str = "acme", *scopes: str) -> str:
        keys = self.library.store.api_keys
        made = await keys.create(tenant, label="test", scopes=scopes or ALL, now=utc_now())
        return made.token

    def client(self, token: str | None, address: str = "192.0.2.7") -> httpx.AsyncClient:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        made = httpx.AsyncClient(
            transport=ASGITransport(app=self.app, client=(address, 1)),
            base_url="http://test",
            headers=headers,
        )
        self.clients.append(made)
        return made

    async def as_tenant(self, tenant: str = "acme", *scopes: str) -> httpx.AsyncClient:
        return self.client(await self.token(tenant, *scopes))


@asynccontextmanager
async def open_office(path: Path) -> AsyncIterator[Office]:
    """The interface over a library in ``path``, until the clients and the interface are closed."""
    async with hum_library(path) as library:
        desk = ScriptedDesk(library)
        api = VoicesApi(lambda: library, lambda _: desk, title="Test line")
        app = FastAPI()
        app.mount("/v1", api.app)
        held = Office(api, library, desk, app, [])
        try:
            yield held
        finally:
            for client in held.clients:
                await client.aclose()
            await api.close()


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """The problem a response tells."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"urn:ringtrue:problem:{kind}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body
