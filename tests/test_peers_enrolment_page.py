"""The enrolment page in a real browser with a microphone, at a real library."""

from __future__ import annotations

import io
import math
import struct
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from enrolment_desk import (
    GOOD,
    NAME,
    NOISY,
    PURPOSE,
    HumEngine,
    ScriptedDesk,
    config_in,
)
from fastapi import FastAPI
from playwright.async_api import Page

from peers.chromium import browser_caller, chromium, find_chromium, write_microphone
from peers.http import serving
from ringtrue.agent.voices_api import VoicesApi
from ringtrue.agent.web.enrol import enrol_router
from ringtrue.voices.enrolment.errors import EnrolmentRefused
from ringtrue.voices.library import VoiceLibrary, open_library, utc_now

MICROPHONE_HZ = 440
EMBEDDED = "embedded-1"


@dataclass
class Office:
    library: VoiceLibrary
    desk: ScriptedDesk
    url: str
    key: str


class Embedded(HumEngine):
    id = EMBEDDED


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    find_chromium()
    async with open_library(config_in(tmp_path / "voices"), {EMBEDDED: Embedded()}) as library:
        desk = ScriptedDesk(library)
        api = VoicesApi(lambda: library, lambda _: desk)
        app = FastAPI()
        app.include_router(enrol_router())
        app.mount("/v1", api.app)
        scopes = ["voices:read", "voices:write", "voices:speak"]
        made = await library.store.api_keys.create(
            "acme", label="page", scopes=scopes, now=utc_now(), expires=utc_now() + timedelta(1)
        )
        try:
            async with serving(app) as url:
                yield Office(library, desk, url, made.token)
        finally:
            await api.close()


@asynccontextmanager
async def visit(
    office: Office, tmp_path: Path, *, microphone_allowed: bool = True
) -> AsyncIterator[tuple[Page, list[str]]]:
    tone = [8000 * math.sin(2 * math.pi * MICROPHONE_HZ * n / 16000) for n in range(32000)]
    pcm = struct.pack(f"<{len(tone)}h", *(int(value) for value in tone))
    microphone = write_microphone(tmp_path / "microphone.wav", pcm, 16000)
    async with (
        chromium(microphone) as browser,
        browser_caller(browser, microphone_allowed=microphone_allowed) as visitor,
    ):
        await visitor.open(f"{office.url}/enrol")
        yield visitor.page, visitor.problems


async def fill_in(page: Page, key: str) -> None:
    await page.fill("#name", NAME)
    await page.fill("#purpose", PURPOSE)
    await page.fill("#key", key)
    await page.click("#who button")


async def record(page: Page, seconds: float) -> None:
    """One take, kept."""
    await page.click("#record:visible")
    await page.wait_for_function(
        "least => parseFloat(document.getElementById('timer').textContent) >= least", arg=seconds
    )
    await page.click("#stop")
    await page.click("#keep:visible")


async def enrol(page: Page) -> str:
    """Both takes; returns what was to be read out."""
    await page.wait_for_selector("#take:visible")
    words = await page.inner_text("#read")
    assert words.startswith(f"I, {NAME}, consent to the cloning of my voice for {PURPOSE}.")
    await record(page, 2.2)
    await page.wait_for_function(
        "() => document.getElementById('count').textContent.startsWith('Recording 2')"
    )
    await record(page, 5.2)
    return words


def samples(wav: bytes) -> tuple[int, np.ndarray]:
    with wave.open(io.BytesIO(wav)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2")


async def test_a_person_records_and_hears_the_voice(office: Office, tmp_path: Path) -> None:
    async with visit(office, tmp_path) as (page, problems):
        await fill_in(page, office.key)
        await enrol(page)
        await page.wait_for_selector("body[data-outcome=enrolled] #done:visible")
        assert await page.inner_text("#done-title") == f"{NAME}'s voice is ready"
        assert not await page.is_visible("#findings li")

        ((statement, speech),) = office.desk.recordings
        for recording, least in ((statement, 2.2), (speech, 5.2)):
            rate, heard = samples(recording)
            assert rate == 48000
            assert least - 0.3 < len(heard) / rate < least + 5
            # The microphone's tone, neither levelled nor gated: as loud as it was played.
            middle = heard[rate : 2 * rate].astype(float)
            spectrum = np.abs(np.fft.rfft(middle * np.hanning(rate)))
            assert abs(int(spectrum.argmax()) - MICROPHONE_HZ) <= 1
            assert 6000 < np.abs(middle).max() < 10000

        (voice,) = await office.library.store.voices.list("acme")
        assert (voice.name, voice.engine) == (NAME, EMBEDDED)
        await page.click("#hear button")
        await page.wait_for_selector("#voice:visible")
        await page.wait_for_function("() => document.getElementById('voice').duration > 0.09")
        assert await page.is_hidden("#error")
        stored = await page.evaluate(
            "[...Object.values(localStorage), ...Object.values(sessionStorage), document.cookie]"
        )
        assert not any(stored), "the key is kept nowhere"
        assert not problems


async def test_a_refusal_says_what_was_wrong_and_a_second_try_works(
    office: Office, tmp_path: Path
) -> None:
    office.desk.outcome = EnrolmentRefused([GOOD, NOISY])
    async with visit(office, tmp_path) as (page, problems):
        await fill_in(page, office.key)
        words = await enrol(page)
        await page.wait_for_selector("body[data-outcome=refused] #done:visible")
        found = await page.eval_on_selector_all(
            "#findings li", "items => items.map(item => [item.dataset.check, item.textContent])"
        )
        assert found == [["noise", NOISY.message]]
        assert not await page.is_visible("#hear")
        office.desk.outcome = None
        await page.click("#again")
        assert await enrol(page) != words
        await page.wait_for_selector("body[data-outcome=enrolled] #done:visible")
        assert not problems


async def test_what_can_not_begin_says_why(office: Office, tmp_path: Path) -> None:
    async with visit(office, tmp_path) as (page, problems):
        await fill_in(page, "rtk_wrong")
        await page.wait_for_selector("#error:visible:has-text('API key is not valid')")
        await page.fill("#name", "slt")
        await page.fill("#key", office.key)
        await page.click("#who button")
        await page.wait_for_selector("#error:visible:has-text('stock voice')")
        await page.fill("#name", NAME)
        await page.click("#who button")
        await page.wait_for_selector("#take:visible")
        await page.click("#record")
        await page.wait_for_selector("#stop:visible")
        await page.wait_for_timeout(300)
        await page.click("#stop")
        await page.wait_for_selector("#error:visible:has-text('at least 2 s are needed')")
        assert not await page.is_visible("#keep")
        problems[:] = [text for text in problems if "401" not in text and "422" not in text]
        assert not problems


async def test_a_refused_microphone_is_explained(office: Office, tmp_path: Path) -> None:
    async with visit(office, tmp_path, microphone_allowed=False) as (page, problems):
        await fill_in(page, office.key)
        await page.click("#record:visible")
        await page.wait_for_selector("#error:visible:has-text('microphone was refused')")
        assert await page.is_enabled("#record")
        assert not problems


async def test_the_page_fetches_nothing_from_elsewhere(office: Office, tmp_path: Path) -> None:
    async with visit(office, tmp_path) as (page, _):
        seen: list[str] = []
        page.on("request", lambda request: seen.append(request.url))
        response = await page.goto(f"{office.url}/enrol")
        assert response is not None
        policy = response.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        await page.wait_for_selector("#who button:enabled")
        assert all(url.startswith(office.url) for url in seen)
        assert len(seen) >= 5
