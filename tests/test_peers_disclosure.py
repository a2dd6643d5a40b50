"""A real SIP call whose caller talks over the disclosure, asking whether a machine speaks."""

from __future__ import annotations

import pytest
from speech import say

from ringtrue.agent.audit.entries import Kind
from ringtrue.agent.audit.searching import call_entries
from ringtrue.agent.loopback import loopback_server
from ringtrue.config.settings import load_settings
from ringtrue.loadtest.caller import VirtualCaller
from ringtrue.loadtest.phone import Phone
from ringtrue.loadtest.prompts import Prompt

QUESTION = "Am I talking to a machine?"

pytestmark = pytest.mark.uvloop


async def test_who_talks_over_it_and_asks_is_answered_with_it() -> None:
    question = Prompt("question", QUESTION, say(QUESTION, 8000, "slt").tobytes(), 8000)

    async def script(caller: VirtualCaller) -> None:
        await caller.interrupt(question, after_ms=700)
        await caller.hear_out()
        await caller.hangup()

    async with loopback_server(load_settings(environ={})) as server:
        async with Phone() as phone:
            target = f"sip:reception@127.0.0.1:{server.sip_port}"
            result = await phone.call(target, script, name="caller", max_seconds=40)
        record = await server.calls.last_record()
        await server.audit.flush()
        assert record is not None
        entries = call_entries(server.audit.directory, record.call_id)
    assert result.ok, result.detail
    assert (record.disclosure, record.disclosure_attempts) == ("fully", 2)
    assert (record.asked_whether_human, record.interruptions) == (1, 1)
    said = [entry["detail"] for entry in entries if entry["kind"] == Kind.UTTERANCE]
    assert [detail["disclosure"] for detail in said] == ["partly", "fully"]
    assert entries[-1]["detail"]["disclosure"] == "fully"
