"""``ringtrue incident`` and ``/v1/incidents`` against a running server with a real audit log."""

from __future__ import annotations

import asyncio
import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from cloned_server import TENANT, ClonedServer, cloned_server
from library_links import NAME, PURPOSE, candidate, statement

from ringtrue.agent.audit.holds import read_holds
from ringtrue.agent.audit.opening import audit_dir, audit_keys
from ringtrue.agent.incidents import bundle_name
from ringtrue.agent.recording_files import SUFFIX, Header, RecordingWriter, Summary
from ringtrue.agent.recording_setup import recordings_dir
from ringtrue.agent.server import Server
from ringtrue.agent.voice_library import open_voices
from ringtrue.streaming.recording import StereoChunk
from ringtrue.voices.keys.management import WrappedKey
from ringtrue.voices.keys.sealing import DataKey
from ringtrue.voices.ledger import LedgerError
from ringtrue.voices.library import utc_now
from ringtrue.voices.licensing import ConsentRefusedError
from ringtrue.voices.store.errors import VoiceFrozenError

RECORDING = "rec-0123456789abcdef"
SPOKEN = {"text": "w1 w2", "purpose": PURPOSE}

pytestmark = pytest.mark.keeps("the recognizer's and the engines' threads end with the server")


def incidents(place: ClonedServer) -> list[dict[str, Any]]:
    return sorted(place.entries(kind="incident"), key=lambda entry: str(entry["at"]))


def spoken_in(place: ClonedServer) -> list[str]:
    return sorted({str(entry["call"]) for entry in place.entries(kind="utterance")})


def recorded(place: ClonedServer, call: str) -> None:
    """A recording of ``call`` that is kept no longer."""
    directory = recordings_dir(place.settings)
    directory.mkdir(parents=True)
    nobody, long_ago = WrappedKey("mk", bytes(12), bytes(48)), datetime(2024, 1, 1, tzinfo=UTC)
    header = Header(RECORDING, call, TENANT, "ada", 8000, long_ago, long_ago, nobody)
    writer = RecordingWriter(directory / f"{RECORDING}{SUFFIX}", header, DataKey.generate())
    writer.append(StereoChunk(bytes(16000), bytes(16000)))
    writer.finish(Summary(50, 0, 0))


@asynccontextmanager
async def client(
    place: ClonedServer, server: Server, *scopes: str
) -> AsyncIterator[httpx.AsyncClient]:
    """With an API key of these scopes."""
    options = [part for scope in scopes for part in ("--scope", scope)]
    made = await place.run("keys", "create", "--label", "t", *options, "--json")
    headers = {"Authorization": f"Bearer {made.json()['token']}"}
    url = f"http://127.0.0.1:{server.http_port}/v1"
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as opened:
        yield opened


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClonedServer:
    return cloned_server(tmp_path, monkeypatch)


async def test_the_command_stops_lists_keeps_and_lifts(place: ClonedServer, tmp_path: Path) -> None:
    voice = await place.enrol()
    async with place.serving() as server:
        async with client(place, server, "voices:speak") as speaker:
            for _ in range(2):
                answer = await speaker.post(f"/voices/{NAME}/speech", json=SPOKEN)
                assert answer.status_code == 200
        await server.audit.flush()
        await asyncio.sleep(0.3)  # until what was said is signed
        recorded(place, spoken_in(place)[0])
        ran = await place.run(
            "incident", "freeze", "--voice", NAME, "--reason", "heard in a fraud",
            "--asked-by", "ops", "--bundles", tmp_path / "evidence", "--json",
        )  # fmt: skip
        assert ran.code == 0, ran.err
        done = ran.json()
        assert done["new"]
        assert done["incident"]["voice"] == voice
        assert [call["utterances"] for call in done["calls"]] == [1, 1]
        assert all(len(call["outputs"][0]["sha256"]) == 64 for call in done["calls"])
        assert done["later"] == []
        assert done["recordings"] == {spoken_in(place)[0]: RECORDING}
        assert sorted(done["bundles"]) == sorted(
            str(tmp_path / "evidence" / bundle_name(call["call"])) for call in done["calls"]
        )
        assert server.library is not None
        with pytest.raises(ConsentRefusedError, match="frozen"):
            await server.library.lease(tenant=TENANT, voice=voice, agent="ada", purpose=PURPOSE)
    key = audit_keys(place.settings)[0].hex()
    for bundle in done["bundles"]:
        assert (await place.run("evidence", "verify", bundle, "--key", key)).code == 0
    kept = zipfile.ZipFile(next(each for each in done["bundles"] if spoken_in(place)[0] in each))
    (told,) = json.loads(kept.read("recordings.json"))
    assert (told["id"], told["complete"], len(told["sha256"])) == (RECORDING, True, 64)
    assert told["kept_by"] == done["incident"]["id"]
    ran = await place.run("recordings", "erase", RECORDING)
    assert (ran.code, "is evidence of" in ran.err) == (1, True)
    assert (await place.run("recordings", "expire", "--json")).json() == {"erased": 0}
    identity = done["incident"]["id"]
    (hold,) = read_holds(audit_dir(place.settings))
    assert (hold.id, dict(hold.first)) == (identity, done["held"])

    listed = (await place.run("incident", "list", "--json")).json()["incidents"]
    assert [(one["id"], one["reason"]) for one in listed] == [(identity, "heard in a fraud")]
    assert "lift" in (await place.run("incident", "freeze", "--voice", voice)).out
    assert (await place.run("incident", "lift", identity, "--reason", "cleared")).code == 0
    assert len(read_holds(audit_dir(place.settings))) == 1  # what it keeps outlasts it
    ran = await place.run("incident", "lift", identity, "--reason", "closed", "--release")
    assert ran.code == 0, ran.err
    assert read_holds(audit_dir(place.settings)) == ()
    assert (await place.run("recordings", "expire", "--json")).json() == {"erased": 1}
    assert (await place.run("incident", "list", "--json")).json() == {"incidents": []}
    ran = await place.run("incident", "lift", identity, "--reason", "again")
    assert (ran.code, "lifted already" in ran.err) == (2, True)
    async with open_voices(place.settings) as library:
        lease = await library.lease(tenant=TENANT, voice=voice, agent="ada", purpose=PURPOSE)
        lease.close()
    entries = incidents(place)
    actions = [entry["detail"]["action"] for entry in entries]
    assert actions == ["frozen", "found", "found", "unfrozen", "released"]
    assert {entry["detail"]["incident"] for entry in entries} == {identity}
    assert entries[0]["detail"]["reason"] == "heard in a fraud"
    assert entries[0]["requester"] == "ops"
    assert (entries[1]["detail"]["calls"], entries[1]["detail"]["utterances"]) == (2, 2)
    place.check()


async def test_the_interface_does_the_same_for_its_own_tenant(place: ClonedServer) -> None:
    voice = await place.enrol()
    async with (
        place.serving() as server,
        client(place, server, "voices:write", "voices:speak") as speaker,
    ):
        body = {"voice": NAME, "reason": "misuse"}
        assert (await speaker.post("/incidents", json=body)).status_code == 403
        assert (await speaker.post(f"/voices/{NAME}/speech", json=SPOKEN)).status_code == 200
        async with client(place, server, "incidents") as responder:
            frozen = await responder.post("/incidents", json=body)
            assert frozen.status_code == 201, frozen.text
            identity = frozen.json()["incident"]["id"]
            assert frozen.headers["location"] == f"/v1/incidents/{identity}"
            assert frozen.json()["calls_total"] == 1
            assert len(frozen.json()["calls"][0]["outputs"]) == 1
            refused = await speaker.post(f"/voices/{NAME}/speech", json=SPOKEN)
            assert (refused.status_code, refused.json()["reason"]) == (403, "frozen")
            for answer in (
                await speaker.delete(f"/voices/{NAME}"),
                await speaker.post(f"/voices/{NAME}/renew", json={"purpose": PURPOSE}),
            ):
                assert answer.status_code == 409, answer.text
                assert answer.json()["type"].endswith("voice-frozen")
            shown = await responder.get(f"/incidents/{identity}")
            assert shown.json()["incident"]["open"]
            assert (await responder.get("/incidents/inc_0")).status_code == 404
            wrong = await responder.post("/incidents", json={"voice": NAME, "reason": " \x07"})
            assert wrong.status_code == 422
            path = f"/incidents/{identity}/lift"
            lifted = await responder.post(path, json={"reason": "cleared"})
            assert (lifted.status_code, lifted.json()["open"]) == (200, False)
            assert (await responder.post(path, json={"reason": "x"})).status_code == 409
            everything = await responder.get("/incidents", params={"lifted": True})
            assert [one["id"] for one in everything.json()["incidents"]] == [identity]
        assert (await speaker.post(f"/voices/{NAME}/speech", json=SPOKEN)).status_code == 200
    assert [entry["voice"] for entry in incidents(place)] == [voice] * 3


async def test_who_is_frozen_is_not_enrolled_under_another_name(place: ClonedServer) -> None:
    taken = np.random.default_rng(7).random(256, dtype=np.float32)
    other = np.random.default_rng(8).random(256, dtype=np.float32) ** 4
    near = (taken + 0.1 * other).astype(np.float32)
    async with open_voices(place.settings) as library:
        given = candidate(embedding=taken.tobytes())
        voice, _ = await library.admit(TENANT, given, statement(), utc_now())
        now = utc_now()
        await library.freeze(TENANT, voice.id, reason="misuse", asked_by="ops", now=now)
        again = candidate(name="Someone Else", embedding=near.tobytes())
        with pytest.raises(VoiceFrozenError, match="can't be enrolled again"):
            await library.admit(TENANT, again, statement(), now)
        with pytest.raises(VoiceFrozenError, match="takes no consent"):
            await library.renew(TENANT, voice.id, statement(), now)
        stranger = candidate(name="Another", embedding=other.tobytes())
        await library.admit(TENANT, stranger, statement(), now)
        await library.admit("elsewhere", again, statement(), now)


async def test_a_voice_is_frozen_but_not_unfrozen_without_a_log(
    place: ClonedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.enrol()
    async with open_voices(place.settings) as library:
        monkeypatch.setattr(type(library.ledger), "writable", False)
        incident, new = await library.freeze(
            TENANT, NAME, reason="misuse", asked_by="ops", now=utc_now()
        )
        assert new
        with pytest.raises(LedgerError):
            await library.unfreeze(
                TENANT, incident.id, reason="cleared", asked_by="ops", now=utc_now()
            )
