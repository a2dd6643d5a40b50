"""A recorded person is enrolled, an agent names the voice, phones call: who is heard?

baresip calls with three codecs, Chromium with Opus, and one over Twilio's frames. Each recording
names its call, to who has the watermark's key.

Real material (Asterisk's prompts at 16 kHz), the real desk, engine, library, server and phone.
That a recording is live can't be shown with prompts from a file: the desk is given its assessor in
Python, as nothing else can.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import yaml
from ge2e_reference import SOUNDS, SPEAKERS
from speech import pause, say
from test_agent_voices_enrolment import Lenient, wav

from peers.baresip import baresip, needs_baresip
from peers.chromium import browser_caller, chromium, find_chromium, write_microphone
from peers.compare import read_wav, write_wav
from peers.loopback import ensure_ice_address
from peers.marks import server_keys, sessions, sessions_in
from peers.server import RunningServer, running_server
from peers.twilio_client import dial
from ringtrue.agent.voice_library import open_voices
from ringtrue.config.agent_schema import shipped_agents
from ringtrue.config.settings import load_settings
from ringtrue.voices.encoder import SpeakerEncoder, centroid, similarity
from ringtrue.voices.enrolment.desk import EnrolmentDesk
from ringtrue.voices.flite import VOICES
from ringtrue.voices.library import utc_now
from ringtrue.voices.quality.judge import CepstralJudge
from ringtrue.voices.store.profile import Voice

ROOTS = (SOUNDS, Path(__file__).parent.parent / ".deb" / SOUNDS.relative_to("/"))
RATE = 16000
RATES = {"G722": 16000, "PCMU": 8000, "PCMA": 8000}
AUTH = "0123456789abcdef0123456789abcdef"
SECONDS = 17
"""The greeting takes some 14."""

ENROLLED = "fr_CA_f_June"
NAME, PURPOSE = "June Larkspur", "reception of Example Ltd"
GREETING = (
    "Hello, and thank you for calling. We are open on weekdays from nine until five. "
    "The garden is closed this week, because it rained on Monday. What can I do for you today?"
)
SENTENCES = tuple(f"{part.strip()}." for part in GREETING.split(".") if part.strip())
OTHER_SENTENCES = (
    "Good morning, you have reached the front desk.",
    "The engineer should be with you this afternoon.",
    "My brother threw the heavy leather jacket over the bench.",
)

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Person:
    """One speaker's recordings; no sample is in two of the parts."""

    enrolment: Samples
    held_out: list[Samples]
    background: list[Samples]


def prompts(speaker: str) -> Iterator[Samples]:
    """Prompts of 2.5 s and more, in an order drawn from their names, none twice."""
    found = (path for root in ROOTS for path in (root / speaker).glob("*.g722"))
    paths = sorted(found, key=lambda p: hashlib.sha256(p.name.encode()).digest())
    seen: set[bytes] = set()
    for path in paths:
        if path.stat().st_size < 2.5 * RATE / 2 or "beep" in path.name:
            continue
        with av.open(str(path), format="g722") as container:
            parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
        samples = (np.concatenate(parts, axis=1)[0] / 32768).astype(np.float32)
        if (digest := hashlib.sha256(samples.tobytes()).digest()) not in seen:
            seen.add(digest)
            yield samples


def person(speaker: str) -> Person:
    found = prompts(speaker)

    def some(seconds: float) -> list[Samples]:
        taken: list[Samples] = []
        for samples in found:
            taken.append(samples)
            if sum(map(len, taken)) >= seconds * RATE:
                return taken
        pytest.skip(f"needs {speaker} at 16 kHz (Debian packages asterisk-core-sounds-*-g722)")

    enrolment = np.concatenate(some(30))[: 30 * RATE]
    return Person(enrolment, some(30), some(20))


def stock(name: str, sentences: tuple[str, ...]) -> list[Samples]:
    return [(say(text, RATE, name) / 32768).astype(np.float32) for text in sentences]


async def enrol(settings: Any, recorded: Samples) -> Voice:
    async with open_voices(settings) as library:
        desk = EnrolmentDesk(library, assessor=Lenient())
        issued = await desk.begin("default", name=NAME, purpose=PURPOSE, now=utc_now())
        done = await desk.enrol(
            "default",
            issued.token,
            name=NAME,
            purpose=PURPOSE,
            statement=wav(recorded[: 5 * RATE]),
            speech=wav(recorded[5 * RATE :]),
            asked_by="operator-7",
            now=utc_now(),
        )
    return done.voice


def environment(folder: Path) -> dict[str, str]:
    """Settings of a server whose agent ``june`` speaks with the voice."""
    agents = folder / "agents"
    agents.mkdir()
    agent = yaml.safe_load((shipped_agents() / "demo.yaml").read_text())
    agent |= {"name": "june", "voice": NAME, "purpose": PURPOSE, "greeting": GREETING}
    (agents / "june.yaml").write_text(yaml.safe_dump(agent))
    return {
        "AGENTS__DIR": str(agents),
        "AGENTS__DEFAULT": "june",
        "VOICES__DIR": str(folder / "voices"),
        "TWILIO__ENABLED": "true",
        "TWILIO__AUTH_TOKEN": AUTH,
        # A browser that starts beside four calls makes ticks late, and would be refused for it.
        "ADMISSION__ENABLED": "false",
    }


def called(
    folder: Path, settings: Mapping[str, str]
) -> tuple[dict[str, tuple[Samples, int]], Path, list[dict[str, Any]]]:
    """What a phone of each codec and of Twilio hears that calls the agent, the file that a browser
    recorded, and the records of the calls.
    """
    with running_server(folder / "server", settings) as server, ExitStack() as ringing:
        target = f"sip:june@127.0.0.1:{server.sip_port}"
        phones = {}
        for codec, rate in RATES.items():
            source = folder / f"{codec}.wav"
            write_wav(source, pause(SECONDS, rate), rate)
            phone = baresip(folder / codec, source, codec, target, seconds=22)
            phones[codec] = ringing.enter_context(phone)
        heard = {"twilio": asyncio.run(called_otherwise(server, folder / "call.webm"))}
        for phone in phones.values():
            phone.wait(45)
        for codec, phone in phones.items():
            recording, rate = read_wav(phone.recording())
            assert rate == RATES[codec], phone.log
            heard[codec] = recording.astype(np.float32), rate
        return heard, folder / "call.webm", server.wait_for_records(len(heard) + 1)


async def called_otherwise(server: RunningServer, file: Path) -> tuple[Samples, int]:
    """What is heard over Twilio, while a browser calls and records into ``file``."""
    silence = pause(4 * SECONDS, RATE).astype("<i2").tobytes()
    microphone = write_microphone(file.with_suffix(".wav"), silence, RATE)
    async with (
        dial(server.url, AUTH) as caller,
        chromium(microphone) as browser,
        browser_caller(browser) as page,
    ):
        await page.open(server.url)
        await page.call("june")
        await page.record()
        await asyncio.sleep(SECONDS)
        file.write_bytes(await page.recorded())
        await page.hang_up()
        await page.wait_for_state("ended")
    wave = np.frombuffer(caller.heard_pcm(), "<i2").astype(np.float32)
    return wave / 32768, 8000


@pytest.mark.timeout(240)
def test_the_callers_phone_records_the_enrolled_speaker(tmp_path: Path) -> None:
    needs_baresip()
    find_chromium()
    ensure_ice_address()
    people = {name: person(name) for name in SPEAKERS}
    values = environment(tmp_path)
    settings = load_settings(
        environ=dict(os.environ) | {f"RINGTRUE_{key}": value for key, value in values.items()}
    )
    voice = asyncio.run(enrol(settings, people[ENROLLED].enrolment))
    recordings, browser, records = called(tmp_path, values)
    heard, _ = recordings["G722"]

    for record in records:
        assert record["voice"] == voice.id
        assert record["consent"]
        assert record["refused"] == {}
        assert record.get("voice_revoked") is None

    keys = server_keys(tmp_path / "voices" / "keys" / "watermark.keys")
    told = [sessions(samples.astype(float), rate, keys) for samples, rate in recordings.values()]
    told.append(sessions_in(browser, keys))
    assert sorted(told) == sorted([record["watermark"]] for record in records)
    assert Counter(record["transport"] for record in records) == {
        "sip": 3,
        "twilio": 1,
        "webrtc": 1,
    }

    encoder = SpeakerEncoder.load()
    candidates = {name: one.held_out for name, one in people.items()}
    candidates |= {name: stock(name, SENTENCES) for name in VOICES}
    embedded = encoder.embed(heard, RATE)
    cosines = {
        name: similarity(embedded, centroid([encoder.embed(one, RATE) for one in recordings]))
        for name, recordings in candidates.items()
    }
    assert max(cosines, key=cosines.__getitem__) == ENROLLED, cosines

    background = [one for each in people.values() for one in each.background]
    background += [one for name in VOICES for one in stock(name, OTHER_SENTENCES)]
    ratios = CepstralJudge(background, candidates, gaussians=64).ratios(heard)
    assert max(ratios, key=ratios.__getitem__) == ENROLLED, ratios
