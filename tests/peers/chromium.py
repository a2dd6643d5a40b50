"""Headless Chromium as a caller: opens the page, presses "Call", and says what it got.

Needs Debian's ``chromium`` (or ``CHROMIUM=/path``) and the ``playwright`` package; tests that
ask for a browser where there is none are skipped with the reason.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.async_api import Browser, Page, async_playwright

TIMEOUT_MS = 20_000
START_MS = 120_000
"""A browser that was never started on a machine may read hundreds of MB from a slow disk first."""


def find_chromium() -> str:
    """The browser's path; skips the test where there is none."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed (Debian package: chromium)")
    return path


def write_microphone(path: Path, pcm: bytes, rate: int) -> Path:
    """A 48 kHz WAV for the fake microphone, from 16-bit mono PCM at a rate that divides 48 kHz.

    Chromium plays the file in a loop.
    """
    samples = np.repeat(np.frombuffer(pcm, "<i2"), 48000 // rate)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48000)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


@dataclass
class ReceivedAudio:
    """What the browser's getStats says of the agent's audio."""

    packets: int
    lost: int
    level: float
    """Linear, 0 to 1, of the last moments."""

    energy: float
    """Since the call began: the integral of the squared level, in seconds."""

    seconds: float
    concealed_seconds: float
    jitter_buffer_ms: float
    round_trip_ms: float | None


class BrowserCaller:
    """One page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on(
            "console",
            lambda message: self.problems.append(message.text) if message.type == "error" else None,
        )

    async def open(self, url: str) -> None:
        await self.page.goto(url)

    async def call(self, agent: str | None = None) -> None:
        """Press "Call" and wait until the call is up."""
        if agent is not None:
            await self.page.check(f"input[name=agent][value={agent}]")
        await self.page.click("#call:enabled")
        await self.page.wait_for_selector(
            "#state:is([data-state=answered],[data-state=listening],"
            "[data-state=thinking],[data-state=speaking])"
        )

    async def state(self) -> str:
        return await self.page.get_attribute("#state", "data-state") or ""

    async def wait_for_state(self, state: str) -> None:
        await self.page.wait_for_selector(f"#state[data-state={state}]")

    async def record(self) -> None:
        """Record what the agent says from now on, as a page can: Opus in WebM."""
        await self.page.evaluate(
            """() => {
                const voice = document.getElementById("voice").srcObject;
                const recorder = new MediaRecorder(voice, {mimeType: "audio/webm;codecs=opus"});
                const parts = [];
                recorder.ondataavailable = ({data}) => parts.push(data);
                window.recording = new Promise((done) => {
                    recorder.onstop = () => done(new Blob(parts));
                });
                window.stopRecording = () => recorder.stop();
                recorder.start();
            }"""
        )

    async def recorded(self) -> bytes:
        """Stop recording; the file."""
        encoded: str = await self.page.evaluate(
            """async () => {
                window.stopRecording();
                const reader = new FileReader();
                reader.readAsDataURL(await window.recording);
                await new Promise((done) => { reader.onload = done; });
                return reader.result.split(",")[1];
            }"""
        )
        return base64.b64decode(encoded)

    async def hang_up(self) -> None:
        await self.page.click("#hangup")

    async def press(self, digit: str) -> None:
        await self.page.keyboard.press(digit)

    async def transcript(self) -> list[tuple[str, str]]:
        """Lines as (classes, text)."""
        lines = await self.page.eval_on_selector_all(
            "#transcript li", "lines => lines.map(l => [l.className, l.textContent])"
        )
        return [(str(kind), str(text)) for kind, text in lines]

    async def error(self) -> str:
        if await self.page.is_hidden("#error"):
            return ""
        return await self.page.inner_text("#error")

    async def stats(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self.page.evaluate("ringtrue.stats()")
        return found

    async def selected(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The local and the remote candidate in use."""
        stats = {entry["id"]: entry for entry in await self.stats()}
        transport = next(entry for entry in stats.values() if entry["type"] == "transport")
        pair = stats[transport["selectedCandidatePairId"]]
        return stats[pair["localCandidateId"]], stats[pair["remoteCandidateId"]]

    async def heard(self, energy: float = 0.05, *, within: float = 15) -> None:
        """Wait for the agent's voice on the connection of the moment; not beyond ``within`` s."""
        async with asyncio.timeout(within):
            while True:
                try:
                    if (await self.received()).energy > energy:
                        return
                except LookupError:
                    pass
                await asyncio.sleep(0.2)

    async def received(self) -> ReceivedAudio:
        """Raises ``LookupError`` before the first packet."""
        stats = await self.stats()
        inbound = next((s for s in stats if s["type"] == "inbound-rtp"), None)
        if inbound is None:
            raise LookupError("no inbound audio yet")
        pair = next((s for s in stats if s.get("nominated")), {})
        emitted = inbound.get("jitterBufferEmittedCount") or 1
        samples = inbound.get("totalSamplesReceived") or 1
        duration = inbound.get("totalSamplesDuration", 0.0)
        trip = pair.get("currentRoundTripTime")
        return ReceivedAudio(
            packets=inbound["packetsReceived"],
            lost=inbound["packetsLost"],
            level=inbound.get("audioLevel", 0.0),
            energy=inbound.get("totalAudioEnergy", 0.0),
            seconds=duration,
            concealed_seconds=duration * inbound.get("concealedSamples", 0) / samples,
            jitter_buffer_ms=1000 * inbound.get("jitterBufferDelay", 0.0) / emitted,
            round_trip_ms=None if trip is None else 1000 * trip,
        )


@asynccontextmanager
async def chromium(
    microphone: Path | None = None, *, command: Path | None = None, trusted: str | None = None
) -> AsyncIterator[Browser]:
    """A browser whose microphone is ``microphone`` (48 kHz WAV; None: its own beeps).

    ``command`` is the program to run instead; ``trusted`` an http origin that may use the
    microphone, as loopback's may.
    """
    arguments = [
        "--no-sandbox",
        "--use-fake-device-for-media-stream",
        "--allow-loopback-in-peer-connection",
        "--disable-features=WebRtcHideLocalIpsWithMdns",
        "--autoplay-policy=no-user-gesture-required",
        "--disable-background-networking",
        "--no-first-run",
    ]
    if microphone is not None:
        arguments.append(f"--use-file-for-fake-audio-capture={microphone}")
    if trusted is not None:
        arguments.append(f"--unsafely-treat-insecure-origin-as-secure={trusted}")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=command or find_chromium(), args=arguments, timeout=START_MS
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def browser_caller(
    browser: Browser, *, microphone_allowed: bool = True
) -> AsyncIterator[BrowserCaller]:
    """A fresh page of ``browser`` with or without leave to use the microphone."""
    context = await browser.new_context(permissions=["microphone"] if microphone_allowed else [])
    try:
        page = await context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        yield BrowserCaller(page)
    finally:
        await context.close()
