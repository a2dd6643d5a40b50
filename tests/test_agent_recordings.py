"""Recordings on disk: encrypted, cut short, altered, overflowing, refused, and erased in time."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringtrue.agent import recordings as recordings_module
from ringtrue.agent.audit.entries import Event, Kind
from ringtrue.agent.audit.holds import Hold, release_hold, write_hold
from ringtrue.agent.recording_export import export, reader_of
from ringtrue.agent.recording_files import (
    FRAME,
    Found,
    RecordingError,
    RecordingWriter,
    erase,
    look,
    read_header,
)
from ringtrue.agent.recordings import QUEUE_CHUNKS, Recordings, Tape
from ringtrue.agent.recordings_kept import HeldError, erase_unheld, evidence_of, recordings_in
from ringtrue.config.agent_schema import Agent, AgentError, load_agents, parse_agent, shipped_agents
from ringtrue.streaming.clock import TICK
from ringtrue.streaming.graph import Services
from ringtrue.streaming.ports import frame_bytes
from ringtrue.streaming.record import CallRecord
from ringtrue.streaming.recording import StereoChunk, StereoTap
from ringtrue.voices.keys.management import KeyRing

RATE = 8000
SIZE = frame_bytes(RATE)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
INCIDENT = "inc_0123456789abcdef"
KEYS = KeyRing({"mk-1": bytes(range(32))}, "mk-1")


class Log:
    """Implements ``Recorder``."""

    writable = True

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[Kind]:
        return [event.kind for event in self.events]


class Studio:
    """Recordings in a directory, with a clock that is turned by hand."""

    def __init__(self, directory: Path) -> None:
        self.now = START
        self.log = Log()
        self.directory = directory
        self.holds = directory.with_name("audit")
        self.recordings = Recordings(
            directory, KEYS, recorder=self.log, holds=self.holds, clock=lambda: self.now
        )
        shipped = load_agents()["demo"]
        self.agent = recorded(shipped)

    def begin(self, call: str = "call-1") -> tuple[Tape, StereoTap, CallRecord]:
        record = CallRecord(call, "scripted", "inbound", "demo", RATE, answered_at=100.0)
        tape = self.recordings.begin(self.agent, record)
        assert tape is not None
        nobody: Any = None
        return tape, tape.tap_for(Services(stt=nobody, llm=nobody, tts=nobody)), record

    async def recorded(self, audio: np.ndarray, call: str = "call-1") -> CallRecord:
        """A call whose sides are ``audio``'s columns."""
        tape, tap, record = self.begin(call)
        for number, start in enumerate(range(0, len(audio), SIZE // 2)):
            feed(tap, audio[start : start + SIZE // 2], number)
            if number % 50 == 0:
                await asyncio.sleep(0.001)
        await tape.close()
        return record

    @property
    def found(self) -> list[Found]:
        found, problems = recordings_in(self.directory)
        assert problems == []
        return found


def recorded(agent: Agent, **more: object) -> Agent:
    policy = agent.recording.model_copy(update={"enabled": True, "wait_for_notice": False, **more})
    return agent.model_copy(update={"recording": policy})


def feed(tap: StereoTap, frame: np.ndarray, number: int) -> None:
    tap.heard(frame[:, 0].tobytes(), ())
    tap.sent(frame[:, 1].tobytes(), 100.0 + number * TICK)


def noise(seconds: float) -> np.ndarray:
    shape = (int(seconds * RATE), 2)
    return np.random.default_rng(7).integers(-12000, 12000, shape).astype("<i2")


async def opened(found: Found, keys: KeyRing = KEYS) -> np.ndarray:
    reader = await reader_of(found.path, found.header, keys)
    return np.frombuffer(b"".join(reader.chunks()), "<i2").reshape(-1, 2)


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    made = Studio(tmp_path / "recordings")
    yield made
    await made.recordings.close()


async def test_what_was_recorded_is_read_back_to_the_sample(studio: Studio) -> None:
    audio = noise(5.3)
    record = await studio.recorded(audio)
    (found,) = studio.found
    assert record.recording == {
        "id": found.header.id,
        "seconds": 5.3,
        "masked_seconds": 0.0,
        "dropped": 0,
    }
    assert found.complete
    assert found.seconds == pytest.approx(5.3)
    assert found.path.stat().st_mode & 0o777 == 0o600
    assert studio.directory.stat().st_mode & 0o777 == 0o700
    assert np.array_equal(await opened(found), audio)
    assert studio.log.kinds == [Kind.RECORDING_BEGUN, Kind.RECORDING_ENDED]
    assert studio.log.events[1].detail["complete"] is True
    assert record.as_dict()["recording"] == record.recording


async def test_the_file_gives_nothing_away_and_needs_the_master_key(studio: Studio) -> None:
    level = np.full((RATE, 2), 4321, "<i2")
    await studio.recorded(level)
    (found,) = studio.found
    assert np.full(16, 4321, "<i2").tobytes() not in found.path.read_bytes()
    with pytest.raises(RecordingError, match="its key can't be had"):
        await opened(found, KeyRing({"mk-2": bytes(32)}, "mk-2"))
    with pytest.raises(RecordingError, match="its key can't be had"):
        await opened(found, KeyRing({"mk-1": bytes(32)}, "mk-1"))


async def test_a_file_cut_short_opens_up_to_its_last_whole_chunk(studio: Studio) -> None:
    audio = noise(4)
    await studio.recorded(audio)
    (whole,) = studio.found
    data = whole.path.read_bytes()
    lengths = set()
    for cut in range(len(data) - 1, 600, -4999):
        whole.path.write_bytes(data[:cut])
        found = look(whole.path)
        assert not found.complete
        got = await opened(found)
        assert len(got) == round(found.seconds * RATE)
        assert len(got) % RATE == 0
        assert np.array_equal(got, audio[: len(got)])
        lengths.add(len(got) // RATE)
    assert lengths == {0, 1, 2, 3, 4}


async def test_no_chunk_can_be_altered_moved_left_out_or_taken_from_elsewhere(
    studio: Studio,
) -> None:
    await studio.recorded(noise(3), "call-1")
    await studio.recorded(noise(3), "call-2")
    first, second = sorted(studio.found, key=lambda found: found.header.call)
    data, other = first.path.read_bytes(), second.path.read_bytes()
    chunk = 1 + 4 + 12 + FRAME * RATE + 16
    begin = len(first.header.encode())
    one, two = data[begin : begin + chunk], data[begin + chunk : begin + 2 * chunk]
    rest = data[begin + 2 * chunk :]
    flipped = bytearray(data)
    flipped[begin + chunk // 2] ^= 1
    renamed = data.replace(b"call-1", b"call-9")
    forgeries = {
        "altered": bytes(flipped),
        "moved": data[:begin] + two + one + rest,
        "left out": data[:begin] + two + rest,
        "taken from elsewhere": data[:begin] + other[begin : begin + chunk] + two + rest,
        "of another call": renamed,
    }
    for what, forged in forgeries.items():
        first.path.write_bytes(forged)
        with pytest.raises(RecordingError, match="not what was written"):
            await opened(look(first.path))
        assert forged != data, what
    first.path.write_bytes(data)
    assert len(await opened(look(first.path))) == 3 * RATE


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"RTREC\x00\x01\n", b"RTREC\x00\x01\n\xff\xff\xff\xff"]
)
def test_what_is_no_recording_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.rec"
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=r"x\.rec: no recording"):
        look(path)
    found, problems = recordings_in(tmp_path)
    assert found == []
    assert len(problems) == 1


def test_headers_of_any_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.rec"
    draw = np.random.default_rng(5)
    headers = [b"{}", b"[]", b"null", b'{"v":2}', b'{"v":1,"key":3}']
    headers += [draw.bytes(int(draw.integers(0, 80))) for _ in range(200)]
    for header in headers:
        path.write_bytes(b"RTREC\x00\x01\n" + len(header).to_bytes(4, "big") + header)
        with pytest.raises(RecordingError, match=r"x\.rec"):
            read_header(path)


# -- the disk ------------------------------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes two writes and no more."""
    put, writes = RecordingWriter._put, 0

    def refuse(self: RecordingWriter, data: bytes) -> None:
        nonlocal writes
        writes += 1
        if writes > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, data)

    monkeypatch.setattr(RecordingWriter, "_put", refuse)


@pytest.mark.usefixtures("full_disk")
async def test_a_full_disk_ends_the_recording_and_nothing_else(studio: Studio) -> None:
    record = await studio.recorded(noise(6))
    assert record.recording is not None
    assert record.recording["stopped"] == "No space left on device"
    assert record.recording["seconds"] == 6.0
    assert record.recording["dropped"] > 0
    assert studio.recordings.stats.failed == 1
    (found,) = studio.found
    assert not found.complete
    assert len(await opened(found)) == RATE
    assert studio.log.events[-1].detail["complete"] is False


async def test_a_directory_that_cannot_be_made_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    studio = Studio(tmp_path / "file" / "recordings")
    record = await studio.recorded(noise(1))
    assert record.recording is not None
    assert record.recording["id"] is None
    assert record.recording["stopped"] == "Not a directory"
    assert studio.recordings.stats.failed == 1
    assert studio.log.events == []
    await studio.recordings.close()


async def test_what_finds_the_queue_full_is_silence_in_its_place(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, may_write = RecordingWriter.append, threading.Event()

    def slow(self: RecordingWriter, chunk: StereoChunk, *, silence_before: int = 0) -> None:
        may_write.wait(10)
        append(self, chunk, silence_before=silence_before)

    monkeypatch.setattr(RecordingWriter, "append", slow)
    seconds = QUEUE_CHUNKS + 6
    audio = noise(seconds)
    tape, tap, record = studio.begin()
    for number, start in enumerate(range(0, len(audio), SIZE // 2)):
        feed(tap, audio[start : start + SIZE // 2], number)
        if number % 50 == 0:
            await asyncio.sleep(0)
    may_write.set()
    while tape._queue:
        await asyncio.sleep(0.005)
    await tape.close()
    assert record.recording is not None
    dropped = record.recording["dropped"]
    assert 0 < dropped < seconds * 50
    assert studio.recordings.stats.dropped == dropped
    (found,) = studio.found
    got = await opened(found)
    assert len(got) == len(audio)
    kept = [s for s in range(seconds) if got[s * RATE : (s + 1) * RATE].any()]
    assert len(kept) == seconds - dropped // 50
    assert kept[-1] == seconds - 1
    for second in kept:
        part = slice(second * RATE, (second + 1) * RATE)
        assert np.array_equal(got[part], audio[part])


async def test_a_disk_that_hangs_holds_no_call_up(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(recordings_module, "CLOSE_SECONDS", 0.05)
    monkeypatch.setattr(RecordingWriter, "append", lambda *_, **__: released.wait(10))
    record = await studio.recorded(noise(2))
    released.set()
    assert record.recording is not None
    assert record.recording["stopped"] == "the disk did not answer in time"


# -- how long they are kept ----------------------------------------------------------------------


async def test_recordings_are_erased_in_time(studio: Studio) -> None:
    await studio.recorded(noise(1), "old")
    studio.now = START + timedelta(days=20)
    await studio.recorded(noise(1), "young")
    studio.now = START + timedelta(days=30) - timedelta(seconds=1)
    assert await studio.recordings.expire() == 0
    studio.now = START + timedelta(days=30)
    assert await studio.recordings.expire() == 1
    assert [found.header.call for found in studio.found] == ["young"]
    assert studio.recordings.stats.expired == 1
    last = studio.log.events[-1]
    assert (last.kind, last.call, last.detail["by"]) == (Kind.RECORDING_ERASED, "old", "retention")


async def test_an_incident_keeps_recordings_beyond_their_time(studio: Studio) -> None:
    for call in ("heard", "other"):
        await studio.recorded(noise(1), call)
    studio.now = START + timedelta(days=400)
    write_hold(studio.holds, Hold(INCIDENT, {}))  # until it is known what to keep, all of it is
    assert await studio.recordings.expire() == 0
    write_hold(studio.holds, Hold(INCIDENT, {}, frozenset({"heard"})))
    assert await studio.recordings.expire() == 1
    (kept,) = studio.found
    assert kept.header.call == "heard"
    with pytest.raises(HeldError, match=f"evidence of {INCIDENT}"):
        erase_unheld(kept.path, kept.header, studio.holds)
    (told,) = evidence_of(studio.directory, studio.holds, "heard")
    assert told["kept_by"] == INCIDENT
    assert told["sha256"] == hashlib.sha256(kept.path.read_bytes()).hexdigest()
    release_hold(studio.holds, INCIDENT)
    assert await studio.recordings.expire() == 1


async def test_what_is_erased_loses_its_key_first(studio: Studio, tmp_path: Path) -> None:
    await studio.recorded(noise(1))
    (found,) = studio.found
    link = tmp_path / "link"
    link.hardlink_to(found.path)
    erase(found.path)
    assert studio.found == []
    assert found.header.key.ciphertext not in link.read_bytes()
    with pytest.raises(RecordingError):
        look(link)


# -- export --------------------------------------------------------------------------------------


async def test_opus_keeps_both_sides_where_they_were(studio: Studio, tmp_path: Path) -> None:
    import av

    time = np.arange(4 * RATE) / RATE
    chirps = [np.sin(2 * np.pi * (300 + 150 * time * k) * time) for k in (1, 2)]
    audio = (8000 * np.stack(chirps, axis=1)).astype("<i2")
    await studio.recorded(audio)
    (found,) = studio.found
    out = tmp_path / "x.ogg"
    done = export(await reader_of(found.path, found.header, KEYS), found.header, out)
    assert done.seconds == 4
    assert done.complete
    with av.open(str(out)) as container:
        resampler = av.AudioResampler(format="s16", layout="stereo", rate=RATE)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        frames += resampler.resample(None)
    got = np.concatenate([f.to_ndarray().reshape(-1, 2) for f in frames])
    assert abs(len(got) - len(audio)) <= RATE // 50
    for channel in (0, 1):
        middle = audio[RATE : 3 * RATE, channel].astype(float)
        lags = range(-20, 21)
        scores = [
            np.corrcoef(middle, got[RATE + lag : 3 * RATE + lag, channel])[0, 1] for lag in lags
        ]
        assert max(scores) > 0.97
        assert abs(lags[int(np.argmax(scores))]) <= 1


async def test_no_file_is_overwritten_or_left_half_written(studio: Studio, tmp_path: Path) -> None:
    await studio.recorded(noise(2))
    (found,) = studio.found
    reader = await reader_of(found.path, found.header, KEYS)
    out = tmp_path / "x.wav"
    out.write_text("mine")
    with pytest.raises(FileExistsError):
        export(reader, found.header, out)
    assert out.read_text() == "mine"
    with pytest.raises(ValueError, match=r"\.wav, \.ogg, \.opus"):
        export(reader, found.header, tmp_path / "x.mp3")
    data = bytearray(found.path.read_bytes())
    data[-2000] ^= 1
    found.path.write_bytes(data)
    with pytest.raises(RecordingError):
        export(reader, found.header, tmp_path / "y.wav")
    assert not (tmp_path / "y.wav").exists()


# -- agents --------------------------------------------------------------------------------------

PLAIN = (shipped_agents() / "demo.yaml").read_text()


def test_an_agent_that_records_says_so() -> None:
    assert "recorded" not in parse_agent(PLAIN, "x").openings()[0]
    agent = parse_agent(PLAIN + "\nrecording: {enabled: true}\n", "x")
    assert all("This call is recorded." in text for text in agent.openings())
    assert agent.recording.keep_days == 30


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ("disclosure: {recorded: false}", "disclosure.recorded"),
        ('disclosure: {recording: "..."}', "disclosure.recording"),
        ("disclosure: {recording: '<break time=\"1s\"/>'}", "disclosure.recording"),
        ("language: pt\ndisclosure: {text: IA., answer: IA.}", "disclosure.recording"),
    ],
)
def test_an_agent_that_records_without_notice_does_not_load(more: str, key: str) -> None:
    agent = "\n".join(
        (
            "name: plain\ntitle: Plain\ngreeting: How can I help?",
            "recording: {enabled: true}",
            more,
        )
    )
    with pytest.raises(AgentError, match=rf"{key}: "):
        parse_agent(agent, "x")


@pytest.mark.parametrize("text", ["Is it {card}?", "It is {card}."])
def test_a_recorded_agent_does_not_speak_what_is_sensitive(text: str) -> None:
    agent = f"""
name: plain
title: Plain
greeting: Hello.
recording: {{enabled: true}}
dialogue:
  slots: {{card: {{type: digits, ask: Your card., sensitive: true}}}}
  intents: {{pay: {{examples: [i want to pay], slots: [card], answers: "{text}"}}}}
  fallbacks: Sorry?
  give_up: {{say: Goodbye.}}
"""
    with pytest.raises(AgentError, match=r"intents\.pay\.answers: uses \{card\}, which is sens"):
        parse_agent(agent, "x")
    parse_agent(agent.replace("enabled: true", "enabled: false"), "x")
