"""Recordings uploaded and searched over HTTP, each in a process of its own."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from enrolment_desk import ScriptedDesk, hum_library
from fastapi import FastAPI
from httpx import ASGITransport
from watermarking import TOKEN, marked, speech

from ringtrue.agent import watermark_api, watermark_searches
from ringtrue.agent.voices_api import VoicesApi
from ringtrue.agent.watermark_sessions import Session
from ringtrue.voices.library import VoiceLibrary, utc_now


class ScriptedSessions:
    """An audit log that knows one session."""

    def __init__(self) -> None:
        self.tenant = "acme"

    def find(self, mark: str) -> Session | None:
        if not mark.endswith(f":{TOKEN.session:08x}"):
            return None
        return Session(mark, self.tenant, "call-1", "desk", ("ada",), "2026-03-04", "2026-03-04")


@dataclass
class Office:
    library: VoiceLibrary
    app: FastAPI
    sessions: ScriptedSessions

    async def client(self, tenant: str = "acme", *scopes: str) -> httpx.AsyncClient:
        keys = self.library.store.api_keys
        scopes = scopes or ("watermark:detect",)
        made = await keys.create(tenant, label="test", scopes=scopes, now=utc_now())
        return httpx.AsyncClient(
            transport=ASGITransport(app=self.app, client=("192.0.2.7", 1)),
            base_url="http://test",
            headers={"Authorization": f"Bearer {made.token}"},
            timeout=60,
        )

    def ours(self, seconds: float = 5.0) -> bytes:
        return wav(marked(speech(8000, seconds), 8000, self.library.config.marks.current))


def wav(pcm: np.ndarray) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(pcm.tobytes())
    return out.getvalue()


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with hum_library(tmp_path) as library:
        sessions = ScriptedSessions()
        desk = ScriptedDesk(library)
        api = VoicesApi(lambda: library, lambda _: desk, sessions=sessions)
        app = FastAPI()
        app.mount("/v1", api.app)
        try:
            yield Office(library, app, sessions)
        finally:
            await api.close()


async def searched(client: httpx.AsyncClient, data: bytes, query: str = "") -> dict[str, Any]:
    begun = await client.post(f"/v1/watermark/detect{query}", content=data)
    assert begun.status_code == 202, begun.text
    found: dict[str, Any] = begun.json()
    path = begun.headers["location"]
    assert path == f"/v1/watermark/searches/{found['id']}"
    async with asyncio.timeout(120):
        while found["state"] in ("queued", "running"):
            answer = await client.get(path, params={"after": found["version"], "wait": 10})
            assert answer.status_code == 200
            found = answer.json()
    return found


async def test_our_speech_is_found_and_its_call_named(office: Office) -> None:
    async with await office.client() as client:
        done = await searched(client, office.ours())
    assert done["state"] == "done"
    assert done["progress"] == 1.0
    report = done["report"]
    assert report["found"]
    assert report["false_alarm"] < 1e-6
    (stretch,) = report["channels"][0]["stretches"]
    assert stretch["token"]["session"] == f"{TOKEN.session:08x}"
    (session,) = done["sessions"]
    assert (session["call"], session["voices"]) == ("call-1", ["ada"])


async def test_a_person_is_no_finding(office: Office) -> None:
    async with await office.client() as client:
        done = await searched(client, wav(speech(8000, 3.0)))
    assert done["state"] == "done"
    assert not done["report"]["found"]
    assert done["sessions"] == []


async def test_another_tenants_call_is_not_named_nor_its_search_shown(office: Office) -> None:
    office.sessions.tenant = "other"
    async with await office.client() as client, await office.client("other") as stranger:
        done = await searched(client, office.ours())
        assert done["report"]["found"]
        assert done["sessions"] == []
        path = f"/v1/watermark/searches/{done['id']}"
        assert (await stranger.get(path)).status_code == 404
        assert (await stranger.delete(path)).status_code == 404


async def test_the_scope_is_needed(office: Office) -> None:
    async with await office.client("acme", "voices:read") as client:
        refused = await client.post("/v1/watermark/detect", content=b"RIFF")
    assert refused.status_code == 403
    assert refused.json()["scope"] == "watermark:detect"


async def test_what_is_no_audio_fails_and_says_so(office: Office) -> None:
    async with await office.client() as client:
        done = await searched(client, b"no audio at all" * 100)
        assert done["state"] == "failed"
        assert done["problem"]["status"] == 422
        assert "no audio file" in done["problem"]["detail"]
        assert (await client.post("/v1/watermark/detect", content=b"")).status_code == 422


async def test_bodies_are_bounded(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watermark_api, "MAX_BYTES", 1000)
    async with await office.client() as client:
        refused = await client.post("/v1/watermark/detect", content=bytes(1001))
    assert refused.status_code == 413
    assert refused.json()["limit"] == 1000


async def test_so_many_searches_of_a_tenant_and_cancelling_makes_room(office: Office) -> None:
    async with await office.client() as client:
        paths = []
        for _ in range(watermark_searches.PER_TENANT):
            begun = await client.post("/v1/watermark/detect", content=office.ours())
            paths.append(begun.headers["location"])
        refused = await client.post("/v1/watermark/detect", content=office.ours())
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        for path in paths:
            assert (await client.delete(path)).json()["state"] == "cancelled"
        again = await client.post("/v1/watermark/detect", content=office.ours())
        assert again.status_code == 202


async def test_it_is_described(office: Office) -> None:
    async with await office.client() as client:
        document = (await client.get("/v1/openapi.json")).json()
    operation = document["paths"]["/watermark/detect"]["post"]
    assert "application/octet-stream" in operation["requestBody"]["content"]
    assert "SearchOut" in document["components"]["schemas"]
