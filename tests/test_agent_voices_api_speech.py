"""Speech in a cloned voice over HTTP: only with a consent that covers who asks, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from enrolment_desk import NAME, PURPOSE, admitted
from voices_office import ALL, Office, open_office, problem

from peers.http import serving
from ringtrue.voices.library import utc_now


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(tmp_path) as held:
        yield held


async def test_no_consent_no_sound(office: Office) -> None:
    keys = office.library.store.api_keys
    made = await keys.create("acme", label="x", scopes=ALL, now=utc_now(), agent="reception")
    client, another = office.client(made.token), await office.as_tenant()
    voice = await admitted(office.library, utc_now(), agents=("reception",))
    url = f"/v1/voices/{voice.id}/speech"
    speech = {"text": "Hello.", "purpose": PURPOSE}
    assert (await client.post(url, json=speech)).status_code == 200
    for asking, changes, reason in [
        (client, {"purpose": "advertising"}, "purpose"),
        (another, {}, "agent"),
    ]:
        refused = problem(await asking.post(url, json=speech | changes), 403, "no-consent")
        assert refused["reason"] == reason
    withdrawn = await client.post(f"/v1/voices/{voice.id}/withdraw")
    assert withdrawn.status_code == 200
    assert withdrawn.json()["consent"] is None
    refused = problem(await client.post(url, json=speech), 403, "no-consent")
    assert refused["reason"] == "withdrawn"
    shown = (await client.get(f"/v1/voices/{voice.id}")).json()
    assert (shown["state"], shown["consents"][0]["status"]) == ("withdrawn", "withdrawn")
    assert office.api.speaking == 0


async def test_a_request_can_not_say_whom_it_speaks_as(office: Office) -> None:
    voice = await admitted(office.library, utc_now(), agents=("reception",))
    client = await office.as_tenant()
    speech = {"text": "Hello.", "purpose": PURPOSE, "agent": "reception"}
    answer = await client.post(f"/v1/voices/{voice.id}/speech", json=speech)
    told = problem(answer, 422, "invalid-request")
    assert told["errors"][0]["field"] == "agent"


async def test_speech_breaks_off_with_its_consent_and_ends_with_its_listener(
    office: Office,
) -> None:
    voice = await admitted(office.library, utc_now())
    token = await office.token()
    headers = {"Authorization": f"Bearer {token}"}
    url = f"/v1/voices/{voice.id}/speech"
    body = {"text": "And so on and on.", "purpose": PURPOSE}
    async with (
        serving(office.app) as base,
        httpx.AsyncClient(base_url=base, headers=headers, timeout=10) as client,
    ):
        async with client.stream("POST", url, json=body) as leaving:
            await anext(leaving.aiter_bytes())
            assert office.api.speaking == 1
        async with asyncio.timeout(5):
            while office.api.speaking:
                await asyncio.sleep(0.02)
        async with client.stream("POST", url, json=body) as cut_off:
            chunks = cut_off.aiter_bytes()
            await anext(chunks)
            assert (await client.post(f"/v1/voices/{voice.id}/withdraw")).status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                async for _ in chunks:
                    pass
        async with asyncio.timeout(5):
            while office.api.speaking:
                await asyncio.sleep(0.02)


async def test_nothing_to_say_and_pcm_at_8_khz(office: Office) -> None:
    client = await office.as_tenant()
    await admitted(office.library, utc_now())
    url = f"/v1/voices/{NAME}/speech"
    told = problem(await client.post(url, json={"text": " ... ", "purpose": PURPOSE}), 422,
                   "invalid-request")  # fmt: skip
    assert told["errors"][0]["field"] == "text"
    raw = await client.post(
        url, json={"text": "Hello.", "purpose": PURPOSE, "rate": 8000, "format": "pcm"}
    )
    assert raw.headers["content-type"] == "audio/pcm;rate=8000"
    assert len(raw.content) == 2 * 800
    assert office.api.speaking == 0
