"""Cloned voices over HTTP: a real library and real keys, an engine that hums."""

from __future__ import annotations

import asyncio
import io
import json
import wave
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from enrolment_desk import ENGINE, NAME, NOISY, PURPOSE, ScriptedDesk, admitted, hum_library
from fastapi import FastAPI
from httpx import ASGITransport
from voices_office import ALL, Office, open_office, problem

from ringtrue.agent import voices_api
from ringtrue.agent.voices_api import MAX_JSON, VoicesApi
from ringtrue.streaming.errors import RingtrueError
from ringtrue.voices.consent.records import is_consent, read_signed
from ringtrue.voices.enrolment.errors import EnrolmentRefused, RecordingError
from ringtrue.voices.keys.signing import TrustedKeys
from ringtrue.voices.library import utc_now
from ringtrue.voices.store.errors import StoreUnavailableError

EVERY = (*ALL, "watermark:detect")
NEW = {"name": NAME, "purpose": PURPOSE, "engine": ENGINE}
SOUND = {"statement": b"RIFF statement", "speech": b"RIFF speech"}


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(tmp_path) as held:
        yield held


async def begun(client: httpx.AsyncClient, **changes: object) -> dict[str, Any]:
    response = await client.post("/v1/voices", json=NEW | changes)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


async def upload(
    client: httpx.AsyncClient, challenge: dict[str, Any], parts: dict[str, bytes] | None = None
) -> httpx.Response:
    return await client.post(
        challenge["recordings"],
        data={"token": challenge["token"]},
        files={name: (f"{name}.wav", data) for name, data in (parts or SOUND).items()},
    )


async def settled(client: httpx.AsyncClient, enrolment: str) -> dict[str, Any]:
    """The enrolment once it is over, by long polls."""
    version = 0
    async with asyncio.timeout(20):
        while True:
            response = await client.get(
                f"/v1/enrolments/{enrolment}", params={"after": version, "wait": 10}
            )
            assert response.status_code == 200, response.text
            found: dict[str, Any] = response.json()
            assert found["version"] > version
            version = found["version"]
            if found["state"] not in ("awaiting_recordings", "queued", "running"):
                return found


async def test_from_a_challenge_to_a_voice_that_speaks(office: Office) -> None:
    client = await office.as_tenant()
    response = await client.post("/v1/voices", json=NEW)
    challenge = response.json()
    where = f"/v1/enrolments/{challenge['enrolment']}"
    assert response.headers["location"] == where
    assert challenge["recordings"] == f"{where}/recordings"
    assert challenge["text"].startswith(f"I, {NAME}, consent to the cloning of my voice for")
    assert challenge["text"] == f"{challenge['statement']} {challenge['phrase']}."
    assert (await client.get(where)).json()["state"] == "awaiting_recordings"
    office.desk.go.clear()
    given = await upload(client, challenge)
    assert (given.status_code, given.headers["location"]) == (202, where)
    assert given.json()["state"] == "queued"
    seen = (await client.get(where, params={"after": 2, "wait": 10})).json()
    while seen["progress"]["done"] < 0.25:
        seen = (await client.get(where, params={"after": seen["version"], "wait": 10})).json()
    assert seen["progress"] == {"done": 0.25, "doing": "checking the recordings"}
    office.desk.go.set()
    done = await settled(client, challenge["enrolment"])
    assert (done["state"], done["problem"], done["progress"]["done"]) == ("enrolled", None, 1)
    assert done["findings"][0]["check"] == "noise"
    assert office.desk.recordings == [(SOUND["statement"], SOUND["speech"])]

    voice = f"/v1/voices/{done['voice']}"
    listed = (await client.get("/v1/voices")).json()
    assert [item["id"] for item in listed["voices"]] == [done["voice"]]
    assert listed["next"] is None
    shown = (await client.get(voice)).json()
    assert (shown["name"], shown["state"], shown["engine"]) == (NAME, "live", ENGINE)
    assert [item["status"] for item in shown["consents"]] == ["live"]
    assert shown["consents"][0]["purposes"] == [PURPOSE]
    assert shown["consents"][0]["asked_by"].startswith("api-key:")

    spoken = await client.post(f"{voice}/speech", json={"text": "Hello.", "purpose": PURPOSE})
    assert (spoken.status_code, spoken.headers["content-type"]) == (200, "audio/wav")
    with wave.open(io.BytesIO(spoken.content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
    assert len(spoken.content) == 44 + 2 * 1600


async def test_a_refusal_names_what_was_wrong_and_uses_the_challenge_up(office: Office) -> None:
    client = await office.as_tenant()
    office.desk.outcome = EnrolmentRefused([NOISY])
    challenge = await begun(client)
    await upload(client, challenge)
    refused = await settled(client, challenge["enrolment"])
    assert (refused["state"], refused["voice"]) == ("refused", None)
    assert refused["problem"]["type"] == "urn:ringtrue:problem:recordings-refused"
    assert refused["findings"] == [
        {
            "check": "noise",
            "passed": False,
            "score": 6.0,
            "threshold": 15.0,
            "message": NOISY.message,
        }
    ]
    problem(await upload(client, challenge), 409, "conflict")
    assert (await client.get("/v1/voices")).json()["voices"] == []


@pytest.mark.parametrize(
    ("outcome", "state", "kind"),
    [
        (
            RecordingError("speech: 3 bytes that are no recording"),
            "refused",
            "unreadable-recording",
        ),
        (StoreUnavailableError("the database is not available: SECRET"), "failed", "busy"),
        (ZeroDivisionError("SECRET"), "failed", "internal"),
        (RingtrueError("no"), "refused", "refused"),
    ],
)
async def test_what_goes_wrong_meanwhile_is_told_and_no_more(
    office: Office, outcome: Exception, state: str, kind: str
) -> None:
    client = await office.as_tenant()
    office.desk.outcome = outcome
    challenge = await begun(client)
    await upload(client, challenge)
    found = await settled(client, challenge["enrolment"])
    assert (found["state"], found["problem"]["type"]) == (state, f"urn:ringtrue:problem:{kind}")
    assert "SECRET" not in json.dumps(found)


async def test_another_tenants_things_are_not_there(office: Office) -> None:
    ours = await admitted(office.library, utc_now())
    owner, other = await office.as_tenant("acme"), await office.as_tenant("globex")
    challenge = await begun(owner, name="Bea")
    speech = {"text": "Hello.", "purpose": PURPOSE}
    routes: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", f"/v1/voices/{ours.id}", {}),
        ("GET", f"/v1/voices/{NAME}", {}),
        ("GET", f"/v1/voices/{ours.id}/consent", {}),
        ("POST", f"/v1/voices/{ours.id}/renew", {"json": {"purpose": PURPOSE}}),
        ("POST", f"/v1/voices/{ours.id}/withdraw", {"json": {}}),
        ("POST", f"/v1/voices/{ours.id}/speech", {"json": speech}),
        ("DELETE", f"/v1/voices/{ours.id}", {}),
        ("GET", f"/v1/enrolments/{challenge['enrolment']}", {}),
        ("DELETE", f"/v1/enrolments/{challenge['enrolment']}", {}),
        ("POST", challenge["recordings"], {"files": SOUND, "data": {"token": "x"}}),
    ]
    covered = set()
    for method, path, body in routes:
        answer = await other.request(method, path, **body)
        kind = "no-such-enrolment" if "enrolments" in path else "no-such-voice"
        told = problem(answer, 404, kind)
        assert "another" not in told["detail"]
        template = path.removeprefix("/v1").replace(ours.id, "{voice}").replace(NAME, "{voice}")
        covered.add((method, template.replace(challenge["enrolment"], "{enrolment}")))
    everything = {
        (method.upper(), path)
        for path, operations in office.api.app.openapi()["paths"].items()
        for method in operations
        if not path.startswith("/watermark")  # whose tests show the same of searches
    }
    assert everything - covered == {("GET", "/voices"), ("POST", "/voices")}
    assert (await other.get("/v1/voices")).json()["voices"] == []
    await begun(other)  # the name is taken at acme only
    assert (await owner.get(f"/v1/voices/{ours.id}")).json()["state"] == "live"


async def test_every_operation_wants_a_key_with_its_scope(office: Office) -> None:
    nobody = office.client(None)
    by_scope = {scope: await office.as_tenant("acme", scope) for scope in EVERY}
    admin = await office.as_tenant("acme", "admin")
    for path, operations in office.api.app.openapi()["paths"].items():
        url = "/v1" + path.format(voice="x", enrolment="x", search="x")
        for method, operation in operations.items():
            scope = operation["description"].rpartition("Scope: `")[2].partition("`")[0]
            assert scope in EVERY, (method, path)
            body = {"text": "a", **NEW} if "speech" in path else NEW
            arguments: dict[str, Any] = {"json": body} if method == "post" else {}
            refused = await nobody.request(method, url, **arguments)
            problem(refused, 401, "unauthorized")
            assert refused.headers["www-authenticate"] == "Bearer"
            for other, client in by_scope.items():
                answer = await client.request(method, url, **arguments)
                if other != scope:
                    told = problem(answer, 403, "missing-scope")
                    assert told["scope"] == scope
                else:
                    assert answer.status_code not in (401, 403, 500)
            assert (await admin.request(method, url, **arguments)).status_code not in (401, 403)


async def test_a_voice_is_renewed_exported_and_erased(office: Office) -> None:
    client = await office.as_tenant()
    voice = await admitted(office.library, utc_now())
    url = f"/v1/voices/{voice.id}"
    await client.post(f"{url}/withdraw", json={})
    asked = await client.post(f"{url}/renew", json={"purpose": "sales", "expires_in_days": 3})
    challenge = asked.json()
    assert asked.status_code == 201
    assert "for sales." in challenge["text"]
    too_much = await upload(client, challenge)
    assert "statement" in problem(too_much, 422, "invalid-request")["errors"][0]["allowed"]
    await upload(client, challenge, {"statement": b"RIFF again"})
    done = await settled(client, challenge["enrolment"])
    assert (done["kind"], done["state"], done["voice"]) == ("renewal", "enrolled", voice.id)
    shown = (await client.get(url)).json()
    assert (shown["state"], shown["consents"][1]["status"]) == ("live", "live")

    export = await client.get(f"{url}/consent")
    assert f"{voice.id}-consent.json" in export.headers["content-disposition"]
    document = export.json()
    trusted = TrustedKeys(bytes.fromhex(key) for key in document["keys"].values())
    records = [read_signed(json.dumps(item).encode()) for item in document["consents"]]
    for signed in records:
        assert is_consent(signed)
        assert signed.verify(trusted).voice == voice.id
    assert len(records) == 2

    erased = await client.delete(url)
    assert erased.status_code == 200
    assert erased.json()["id"] == voice.id
    assert (await client.delete(url)).json() == erased.json()
    problem(await client.get(url), 404, "no-such-voice")
    problem(await client.post(f"{url}/speech", json={"text": "a", "purpose": "b"}), 404,
            "no-such-voice")  # fmt: skip


@pytest.mark.parametrize(
    ("body", "field", "value", "allowed"),
    [
        ({"purpose": PURPOSE}, "name", None, "required"),
        ({"name": "", "purpose": PURPOSE}, "name", "", "at least 1"),
        ({"name": "slt", "purpose": PURPOSE}, "name", "slt", "stock voice"),
        ({"name": "a\x07b", "purpose": PURPOSE}, "name", "a\x07b", "printed"),
        ({"name": "x" * 81, "purpose": PURPOSE}, "name", "x" * 80, "at most 80"),
        ({**NEW, "name": "Ада"}, "name", "Ада", "Latin letters"),
        ({"name": "a", "purpose": " "}, "purpose", " ", "1 to 160"),
        ({**NEW, "engine": "nope"}, "engine", "nope", ENGINE),
        ({**NEW, "expires_in_days": 0}, "expires_in_days", 0, "greater than or equal to 1"),
        ({**NEW, "agents": []}, "agents", "[]", "at least 1"),
        ({**NEW, "tenant": "globex"}, "tenant", "globex", "not permitted"),
        ([], "body", "[]", "dictionary"),
    ],
)
async def test_wrong_input_names_field_value_and_allowed(
    office: Office, body: object, field: str, value: object, allowed: str
) -> None:
    client = await office.as_tenant()
    told = problem(await client.post("/v1/voices", json=body), 422, "invalid-request")
    (error,) = told["errors"]
    assert (error["field"], error["value"]) == (field, value)
    assert allowed in error["allowed"]


async def test_bodies_are_bounded_and_malformed_ones_answered(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await office.as_tenant()
    long = await client.post("/v1/voices", json=NEW | {"purpose": "x" * MAX_JSON})
    assert long.status_code == 413
    assert str(MAX_JSON) in long.json()["detail"]
    not_json = await client.post(
        "/v1/voices", content=b"{", headers={"content-type": "application/json"}
    )
    problem(not_json, 422, "invalid-request")
    challenge = await begun(client)
    url = challenge["recordings"]
    problem(await client.post(url, json={}), 415, "unsupported-media-type")
    form = {"content-type": "multipart/form-data; boundary=b"}
    problem(await client.post(url, content=b"no form", headers=form), 400, "malformed")
    problem(await client.post(url, content=b"", headers=form), 422, "invalid-request")
    monkeypatch.setattr("ringtrue.agent.voices_api_upload._LIMITS", {"token": 200, "statement": 9})
    told = problem(await upload(client, challenge), 413, "too-large")
    assert told["errors"][0]["field"] == "statement"
    missing = await client.post(url, files={"statement": b"x"}, data={"token": "x"})
    assert problem(missing, 422, "invalid-request")["errors"][0]["field"] == "speech"
    monkeypatch.undo()
    wrong_token = await upload(client, challenge | {"token": f"{'0' * 32}.{'A' * 43}"})
    assert problem(wrong_token, 422, "challenge")["reason"] == "mismatch"
    # None of this used the challenge up.
    assert (await upload(client, challenge)).status_code == 202
    assert (await settled(client, challenge["enrolment"]))["state"] == "enrolled"


async def test_unknown_paths_methods_and_failures_are_problems_too(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await office.as_tenant()
    problem(await client.get("/v1/nothing"), 404, "not-found")
    assert (await client.put("/v1/voices")).headers["content-type"] == "application/problem+json"

    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("SECRET")

    monkeypatch.setattr(office.library, "find", broken)
    told = problem(await client.get("/v1/voices/x"), 500, "internal")
    assert "SECRET" not in json.dumps(told)


async def test_a_taken_name_and_a_full_house(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await office.as_tenant()
    await admitted(office.library, utc_now())
    problem(await client.post("/v1/voices", json=NEW | {"name": NAME.upper()}), 409, "voice-exists")
    office.desk.go.clear()
    for name in ("one", "two"):
        assert (await upload(client, await begun(client, name=name))).status_code == 202
    third = await upload(client, await begun(client, name="three"))
    problem(third, 429, "too-many")
    assert int(third.headers["retry-after"]) > 0
    monkeypatch.setattr(voices_api, "MAX_SPEAKING", 0)
    url = f"/v1/voices/{NAME}/speech"
    full = await client.post(url, json={"text": "Hello.", "purpose": PURPOSE})
    problem(full, 503, "busy")


async def test_cancelling_leaves_no_voice(office: Office) -> None:
    client = await office.as_tenant()
    office.desk.go.clear()
    challenge = await begun(client)
    await upload(client, challenge)
    where = f"/v1/enrolments/{challenge['enrolment']}"
    seen = (await client.get(where)).json()
    while seen["state"] != "running":
        seen = (await client.get(where, params={"after": seen["version"], "wait": 5})).json()
    assert (await client.delete(where)).json()["state"] == "cancelled"
    office.desk.go.set()
    assert (await client.get("/v1/voices")).json()["voices"] == []
    again = await begun(client)
    await upload(client, again)
    assert (await settled(client, again["enrolment"]))["state"] == "enrolled"


async def test_pages_of_voices(office: Office) -> None:
    client = await office.as_tenant()
    names = {f"voice {n}" for n in range(5)}
    for name in names:
        await admitted(office.library, utc_now(), name=name)
    seen, after = set(), ""
    for _ in range(3):
        page = (await client.get("/v1/voices", params={"limit": 2, "after": after})).json()
        seen |= {item["name"] for item in page["voices"]}
        after = page["next"]
    assert after is None
    assert seen == names


async def test_the_description_needs_no_key_and_nothing_from_elsewhere(office: Office) -> None:
    nobody = office.client(None)
    document = (await nobody.get("/v1/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": "/v1"}]
    assert "multipart/form-data" in json.dumps(document)
    page = await nobody.get("/v1/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in page.text
    assert "http://" not in page.text.replace("http://test", "")
    assert "https://" not in page.text
    for path in document["paths"]:
        assert f"/v1{path}" in page.text


async def test_an_expired_challenge_takes_no_recordings(tmp_path: Path) -> None:
    async with hum_library(tmp_path) as library:
        ahead = timedelta(0)
        api = VoicesApi(lambda: library, ScriptedDesk, clock=lambda: utc_now() + ahead)
        app = FastAPI()
        app.mount("/v1", api.app)
        office = Office(api, library, ScriptedDesk(library), app, [])
        async with await office.as_tenant() as client:
            challenge = await begun(client)
            ahead = timedelta(minutes=11)
            problem(await upload(client, challenge), 410, "challenge-expired")


async def test_without_a_library_everything_is_for_later() -> None:
    api = VoicesApi(lambda: None, lambda _: pytest.fail("no desk without a library"))
    transport = ASGITransport(app=api.app)
    headers = {"Authorization": "Bearer rtk_x"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://test", headers=headers
    ) as client:
        told = await client.get("/voices")
        assert problem(told, 503, "busy")["detail"].startswith("this server has no library")
        assert told.headers["retry-after"]
        assert (await client.get("/openapi.json")).status_code == 200
