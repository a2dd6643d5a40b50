"""A call whose cloned voice turns out not to be itself: it is taken away, and no word is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from library_links import RecordingEngine, candidate, statement
from speech import say
from test_agent_voice_calls import TENANT, make_house

from ringtrue.agent import voice_library
from ringtrue.agent.audit.opening import audit_dir
from ringtrue.agent.audit.searching import entries_of
from ringtrue.loadtest.caller import VirtualCaller
from ringtrue.loadtest.phone import Phone
from ringtrue.streaming.ports import Licence, SynthesisStream
from ringtrue.voices.encoder import SpeakerEncoder
from ringtrue.voices.engine import PreparedVoice, VoiceEngine
from ringtrue.voices.library import utc_now
from ringtrue.voices.rolling_likeness import (
    SOUND,
    LikenessJudge,
    LikenessPolicy,
    LikenessWatch,
    sound_of,
)
from ringtrue.voices.stock import FliteEngine

SENTENCES = (
    "Hello, and thank you for calling us today.",
    "I can see your booking for Thursday afternoon, and everything is in order.",
    "Would you like me to send the details to your phone?",
)
OTHERS = (
    "Good evening, this is the booking line of the harbour hotel.",
    "The train on platform nine leaves at sixteen minutes past four.",
    "The guarantee covers parts and labour for three years.",
    "Breakfast is served from seven until half past ten.",
)


def sound(voice: str) -> bytes:
    recordings = [(say(text, 16000, voice) / 32768).astype(np.float32) for text in SENTENCES]
    return sound_of(recordings, SpeakerEncoder.load())


class Impostor(RecordingEngine):
    """Whatever it was given a state of, it speaks with the same stock voice."""

    def __init__(self, stock: FliteEngine) -> None:
        super().__init__()
        self._stock = stock

    async def prepare(self, state: bytes) -> PreparedVoice:
        await self._stock.warm()
        return _Slt(self._stock)


class _Slt:
    speaks_markup = False

    def __init__(self, stock: FliteEngine) -> None:
        self._stock = stock

    def open(self, rate: int) -> SynthesisStream:
        return self._stock.open("slt", rate)


@pytest.mark.parametrize(("enrolled", "alarms"), [("slt", False), ("rms", True), ("awb", True)])
async def test_a_voice_is_told_from_others_by_its_sound(enrolled: str, alarms: bool) -> None:
    judge, told = LikenessJudge(), list[float]()
    watch: LikenessWatch = judge.watch(b"", sound(enrolled), 8000, told.append)
    licence: Licence = None  # type: ignore[assignment]
    pcm = b"".join(say(text, 8000, "slt").tobytes() for text in OTHERS)
    for start in range(0, len(pcm) - 319, 320):
        watch.heard(pcm[start : start + 320], licence)
    async with asyncio.timeout(20):
        while judge._pending:
            await asyncio.sleep(0.01)
    judge.close()
    assert judge.stats.judged >= 5
    assert bool(told) is alarms
    assert watch.vouches(licence) is not alarms


@pytest.mark.keeps("the recognizer's and the engines' threads end with the server")
async def test_the_stock_voice_takes_over_from_a_voice_that_is_not_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = make_house(tmp_path, monkeypatch)

    def engines(_: object, stock: FliteEngine) -> dict[str, VoiceEngine]:
        return {Impostor.id: Impostor(stock)}

    monkeypatch.setattr(voice_library, "voice_engines", engines)
    async with house.elsewhere() as library:
        made = candidate(kept={SOUND: sound("rms")})
        voice, _ = await library.admit(TENANT, made, statement(), utc_now())
    async with house.serving() as server:
        server.engines.likeness.policy = LikenessPolicy(row=2)  # a short greeting will do

        async def script(caller: VirtualCaller) -> None:
            await caller.wait_for_agent_to_start()
            ((_, active),) = server.calls._active.items()
            async with asyncio.timeout(20):
                while active.record.voice_revoked is None:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)  # for the stock voice to be heard
            await caller.hangup()

        async with Phone() as phone:
            assert (await phone.call(f"sip:ada@127.0.0.1:{server.sip_port}", script)).ok
        await server.calls.last_record()
        (record,) = server.calls.records
        await server.audit.flush()
        metric = server.metrics.registry.get_sample_value
        assert metric("ringtrue_voices_revoked_total", {"reason": "likeness"}) == 1
        assert metric("ringtrue_likeness_alarms_total", {}) == 1
        assert (metric("ringtrue_likeness_windows_total", {"fate": "unlike"}) or 0) >= 2
    assert record.voice == voice.id
    assert record.voice_revoked == "likeness"
    assert record.refused == {}
    kept = list(entries_of(audit_dir(house.settings), lambda each: "kind" in each, b""))
    (entry,) = (each for each in kept if each["kind"] == "call.voice_revoked")
    assert (entry["voice"], entry["detail"]["reason"]) == (voice.id, "likeness")
    spoken = [each.get("consent") is not None for each in kept if each["kind"] == "utterance"]
    assert spoken == [True, False]  # the cloned voice, then the stock voice
