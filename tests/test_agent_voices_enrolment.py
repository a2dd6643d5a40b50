"""The whole way over HTTP: real library, real desk, real engine; a recorded person's voice.

That a recording is live can't be shown with one from a file, and no setting switches a check off:
the desk of the first test is given its assessor in Python.
"""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import soxr
from enrolment_desk import NAME, PURPOSE, config_in
from ge2e_reference import prompt
from httpx import ASGITransport

from ringtrue.agent.voices_api import VoicesApi
from ringtrue.agent.voices_desk import enrolment_desk
from ringtrue.voices.embedded import EmbeddedEngine
from ringtrue.voices.encoder import SpeakerEncoder, similarity
from ringtrue.voices.engine import OnProgress, Progress
from ringtrue.voices.enrolment.assessment import Assessment, AssessmentRequest
from ringtrue.voices.enrolment.desk import EnrolmentDesk
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.enrolment.recording import read_recording
from ringtrue.voices.library import VoiceLibrary, open_library, utc_now
from ringtrue.voices.stock import FliteEngine
from ringtrue.voices.watermark.detector import detect

RATE = 16000
Audio = npt.NDArray[np.float32]


class Lenient:
    """Takes every recording for what it says it is."""

    async def assess(self, request: AssessmentRequest, on_progress: OnProgress) -> Assessment:
        on_progress(Progress(0.5, "checking the recordings"))
        assert request.speech is not None
        statement, speech = map(read_recording, (request.statement, request.speech))
        embedding = SpeakerEncoder.load().embed(speech.samples, RATE)
        findings = tuple(Finding(check, True, 1.0, 0.5, "fine") for check in Check)
        words = request.challenge.text
        return Assessment(findings, words, statement.samples, speech.samples, embedding, ())


def wav(samples: Audio) -> bytes:
    with wave.open(file := io.BytesIO(), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


def samples(data: bytes) -> Audio:
    with wave.open(io.BytesIO(data)) as file:
        pcm = file.readframes(file.getnframes())
    return (np.frombuffer(pcm, "<i2") / 32768).astype(np.float32)


@asynccontextmanager
async def visitor(
    library: VoiceLibrary, lenient: bool
) -> AsyncIterator[tuple[VoicesApi, httpx.AsyncClient]]:
    def desk(opened: VoiceLibrary) -> Any:
        return EnrolmentDesk(opened, assessor=Lenient()) if lenient else enrolment_desk(opened)

    api = VoicesApi(lambda: library, desk)
    made = await library.store.api_keys.create("acme", label="x", scopes=["admin"], now=utc_now())
    headers = {"Authorization": f"Bearer {made.token}"}
    transport = ASGITransport(app=api.app)
    try:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://test", headers=headers, timeout=60
        ) as client:
            yield api, client
    finally:
        await api.close()


async def enrolled(
    client: httpx.AsyncClient, statement: bytes, speech: bytes
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How an enrolment ended, and the progress on the way."""
    new = {"name": NAME, "purpose": PURPOSE}
    challenge = (await client.post("/voices", json=new)).json()
    url = f"/enrolments/{challenge['enrolment']}"
    given = await client.post(
        f"{url}/recordings",
        data={"token": challenge["token"]},
        files={"statement": statement, "speech": speech},
    )
    assert given.status_code == 202, given.text
    found, steps = given.json(), []
    async with asyncio.timeout(100):
        while found["state"] in ("queued", "running"):
            query = {"after": found["version"], "wait": 20}
            found = (await client.get(url, params=query)).json()
            steps.append(found["progress"])
    return found, steps


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[VoiceLibrary]:
    stock = FliteEngine(threads=1)
    engine = EmbeddedEngine(stock)
    try:
        async with open_library(config_in(tmp_path), {engine.id: engine}) as opened:
            yield opened
    finally:
        await engine.close()
        await stock.close()


@pytest.mark.timeout(300)
async def test_a_recorded_person_speaks_over_http(library: VoiceLibrary) -> None:
    parts = [prompt("it_IT_m_Carlo", name) for name in ("demo-congrats", "conf-usermenu")]
    recorded = np.concatenate([soxr.resample(part, rate, RATE) for part, rate in parts])
    recorded = recorded[: 20 * RATE]
    statement, speech = wav(recorded[: 5 * RATE]), wav(recorded[5 * RATE :])
    async with visitor(library, lenient=True) as (_, client):
        found, steps = await enrolled(client, statement, speech)
        assert found["state"] == "enrolled", found
        assert {item["check"] for item in found["findings"]} == set(Check)
        assert [step["done"] for step in steps] == sorted(step["done"] for step in steps)
        assert steps[-1]["done"] == 1
        assert len({step["doing"] for step in steps}) > 2
        text = "Good morning, and thank you for calling. What can I do for you today?"
        spoken = await client.post(
            f"/voices/{found['voice']}/speech", json={"text": text, "purpose": PURPOSE}
        )
        assert spoken.status_code == 200
    found_mark = detect(samples(spoken.content), RATE, library.config.marks.detection)
    assert found_mark is not None
    assert found_mark.significance > 20
    encoder = SpeakerEncoder.load()
    speaker = encoder.embed(recorded[5 * RATE :], RATE)
    cloned = similarity(encoder.embed(samples(spoken.content), RATE), speaker)
    bases = []
    stock = FliteEngine(threads=1)
    try:
        for base in stock.voices:
            stream = stock.open(base, RATE)
            stream.feed(text)
            stream.finish()
            pcm = b"".join([chunk.pcm async for chunk in stream.frames()])
            heard = (np.frombuffer(pcm, "<i2") / 32768).astype(np.float32)
            bases.append(similarity(encoder.embed(heard, RATE), speaker))
    finally:
        await stock.close()
    # How much more like, from 8 kHz prompts, is the quality bench's matter.
    assert cloned > max(bases)
    assert found["similarity"] > np.mean(bases)


async def test_what_is_no_live_person_is_refused_with_every_reason(
    library: VoiceLibrary,
) -> None:
    noise = np.random.default_rng(3).normal(0, 0.05, 8 * RATE).astype(np.float32)
    async with visitor(library, lenient=False) as (_, client):
        found, _ = await enrolled(client, wav(noise), wav(noise))
        assert (found["state"], found["voice"]) == ("refused", None)
        assert found["problem"]["type"] == "urn:ringtrue:problem:recordings-refused"
        failed = {
            item["check"]: item["message"] for item in found["findings"] if not item["passed"]
        }
        assert {"wording", "sample_rate"} <= set(failed)
        assert all(failed.values())
        unread, _ = await enrolled(client, b"no sound", wav(noise))
        assert unread["state"] == "refused"
        assert unread["problem"]["type"] == "urn:ringtrue:problem:unreadable-recording"
        assert "statement" in unread["problem"]["detail"]
        assert (await client.get("/voices")).json()["voices"] == []
