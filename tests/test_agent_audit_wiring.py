"""What calls, commands and the HTTP interface leave in the audit log, and can't do without."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from audit_logs import add, moment, opened
from cloned_server import TENANT, ClonedServer, cloned_server
from command_line import run_command
from library_links import NAME, PURPOSE, RecordingEngine, statement

from fakes.scripted_voices import CLONED
from ringtrue.agent.audit.entries import Event, Kind
from ringtrue.agent.audit.opening import audit_dir
from ringtrue.agent.server import Server
from ringtrue.agent.voice_library import open_voices
from ringtrue.loadtest.caller import CallResult, VirtualCaller
from ringtrue.loadtest.phone import Phone
from ringtrue.voices.ledger import LedgerError
from ringtrue.voices.library import utc_now
from ringtrue.voices.store.api_keys import ApiScope

pytestmark = pytest.mark.keeps("the recognizer's and the engines' threads end with the server")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClonedServer:
    return cloned_server(tmp_path, monkeypatch)


def unwrapped(text: str) -> str:
    """What an error box says, in one line."""
    return "".join(line.strip("│ ").ljust(1) + " " for line in text.splitlines())


async def greeted(server: Server) -> CallResult:
    async def script(caller: VirtualCaller) -> None:
        await caller.wait_for_agent_to_finish(within=20)
        await caller.hangup()

    async with Phone() as phone:
        result = await phone.call(f"sip:ada@127.0.0.1:{server.sip_port}", script, name="caller")
    await server.calls.last_record()
    return result


def in_cloned_voice(result: CallResult) -> bool:
    assert result.recording is not None
    pcm = np.frombuffer(result.recording.agent, "<i2").astype(float)
    return bool((np.convolve(pcm, np.ones(800) / 800, "valid") > 0.8 * CLONED).any())


async def test_a_call_leaves_its_evidence(place: ClonedServer, tmp_path: Path) -> None:
    voice = await place.enrol()
    async with place.serving() as server:
        assert in_cloned_voice(await greeted(server))
        call = server.calls.records[-1].call_id
        digests = server.calls.records[-1].digests
        await server.audit.flush()
        shown = (await place.run("audit", "show", "--call", call, "--text", "--json")).json()
        entries = shown["entries"]
        assert [entry["kind"] for entry in entries] == ["call.started", "utterance", "call.ended"]
        table = await place.run("audit", "show", "--call", call, "--text")
        assert "the automated voice of" in " ".join(unwrapped(table.out).split())
        assert (await place.run("audit", "verify")).code == 0
    utterance = entries[1]
    assert utterance["voice"] == voice
    assert utterance["agent"] == "ada"
    assert utterance["engine"] == RecordingEngine.id
    assert utterance["watermark"].startswith("rt1:")
    assert utterance["output"]["chain"] == digests[0]
    assert utterance["said"] == "Hello, this is the automated voice of Example."
    assert "automated" not in "".join(
        path.read_text() for path in audit_dir(place.settings).rglob("*.jsonl")
    )
    (lease,) = place.entries(kind="voice.leased", agent="ada")[-1:]
    assert utterance["consent"] == lease["consent"]
    assert utterance["detail"]["disclosure"] == "fully"
    ended = entries[2]["detail"]
    assert ended["utterances"] == 1
    assert (ended["disclosure"], ended["disclosed"], ended["claims_replaced"]) == ("fully", 1, 0)
    place.check()

    bundle = tmp_path / "bundle.zip"
    made = await place.run("evidence", "--call", call, "-o", bundle, "--reveal-text", "--json")
    assert made.code == 0, made.err
    key = made.json()["public_key"]
    checked = await place.run("evidence", "verify", bundle, "--key", key, "--json")
    assert checked.code == 0, checked.out
    report = checked.json()
    assert report["good"]
    assert report["trusted"]
    assert {entry["kind"] for entry in report["entries"]} >= {"consent.given", "utterance"}
    (exported,) = place.entries(kind="evidence.exported")
    assert exported["call"] == call
    ran = await place.run("audit", "verify", "--witness", tmp_path / "witness", "--json")
    assert ran.code == 0, ran.out
    assert ran.json()["logs"][0]["witnessed"] > 2


async def test_without_an_audit_log_the_stock_voice_answers(place: ClonedServer) -> None:
    await place.enrol()
    async with place.serving() as server:
        assert in_cloned_voice(await greeted(server))
        server.audit._broken = "for the test"
        assert b"ringtrue_audit_writable 0.0" in server.metrics.render()
        assert not in_cloned_voice(await greeted(server))
        assert server.calls.records[-1].voice_refused == "unrecorded"
        library = server.library
        assert library is not None
        with pytest.raises(LedgerError):
            await library.lease(tenant=TENANT, voice=NAME, agent="ada", purpose=PURPOSE)
        server.audit._broken = None
        assert in_cloned_voice(await greeted(server))


async def test_a_directory_that_cannot_be_written_costs_the_cloned_voice_only(
    place: ClonedServer,
) -> None:
    await place.enrol()
    directory = audit_dir(place.settings)
    directory.rename(directory.with_name("away"))
    directory.write_text("in the way")
    async with place.serving() as server:
        assert not in_cloned_voice(await greeted(server))
        directory.unlink()
        async with asyncio.timeout(10):
            while not server.audit.writable:
                await asyncio.sleep(0.05)
        assert in_cloned_voice(await greeted(server))
    place.check()
    assert [entry["detail"]["lost"] for entry in place.entries(kind="log.resumed")] == [0]


async def test_every_act_with_a_voice_is_recorded(place: ClonedServer) -> None:
    voice = await place.enrol()
    serial = place.entries(kind="consent.given")[0]["consent"]
    async with open_voices(place.settings) as library:
        with pytest.raises(Exception, match="purpose"):
            await library.lease(tenant=TENANT, voice=NAME, agent="ada", purpose="anything else")
        library_consent = await library.renew(TENANT, NAME, statement(), utc_now())
        await library.suspend(TENANT, NAME, utc_now(), asked_by="ops")
        await library.resume(TENANT, NAME, utc_now(), asked_by="ops")
    assert (await place.run("voices", "export-consent", NAME)).code == 0
    assert (await place.run("voices", "withdraw", NAME)).code == 0
    assert (await place.run("voices", "erase", NAME, "--yes")).code == 0
    found = place.entries(voice=voice)
    assert [entry["kind"] for entry in found] == [
        "voice.enrolled",
        "consent.given",
        "voice.refused",
        "consent.renewed",
        "voice.suspended",
        "voice.resumed",
        "consent.exported",
        "consent.withdrawn",
        "voice.erased",
    ]
    assert found[0]["consent"] == serial
    assert found[2]["detail"] == {"reason": "purpose"}
    assert found[3]["consent"] == library_consent.serial
    assert found[4]["requester"] == "ops"
    assert found[8]["requester"] == "command line"
    text = json.dumps(found)
    assert NAME not in text
    assert "I Ada" not in text
    place.check()


async def test_api_keys_and_their_use_are_recorded(place: ClonedServer) -> None:
    await place.enrol()
    made = await place.run(
        "keys", "create", "--label", "t", "--scope", ApiScope.READ, "--scope", "voices:speak",
        "--json",
    )  # fmt: skip
    key = made.json()
    async with place.serving() as server:
        url = f"http://127.0.0.1:{server.http_port}/v1"
        good = {"Authorization": f"Bearer {key['token']}"}
        async with httpx.AsyncClient() as client:
            for _ in range(3):
                assert (await client.get(f"{url}/voices", headers=good)).status_code == 200
            wrong = {"Authorization": "Bearer rtk_wrong"}
            assert (await client.get(f"{url}/voices", headers=wrong)).status_code == 401
            answer = await client.delete(f"{url}/voices/{NAME}", headers=good)
            assert answer.status_code == 403
            body = {"text": "w1 w2", "purpose": PURPOSE}
            spoken = await client.post(f"{url}/voices/{NAME}/speech", headers=good, json=body)
            assert spoken.status_code == 200
    assert (await place.run("keys", "revoke", key["id"])).code == 0
    asker = f"api-key:{key['id']}"
    whats = [entry["detail"]["what"] for entry in place.entries(kind="key.api")]
    assert whats == ["made", "revoked"]
    assert len(place.entries(kind="api.login", requester=asker)) == 1
    reasons = [entry["detail"]["reason"] for entry in place.entries(kind="api.refused")]
    assert reasons == ["key", "scope voices:write"]
    (said,) = place.entries(kind="utterance", requester=asker)
    assert said["output"]["samples"] > 0
    shown = await place.run("audit", "show", "--call", said["call"], "--text", "--json")
    assert shown.json()["entries"][0]["said"] == "w1 w2"
    assert key["token"] not in json.dumps(place.entries())
    place.check()


async def test_a_master_key_s_change_is_recorded(place: ClonedServer) -> None:
    await place.enrol()
    assert (await place.run("voices", "rewrap-keys", "--add")).code == 0
    assert (await place.run("voices", "rewrap-keys")).code == 0
    whats = [entry["detail"]["what"] for entry in place.entries(kind="key.master")]
    assert whats == ["added", "rewrapped"]


async def test_verify_says_where_and_ends_with_one(place: ClonedServer) -> None:
    await place.enrol()
    path = next(audit_dir(place.settings).glob("w00/0*.jsonl"))
    path.write_bytes(path.read_bytes().replace(b'"tenant":"default"', b'"tenant":"defaulu"', 1))
    ran = await place.run("audit", "verify")
    assert ran.code == 1
    assert f"w00: {path.name} line" in ran.out
    ran = await place.run("audit", "verify", "--json")
    assert ran.code == 1
    assert not ran.json()["good"]
    ran = await place.run("audit", "verify", "--dir", place.config.parent / "nowhere")
    assert ran.code == 2
    assert "--dir" in unwrapped(ran.err)
    ran = await place.run("audit", "verify", "--since", "yesterday")
    assert ran.code == 2
    assert "e.g. 2026-03-01" in unwrapped(ran.err)


async def test_a_call_there_is_not(place: ClonedServer, tmp_path: Path) -> None:
    await place.enrol()
    for command in (("audit", "show"), ("evidence", "-o", tmp_path / "b.zip")):
        ran = await place.run(*command, "--call", "none")
        assert ran.code == 2
        assert "no entry of call 'none'" in ran.err
    assert not (tmp_path / "b.zip").exists()


def test_what_was_written_is_shown_as_it_stands(tmp_path: Path) -> None:
    writer = opened(tmp_path / "audit")
    add(writer, [Event(Kind.CALL_ENDED, call="call-1", detail={"outcome": "[/b] [red]"})], 1)
    writer.close(moment(2))
    shown = run_command("audit", "show", "--call", "call-1", "--dir", tmp_path / "audit")
    assert shown.code == 0, shown.err
    assert "outcome=[/b] [red]" in shown.out
