"""Speech outside of calls is marked, licensed frame by frame and hashed, and waits for nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime

import numpy as np
import pytest
import pytest_asyncio

from fakes.scripted_voices import CLONED, WORD, NumberedStream, ScriptedLicence
from ringtrue.streaming.errors import SynthesisError
from ringtrue.streaming.gate import FrameKind, Unmarked, UtteranceDigest
from ringtrue.streaming.ports import frame_bytes
from ringtrue.streaming.refusals import RefusalReport
from ringtrue.voices.lease import ConsentLostError
from ringtrue.voices.saying import said
from ringtrue.voices.spoken import LATE_SECONDS, SpeechRefusedError, spoken
from ringtrue.voices.stock import FliteEngine
from ringtrue.voices.watermark.detector import detect
from ringtrue.voices.watermark.keyring import MarkKeys
from ringtrue.voices.watermark.keys import MarkKey
from ringtrue.voices.watermark.marker import Marker

KEYS = MarkKeys.of(MarkKey(bytes(range(32))))
OTHER = MarkKey(bytes(32))
TEXT = "Good morning, and thank you for calling. We are open on weekdays from nine until five."


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[FliteEngine]:
    made = FliteEngine(threads=1)
    yield made
    await made.close()


def significance(pcm: bytes, rate: int, key: MarkKey) -> float:
    found = detect(np.frombuffer(pcm, "<i2"), rate, [key.detection])
    assert found is not None
    return found.significance


@pytest.mark.parametrize("rate", [8000, 16000])
async def test_what_is_said_carries_the_installations_mark(engine: FliteEngine, rate: int) -> None:
    digests: list[UtteranceDigest] = []
    # Of a mark that is not there chance finds something now and then: always the same one here.
    marker = Marker(KEYS, rate, datetime(2026, 11, 2, 9, 30, tzinfo=UTC), session=7)
    stream = engine.open("rms", rate)
    pcm = b"".join(
        [part async for part in spoken(stream, TEXT, rate, marker, on_digest=digests.append)]
    )
    plain = b"".join([chunk.pcm async for chunk in said(engine.open("rms", rate), TEXT)])
    assert significance(pcm, rate, KEYS.current) > 20
    assert significance(pcm, rate, OTHER) < 1
    assert significance(plain, rate, KEYS.current) < 1
    # The whole of it, filled up to a frame.
    assert len(pcm) % frame_bytes(rate) == 0
    assert 0 <= len(pcm) - len(plain) < frame_bytes(rate)
    heard, meant = (np.frombuffer(p[: len(plain)], "<i2").astype(float) for p in (pcm, plain))
    assert np.corrcoef(heard, meant)[0, 1] > 0.98
    (digest,) = digests
    assert digest.sha256 == hashlib.sha256(pcm).hexdigest()
    assert (digest.samples, digest.watermark, digest.voice) == (len(pcm) // 2, marker.id, None)


def numbered(licence: ScriptedLicence | None, work: float = 0.0) -> NumberedStream:
    return NumberedStream(CLONED, licence, work)


async def collect(pcm: AsyncGenerator[bytes], heard: bytearray) -> None:
    async for part in pcm:
        heard += part


def words(pcm: bytes | bytearray) -> list[int]:
    """The numbers said, silence left out."""
    values = np.frombuffer(pcm, "<i2")
    return sorted({int(value) - CLONED for value in values if value})


async def test_whole_frames_come_as_soon_as_they_are_made() -> None:
    """Chunks are of 700 samples, frames of 160: four go out of the first chunk."""
    stream = numbered(None)
    stream.finish = lambda: None  # type: ignore[method-assign]
    async with aclosing(spoken(stream, "w1", 8000, Unmarked())) as pcm:
        sizes = [len(await anext(pcm)) // 2 for _ in range(2)]
        assert sizes == [640, 640]
    assert stream.was_cut


async def test_the_last_frame_is_filled_up() -> None:
    stream = numbered(None)
    pcm = b"".join([part async for part in spoken(stream, "w1 w2.", 16000, Unmarked())])
    assert len(pcm) == 2 * 2 * WORD  # ten frames of 320
    assert words(pcm) == [1, 2]
    stream = numbered(None)
    pcm = b"".join([p async for p in spoken(_Odd(stream), "w1.", 16000, Unmarked())])
    assert len(pcm) // 2 == 320 * -(-(WORD - 100) // 320)
    assert pcm.endswith(bytes(2 * 100))


class _Odd:
    """Leaves the first 100 samples out."""

    def __init__(self, stream: NumberedStream) -> None:
        self._stream = stream
        self.feed, self.finish, self.cut = stream.feed, stream.finish, stream.cut

    async def frames(self):  # type: ignore[no-untyped-def]
        first = True
        async for chunk in self._stream.frames():
            yield type(chunk)(chunk.pcm[200:] if first else chunk.pcm, chunk.words)
            first = False


@pytest.mark.virtual_time
async def test_a_licence_that_ends_lets_nothing_more_out() -> None:
    licence = ScriptedLicence()
    digests: list[UtteranceDigest] = []
    stream = numbered(licence, work=0.01)
    pcm = bytearray()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    loop.call_later(0.035, setattr, licence, "good", False)
    text = "w1 w2 w3 w4"
    with pytest.raises(ConsentLostError):
        await collect(spoken(stream, text, 8000, Unmarked(), on_digest=digests.append), pcm)
    assert loop.time() - begun < LATE_SECONDS + 0.2
    assert words(pcm) == [1, 2]
    assert len(pcm) < 2 * 2 * WORD
    assert stream.was_cut
    (digest,) = digests
    assert digest.sha256 == hashlib.sha256(pcm).hexdigest()
    assert (digest.voice, digest.consent) == (licence.voice, licence.consent)


@pytest.mark.virtual_time
async def test_without_a_licence_that_holds_nothing_is_heard() -> None:
    licence = ScriptedLicence()
    licence.good = False
    heard = bytearray()
    with pytest.raises(ConsentLostError):
        await collect(spoken(numbered(licence), "w1", 8000, Unmarked()), heard)
    assert not heard


@pytest.mark.virtual_time
async def test_a_licence_that_is_late_costs_time_and_no_word() -> None:
    licence = ScriptedLicence()
    loop = asyncio.get_running_loop()
    pcm = b""
    async for part in spoken(numbered(licence), "w1 w2 w3", 8000, Unmarked()):
        if not pcm:
            licence.good = False
            loop.call_later(0.5, setattr, licence, "good", True)
        pcm += part
    assert len(pcm) == 3 * 2 * WORD
    assert words(pcm) == [1, 2, 3]


@pytest.mark.parametrize("how", ["raises", "longer"])
async def test_what_can_not_be_marked_does_not_go_out(how: str) -> None:
    class Failing:
        id = "failing"

        def mark(self, pcm: bytes, kind: FrameKind) -> bytes:
            if how == "raises":
                raise ZeroDivisionError
            return pcm + b"\0\0"

    stream = numbered(None)
    heard, told = bytearray(), list[RefusalReport]()
    with pytest.raises(SpeechRefusedError, match="watermark"):
        await collect(spoken(stream, "w1", 8000, Failing(), on_refusal=told.append), heard)
    assert not heard
    assert [(each.reason, each.frames) for each in told] == [("watermark", 1)]
    assert stream.was_cut


async def test_an_engine_that_fails_is_told() -> None:
    with pytest.raises(SynthesisError, match="broke"):
        await collect(spoken(numbered(None), "w1 broken", 8000, Unmarked()), bytearray())
