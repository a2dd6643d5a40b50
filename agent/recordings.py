"""Recording calls: from the tick to the disk, and off it again.

::

    session's tick → StereoTap → bounded queue → one task a call → one writer thread → file

The queue is in memory and bounded by :data:`QUEUE_CHUNKS`. A second that finds it full becomes
silence of the same length, and is counted: what follows stays in its place, and no frame of the
call ever waits. A disk that refuses ends the recording; the call goes on.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from ringtrue.agent.audit.entries import Event, Kind
from ringtrue.agent.audit.log import Recorder
from ringtrue.agent.recording_files import (
    SUFFIX,
    Header,
    RecordingError,
    RecordingWriter,
    Summary,
    key_place,
    read_header,
)
from ringtrue.agent.recordings_kept import HeldError, erase_unheld
from ringtrue.config.agent_schema import Agent
from ringtrue.streaming.graph import Services
from ringtrue.streaming.llm.disclosure import Told
from ringtrue.streaming.ports import FRAMES_PER_SECOND, frame_samples
from ringtrue.streaming.record import CallRecord
from ringtrue.streaming.recording import StereoChunk, StereoTap
from ringtrue.voices.keys.errors import KeyManagementError
from ringtrue.voices.keys.management import KeyManagement
from ringtrue.voices.keys.sealing import DataKey
from ringtrue.voices.library import utc_now

T = TypeVar("T")

log = structlog.get_logger(__name__)

QUEUE_CHUNKS: Final = 16
"""Seconds of one call that may wait for the disk."""

CLOSE_SECONDS: Final = 5.0
"""How long the end of a call waits for its recording to be written."""

SWEEP_SECONDS: Final = 3600.0
"""How often recordings that are kept no longer are looked for."""


@dataclass(slots=True)
class RecordingStats:
    """Counters of a process."""

    begun: int = 0
    failed: int = 0
    """Recordings that could not begin, or ended before their call did."""

    dropped: int = 0
    """Frames that became silence because the disk did not keep up."""

    expired: int = 0
    """Recordings erased by retention."""


class Recordings:
    """Makes the recordings of a process's calls, and erases them in time."""

    def __init__(
        self,
        directory: Path,
        keys: KeyManagement | None,
        *,
        recorder: Recorder | None = None,
        holds: Path | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Keep recordings in ``directory``, made on first use.

        ``keys`` wraps their data keys (None: nothing is recorded here, only erased in time),
        ``recorder`` keeps the audit entries, ``holds`` is the audit logs' directory, where
        incidents say what is kept; ``clock`` gives the time of day in UTC.
        """
        self.directory = directory
        self._holds = holds
        self.stats = RecordingStats()
        self._keys = keys
        self._recorder = recorder
        self._clock = clock
        # One thread: a recording's chunks keep their order, and the disk its peace.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recordings")
        self._tapes: set[Tape] = set()

    def begin(self, agent: Agent, record: CallRecord) -> Tape | None:
        """Begin to record a call of ``agent``, without waiting; None where it isn't recorded.

        A recording that can't begin is logged, counted and noted in ``record``; the call goes on.
        """
        if not agent.recording.enabled or self._keys is None:
            return None
        tape = Tape(self, self._keys, agent, record)
        self._tapes.add(tape)
        return tape

    async def expire(self) -> int:
        """Erase what is kept no longer, unless an incident keeps it; how many that were.

        One that can't be erased is logged.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._expire)

    async def keep_tidy(self) -> None:
        """Erase what is kept no longer, now and every :data:`SWEEP_SECONDS`, until cancelled."""
        while True:
            await self.expire()
            await asyncio.sleep(SWEEP_SECONDS)

    async def close(self) -> None:
        """Finish every recording and stop the thread."""
        await asyncio.gather(*(tape.close() for tape in tuple(self._tapes)))
        self._executor.shutdown(wait=False, cancel_futures=True)

    def audit(self, kind: Kind, header: Header, **detail: str | int | bool) -> None:
        """Leave an entry in the audit log."""
        audit_recording(self._recorder, kind, header, detail)

    def _expire(self) -> int:
        erased, now = 0, self._clock()
        for path in sorted(self.directory.glob(f"*{SUFFIX}")):
            try:
                header = read_header(path)
                if header.keep_until > now:
                    continue
                erase_unheld(path, header, self._holds)
            except HeldError:
                continue
            except (OSError, RecordingError) as error:
                log.error("recording.not_erased", file=path.name, error=_reason(error))
                continue
            erased += 1
            self.audit(Kind.RECORDING_ERASED, header, by="retention")
        self.stats.expired += erased
        return erased


class Tape:
    """The recording of one call."""

    def __init__(
        self, owner: Recordings, keys: KeyManagement, agent: Agent, record: CallRecord
    ) -> None:
        """Begin to write; :meth:`tap_for` gives what the session feeds."""
        self._owner = owner
        self._keys = keys
        self._agent = agent
        self._record = record
        self._started = owner._clock()
        self._header: Header | None = None
        self._writer: RecordingWriter | None = None
        self._tap: StereoTap | None = None
        self._queue: deque[tuple[int, StereoChunk]] = deque()
        self._owed = 0
        """Samples of silence that go before the next chunk."""

        self._dropped = 0
        self._stopped: str | None = None
        self._closing = False
        self._wake = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="recording")

    def tap_for(self, services: Services) -> StereoTap:
        """What the call's session feeds; ``services`` know what may not be kept."""
        policy = self._agent.recording
        disclosure = services.disclosure

        def told() -> bool:
            return disclosure is None or disclosure.told is Told.FULLY

        self._tap = StereoTap(
            self._record.rate,
            self._put,
            mask_keys=policy.mask_digits,
            sensitive=services.sensitive,
            told=told if policy.wait_for_notice else None,
        )
        return self._tap

    async def close(self) -> None:
        """The call is over: write what waits, and note in the call's record what became of it."""
        if self._closing:
            return
        if self._tap is not None:
            self._tap.close()
        self._closing = True
        self._wake.set()
        try:
            done, _ = await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
            if not done:
                self._stop("the disk did not answer in time")
                self._task.cancel()
                await asyncio.wait([self._task])
                if self._writer is not None:
                    self._owner._executor.submit(self._writer.abandon)
        finally:
            self._owner._tapes.discard(self)
            self._note()

    def _note(self) -> None:
        """Say what became of it, in the call's record and in the audit log."""
        summary = self._summary()
        values: dict[str, Any] = {
            "id": None if self._header is None else self._header.id,
            "seconds": summary.frames / FRAMES_PER_SECOND,
            "masked_seconds": summary.masked / FRAMES_PER_SECOND,
            "dropped": summary.dropped,
        }
        if self._stopped is not None:
            values["stopped"] = self._stopped
        self._record.recording = values
        if self._header is not None:
            self._owner.audit(
                Kind.RECORDING_ENDED,
                self._header,
                complete=self._stopped is None,
                frames=summary.frames,
                masked=summary.masked,
                dropped=summary.dropped,
            )

    def _put(self, chunk: StereoChunk) -> None:
        """Queue a second of the call; called from the tick."""
        if self._stopped is not None or len(self._queue) >= QUEUE_CHUNKS:
            self._owed += chunk.samples
            frames = chunk.samples // frame_samples(self._record.rate)
            self._dropped += frames
            self._owner.stats.dropped += frames
            return
        self._queue.append((self._owed, chunk))
        self._owed = 0
        self._wake.set()

    async def _run(self) -> None:
        try:
            writer = await self._open()
            await self._write(writer)
        except (OSError, KeyManagementError) as error:
            self._stop(_reason(error))
            if self._writer is not None:
                await self._off_loop(self._writer.abandon)

    async def _open(self) -> RecordingWriter:
        """Make the file, under a key of its own."""
        owner, agent = self._owner, self._agent
        identity, key = f"rec-{secrets.token_hex(8)}", DataKey.generate()
        place = key_place(identity)
        header = Header(
            id=identity,
            call=self._record.call_id,
            tenant=agent.tenant,
            agent=agent.name,
            rate=self._record.rate,
            started=self._started,
            keep_until=self._started + timedelta(days=agent.recording.keep_days),
            key=await self._keys.wrap(key, tenant=agent.tenant, voice=place),
        )
        self._writer = await self._off_loop(_create, owner.directory, header, key)
        self._header = header
        owner.stats.begun += 1
        owner.audit(Kind.RECORDING_BEGUN, header)
        return self._writer

    async def _write(self, writer: RecordingWriter) -> None:
        while self._queue or not self._closing:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            silence, chunk = self._queue[0]
            await self._off_loop(_append, writer, chunk, silence)
            self._queue.popleft()
        await self._off_loop(_finish, writer, self._owed, self._summary())

    async def _off_loop(self, work: Callable[..., T], *arguments: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._owner._executor, work, *arguments)

    def _stop(self, reason: str) -> None:
        """It can't go on; the call can."""
        self._stopped = reason
        lost = sum(chunk.samples for _, chunk in self._queue)
        self._dropped += lost // frame_samples(self._record.rate)
        self._queue.clear()
        self._owner.stats.failed += 1
        log.error("recording.stopped", call=self._record.call_id, error=reason)

    def _summary(self) -> Summary:
        tap = self._tap
        if tap is None:
            return Summary(0, 0, self._dropped)
        return Summary(tap.frames, tap.masked, self._dropped)


def audit_recording(
    recorder: Recorder | None,
    kind: Kind,
    header: Header,
    detail: Mapping[str, str | int | bool] | None = None,
    *,
    requester: str | None = None,
) -> None:
    """Leave an entry of one recording in the audit log, where there is one."""
    if recorder is None:
        return
    event = Event(
        kind,
        tenant=header.tenant,
        call=header.call,
        agent=header.agent,
        requester=requester,
        detail={"recording": header.id, **(detail or {})},
    )
    recorder.record(event)


def _create(directory: Path, header: Header, key: DataKey) -> RecordingWriter:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return RecordingWriter(directory / f"{header.id}{SUFFIX}", header, key)


def _append(writer: RecordingWriter, chunk: StereoChunk, silence: int) -> None:
    writer.append(chunk, silence_before=silence)


def _finish(writer: RecordingWriter, silence: int, summary: Summary) -> None:
    writer.append(StereoChunk(b"", b""), silence_before=silence)
    writer.finish(summary)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
