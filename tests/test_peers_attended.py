"""Real phones in attended transfers: joined by us, taken over by Replaces, and sending us on."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from speech import pause, say
from test_peers_transfer import until

from peers.baresip import Baresip, baresip, needs_baresip
from peers.chromium import browser_caller, chromium, find_chromium, write_microphone
from peers.compare import read_wav, write_wav
from peers.linphone import Linphone, linphone, needs_linphone
from peers.loopback import ensure_ice_address
from peers.server import RunningServer, running_server
from peers.twilio_client import dial

AGENT = """
name: switchboard
title: Switchboard
greeting: Hi.
disclosure: {{text: "An AI."}}
transfers:
  desk: {{to: "sip:alice@127.0.0.1:{desk}", title: the desk, how: attended}}
  other: {{to: "sip:carol@127.0.0.1:{other}", title: the other desk, how: attended}}
  front: {{to: "sip:alice@127.0.0.1:{desk}", title: the front desk}}
  meeting: {{to: "sip:alice@127.0.0.1:{desk}", title: the meeting, how: conference}}
transferring: {{failed: Sorry, seconds: 20, follow: true, briefing: {{ask: "{{briefing}} Yes?"}}}}
dialogue:
  intents:
    desk:
      examples: [get me the desk]
      answers: Fine
      action: {{transfer: desk, briefing: Ms Rivera}}
    other: {{examples: [get me somebody else], answers: Fine, action: {{transfer: other}}}}
    front: {{examples: [the front desk], answers: Fine, action: {{transfer: front}}}}
    meeting: {{examples: [the meeting], answers: Fine, action: {{transfer: meeting}}}}
  dtmf: {{"1": desk, "2": other, "3": front, "4": meeting}}
  fallbacks: [Pardon]
  give_up: {{say: Goodbye}}
"""
AUTH = "0123456789abcdef0123456789abcdef"
TONE = 1020.0
QUIET = 3.0
"""Seconds for which the desk only listens, after it answered."""


@dataclass
class House:
    """The server, and the phones that callers are put through to."""

    server: RunningServer
    desk: Baresip
    other: Linphone | None
    silence: Path
    folder: Path

    def log(self) -> str:
        return self.server.log.read_text()

    def seen(self, event: str) -> int:
        return self.log().count(f'"event": "{event}"')

    def after(self, event: str, times: int) -> None:
        """Wait until the log has it so often."""
        until(lambda: self.seen(event) >= times, self.server.log)

    def records(self, count: int) -> list[dict[str, Any]]:
        """The last ``count`` records, once there are so many more than now."""
        return self.server.wait_for_records(count)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    needs_baresip()
    folder = tmp_path_factory.mktemp("house")
    words, silence = folder / "words.wav", folder / "silence.wav"
    talk = np.tile(say("This is the desk.", 8000, "rms"), 20)
    write_wav(words, np.concatenate([pause(QUIET), talk]), 8000)
    write_wav(silence, pause(80), 8000)
    agents = folder / "agents"
    agents.mkdir()
    with contextlib.ExitStack() as stack:
        account = ";answermode=auto"
        desk = stack.enter_context(
            baresip(folder / "desk", words, "PCMU", seconds=150, account=account)
        )
        other = None
        if shutil.which("linphonec"):
            other = stack.enter_context(linphone(folder / "other", "carol", answers=True))
        port = 9 if other is None else other.sip_port
        (agents / "switchboard.yaml").write_text(AGENT.format(desk=desk.sip_port, other=port))
        settings = {
            "AGENTS__DIR": str(agents),
            "AGENTS__DEFAULT": "switchboard",
            "OUTBOUND__ENABLED": "true",
            "OUTBOUND__TENANTS__DEFAULT__URIS": "sip:*@127.0.0.1:*",
            "VOICES__DIR": str(folder / "voices"),
            "AUDIT__DIR": str(folder / "audit"),
            "TWILIO__ENABLED": "true",
            "TWILIO__AUTH_TOKEN": AUTH,
        }
        server = stack.enter_context(running_server(folder / "server", settings))
        yield House(server, desk, other, silence, folder)


def tone(seconds: float) -> npt.NDArray[np.int16]:
    """What the caller is, to be found again in what the desk hears."""
    wave = 6000 * np.sin(2 * np.pi * TONE * np.arange(int(seconds * 8000)) / 8000)
    return wave.astype(np.int16)


def tone_share(samples: npt.NDArray[np.float64]) -> float:
    """How much of it is that tone."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    near = np.abs(np.arange(len(spectrum)) * 8000 / len(samples) - TONE) < 10
    return float(np.sum(spectrum[near]) / max(np.sum(spectrum), 1e-12))


def heard_by(peer: Baresip) -> npt.NDArray[np.float64]:
    """Its latest recording of a far end."""
    found = (peer.folder / "rec").glob("*-dec.wav")
    samples, rate = read_wav(max(found, key=lambda path: path.stat().st_mtime_ns))
    assert rate == 8000
    return np.asarray(samples, np.float64)


def test_the_desk_is_asked_and_joined_with_the_caller(house: House) -> None:
    """baresip 1.0 knows no Replaces, so the two calls are joined."""
    voice = house.folder / "voice.wav"
    write_wav(voice, np.concatenate([pause(6), tone(60)]), 8000)
    target = f"sip:switchboard@127.0.0.1:{house.server.sip_port}"
    with baresip(house.folder / "phone", voice, "PCMU", target, seconds=60) as phone:
        house.after("dialogue.reply", 1)
        phone.command("sndcode", "1#")
        house.after("dialogue.reply", 3)  # it is asked
        house.desk.command("sndcode", "1#")
        house.after("call.transfer", 1)
        time.sleep(QUIET + 1)  # they talk
        house.desk.command("hangup")
        records = house.records(2)
        heard_by_desk = heard_by(house.desk)
    caller = next(record for record in records if record["direction"] == "inbound")
    assert caller["outcome"] == "transferred"
    assert [(t["to"], t["outcome"], t["how"]) for t in caller["transfers"]] == [
        ("desk", "transferred", "bridge")
    ]
    assert (caller["errors"], caller["refused"]) == ({}, {})
    assert np.sqrt(np.mean(heard_by(phone)[-16000:] ** 2)) > 0.01  # the desk's words
    assert tone_share(heard_by_desk[-8000:]) > 0.9  # and the caller's tone


async def after(true: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.05)


async def test_a_caller_over_twilio_is_joined_without_a_word(house: House) -> None:
    """A blind transfer that no phone can make: we call, and nobody is asked."""
    before, replies = len(house.server.records()), house.seen("dialogue.reply")
    transfers = house.seen("call.transfer")
    async with dial(house.server.url, AUTH) as caller:
        await after(lambda: house.seen("dialogue.reply") > replies)
        for key in "3#":
            await caller.press(key)
        await after(lambda: house.seen("call.transfer") > transfers)
        caller.say(tone(30).tobytes())
        await asyncio.sleep(QUIET + 1)
        heard_by_caller = np.frombuffer(caller.heard_pcm(), "<i2")[-8000:] / 32768
        await caller.hang_up()
    await after(lambda: len(house.server.records()) >= before + 2)
    caller_record, human = sorted(house.server.records()[before:], key=lambda r: r["direction"])
    assert [(t["to"], t["outcome"], t["how"]) for t in caller_record["transfers"]] == [
        ("front", "transferred", "bridge")
    ]
    assert (caller_record["transport"], human["transport"]) == ("twilio", "sip")
    assert caller_record["errors"] == human["errors"] == {}
    assert np.sqrt(np.mean(heard_by_caller**2)) > 0.01  # the desk's words
    await asyncio.sleep(0.5)  # the desk writes down what it heard
    assert tone_share(heard_by(house.desk)[-8000:]) > 0.9
    assert human["turns"] == []  # it was told nothing


async def test_a_browser_meets_a_phone_and_the_agent(house: House, tmp_path: Path) -> None:
    """A conference of three: Chromium and baresip hear each other, and the agent stays."""
    find_chromium()
    ensure_ice_address()
    before, replies = len(house.server.records()), house.seen("dialogue.reply")
    transfers = house.seen("call.transfer")
    # in bursts: the browser's noise suppression takes a steady tone away, by 6 dB a second
    bursts = np.tile(np.concatenate([pause(0.6), tone(0.4)]), 30)
    line = np.concatenate([pause(5), bursts]).astype("<i2").tobytes()
    microphone = write_microphone(tmp_path / "microphone.wav", line, 8000)
    async with chromium(microphone) as browser, browser_caller(browser) as caller:
        await caller.open(house.server.url)
        await caller.call("switchboard")
        await after(lambda: house.seen("dialogue.reply") > replies)
        for key in "4#":
            await caller.press(key)
        await after(lambda: house.seen("dialogue.reply") > replies + 2)  # the desk is asked
        await asyncio.to_thread(house.desk.command, "sndcode", "1#")
        await after(lambda: house.seen("call.transfer") > transfers)
        energy = (await caller.received()).energy
        await asyncio.sleep(QUIET + 1)
        energy = (await caller.received()).energy - energy
        await asyncio.to_thread(house.desk.command, "hangup")
        await after(lambda: len(house.server.records()) > before)
        await caller.wait_for_state("speaking")  # that they are with the agent again
        await caller.hang_up()
    await after(lambda: len(house.server.records()) >= before + 2)
    called, record = sorted(house.server.records()[before:], key=lambda r: r["transport"])
    assert (called["transport"], record["transport"]) == ("sip", "webrtc")
    assert [(t["to"], t["outcome"], t["how"]) for t in record["transfers"]] == [
        ("meeting", "transferred", "conference")
    ]
    assert (record["outcome"], record["errors"], record["refused"]) == ("caller_hung_up", {}, {})
    assert energy > 0.001  # the desk's words
    last = heard_by(house.desk)[-int(QUIET * 8000) :]
    loud = [part for part in np.split(last, len(last) // 1600) if np.std(part) > 0.01]
    assert max(map(tone_share, loud)) > 0.9  # and the browser's tone


def test_a_phone_takes_our_call_to_another_over(house: House) -> None:
    """linphone at both ends: REFER with Replaces (RFC 5589 §7), and we are out of it."""
    needs_linphone()
    assert house.other is not None
    before, replies = len(house.server.records()), house.seen("dialogue.reply")
    with linphone(house.folder / "bob", "bob") as phone:
        time.sleep(1)  # it has no address before
        phone.command(f"call sip:switchboard@127.0.0.1:{house.server.sip_port}")
        house.after("dialogue.reply", replies + 1)
        phone.command(f"play {house.silence}")
        time.sleep(0.5)
        for key in "2#":
            phone.command(key)
        house.after("dialogue.reply", replies + 3)
        house.other.command(f"play {house.silence}")
        time.sleep(0.5)
        for key in "1#":
            house.other.command(key)
        records = house.records(before + 2)
        until(lambda: "for call 2 (audio)" in phone.log, house.server.log)
        assert "Call 2 with sip:bob@127.0.0.1 connected" in house.other.log
    caller = next(record for record in records[before:] if record["direction"] == "inbound")
    assert caller["outcome"] == "transferred"
    assert [(t["to"], t["outcome"], t["how"]) for t in caller["transfers"]] == [
        ("other", "transferred", "replaces")
    ]


def test_a_phone_sends_us_on(house: House) -> None:
    """baresip's own blind transfer: refused off the list (it hangs up then), followed on it."""
    target = f"sip:switchboard@127.0.0.1:{house.server.sip_port}"
    for number, user in enumerate(("mallory", "alice")):
        before, replies = len(house.server.records()), house.seen("dialogue.reply")
        folder = house.folder / f"sender-{number}"
        with baresip(folder, house.silence, "PCMU", target, seconds=60) as phone:
            house.after("dialogue.reply", replies + 1)
            transfers = house.seen("call.transfer")
            phone.command("transfer", f"sip:{user}@127.0.0.1:{house.desk.sip_port}")
            if user == "alice":
                house.after("call.transfer", transfers + 1)
                time.sleep(1)
                house.desk.command("hangup")
            (record,) = house.records(before + 1)[before:]
        assert record["outcome"] == "caller_hung_up"
        assert record["errors"] == {}
        if user == "mallory":
            assert house.seen("call.referral_refused") == 1
            assert record["transfers"] == []
    assert [(t["to"], t["outcome"], t["how"], t["sip_status"]) for t in record["transfers"]] == [
        ("desk", "transferred", "follow", 200)
    ]
