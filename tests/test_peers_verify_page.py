"""The page for recordings in a real browser, at a real library and a real search."""

from __future__ import annotations

import re
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from enrolment_desk import ScriptedDesk, hum_library
from fastapi import FastAPI
from playwright.async_api import Page, async_playwright, expect
from watermarking import TOKEN, marked, speech

from peers.chromium import START_MS, find_chromium
from peers.http import serving
from ringtrue.agent.voices_api import VoicesApi
from ringtrue.agent.watermark_sessions import Session
from ringtrue.agent.web.verify import verify_router
from ringtrue.voices.library import VoiceLibrary, utc_now

WAIT_MS = 60_000


class OneSession:
    def find(self, mark: str) -> Session | None:
        return Session(mark, "acme", "call-17", "desk", ("ada",), "2026-03-04", "2026-03-04")


@dataclass
class Office:
    library: VoiceLibrary
    url: str
    key: str

    def recording(self, path: Path, *parts: np.ndarray) -> Path:
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(np.concatenate(parts).tobytes())
        return path

    def ours(self) -> np.ndarray:
        return marked(speech(8000, 5.0), 8000, self.library.config.marks.current)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    find_chromium()
    async with hum_library(tmp_path) as library:
        desk = ScriptedDesk(library)
        api = VoicesApi(lambda: library, lambda _: desk, sessions=OneSession())
        app = FastAPI()
        app.include_router(verify_router())
        app.mount("/v1", api.app)
        made = await library.store.api_keys.create(
            "acme", label="page", scopes=["watermark:detect"], now=utc_now()
        )
        try:
            async with serving(app) as url:
                yield Office(library, url, made.token)
        finally:
            await api.close()


@asynccontextmanager
async def visit(office: Office) -> AsyncIterator[tuple[Page, list[str]]]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox"], timeout=START_MS
        )
        page = await browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console", lambda said: problems.append(said.text) if said.type == "error" else None
        )
        try:
            await page.goto(f"{office.url}/verify")
            yield page, problems
        finally:
            await browser.close()


async def test_a_recording_of_ours_is_told_with_where_and_whose(
    office: Office, tmp_path: Path
) -> None:
    host = speech(8000, 5.0)
    path = office.recording(tmp_path / "call.wav", host, office.ours(), host)
    async with visit(office) as (page, problems):
        await page.fill("#key", office.key)
        await page.set_input_files("#recording", path)
        await expect(page.locator("#verdict")).to_contain_text("made here", timeout=WAIT_MS)
        await expect(page.locator("#surely")).to_contain_text("10")
        told = page.locator("#tokens li")
        await expect(told).to_have_count(1)
        await expect(told).to_contain_text(f"Session {TOKEN.session:08x}")
        await expect(told).to_contain_text("authentication code valid")
        # Said in whole seconds; where a mark begins is known to less than one.
        await expect(told).to_contain_text(re.compile("0:0[45] to 0:(09|10)"))
        await expect(told).to_contain_text("Call call-17, agent desk, voice ada")
        stretch = page.locator("svg .stretch")
        await expect(stretch).to_have_count(1)
        assert 300 < float(await stretch.get_attribute("x") or 0) < 370
        assert problems == []


async def test_a_person_is_no_finding_and_another_file_can_follow(
    office: Office, tmp_path: Path
) -> None:
    path = office.recording(tmp_path / "person.wav", speech(8000, 3.0))
    async with visit(office) as (page, problems):
        await page.fill("#key", office.key)
        await page.set_input_files("#recording", path)
        await expect(page.locator("#verdict")).to_have_text("No finding", timeout=WAIT_MS)
        await expect(page.locator("#surely")).to_contain_text("no proof that a person spoke")
        await page.click("#again")
        await expect(page.locator("#drop")).to_be_visible()
        assert problems == []


async def test_what_is_wrong_is_said(office: Office, tmp_path: Path) -> None:
    text = tmp_path / "notes.wav"
    text.write_text("no audio " * 100)
    async with visit(office) as (page, _):
        await page.set_input_files("#recording", text)
        await expect(page.locator("#key:invalid")).to_be_visible()
        await page.fill("#key", "rtk_wrong")
        await page.set_input_files("#recording", text)
        await expect(page.locator("#error")).to_contain_text("key", timeout=WAIT_MS)
        await page.fill("#key", office.key)
        await page.set_input_files("#recording", text)
        await expect(page.locator("#error")).to_contain_text("no audio file", timeout=WAIT_MS)
