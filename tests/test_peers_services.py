"""A real SIP call in which recognizer, model and voice are all hosted services.

The services are Pipecat's, named in the settings and spoken to in their own wire formats; what
they say reaches the caller through playout and the gate like everything else.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fakes.cartesia_server import cartesia_server
from fakes.openai_server import Pause, Say, openai_server
from ringtrue.agent.loopback import loopback_server
from ringtrue.config.settings import Settings, load_settings
from ringtrue.loadtest.caller import CallResult, VirtualCaller
from ringtrue.loadtest.phone import Phone
from ringtrue.loadtest.prompts import load_prompts
from ringtrue.streaming.record import CallRecord

pytestmark = pytest.mark.uvloop


def settings(folder: Path, cartesia: object, openai: object) -> Settings:
    """All three services by name."""
    path = folder / "hosted.yaml"
    path.write_text(
        f"""
stt:
  engine: pipecat
  service: cartesia
  settings: {{api_key: {cartesia.api_key}, base_url: "{cartesia.url}", model: ink-2, language: en}}
llm:
  engine: openai
  base_url: {openai.base_url}
  api_key: {openai.api_key}
  model: any
tts:
  engine: pipecat
  service: cartesia
  settings: {{api_key: {cartesia.api_key}, url: "{cartesia.url}/tts/websocket", voice: v-1}}
deadlines: {{llm_first_chunk_seconds: 1, llm_inter_chunk_seconds: 1}}
"""
    )
    return load_settings(path, environ={})


async def converse(wanted: Settings) -> tuple[CallResult, CallRecord]:
    """Hear the greeting, ask one thing, hear the answer, hang up."""
    prompts = load_prompts("rms")

    async def script(caller: VirtualCaller) -> None:
        await caller.hear_out()
        await caller.say(prompts["opening_hours"])
        await caller.hear_out()
        await caller.hangup()

    async with loopback_server(wanted) as server, Phone() as phone:
        target = f"sip:reception@127.0.0.1:{server.sip_port}"
        result = await phone.call(target, script, name="caller", max_seconds=40)
        record = await server.calls.last_record()
    assert record is not None
    return result, record


async def test_a_call_with_hosted_services_only(tmp_path: Path) -> None:
    async with cartesia_server() as cartesia, openai_server() as openai:
        cartesia.transcripts.append("what are your opening hours")
        openai.script(*[Say(word) for word in ("We ", "open ", "at ", "nine ", "every ", "day.")])
        result, record = await converse(settings(tmp_path, cartesia, openai))
        assert result.ok, result.detail
        said = " ".join(str(request["transcript"]) for request in cartesia.spoken)
    assert "automated" in said
    assert "We open at nine every day." in " ".join(said.split())
    assert len(cartesia.heard) > 16000
    asked = openai.requests[0]["messages"]
    assert asked[-1] == {"role": "user", "content": "what are your opening hours"}
    assert asked[-2]["role"] == "assistant"
    assert record.turns[1].interval("turn_latency") is not None
    assert record.refused == {}
    assert len(record.digests) >= 2


async def test_a_hosted_model_that_stays_silent_is_heard_as_an_apology(tmp_path: Path) -> None:
    async with cartesia_server() as cartesia, openai_server() as openai:
        cartesia.transcripts.append("what are your opening hours")
        openai.script(Pause(30))
        openai.script(*[Say(word) for word in ("Sorry ", "for ", "the ", "wait: ", "nine.")])
        result, record = await converse(settings(tmp_path, cartesia, openai))
        said = " ".join(str(request["transcript"]) for request in cartesia.spoken)
    assert result.ok, result.detail
    assert "moment" in said or "second" in said
    stalls = {reason for turn in record.turns for reason in turn.stalls}
    assert stalls == {"first_chunk"}
    await asyncio.sleep(0)
