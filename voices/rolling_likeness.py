"""Does a cloned voice, as it goes out, still sound like itself?

When a voice is enrolled it is made to speak once, is compared with its speaker, and how it sounded
is kept. What is really sent in it afterwards is listened to in windows of 1.6 s of speech, as the
speaker encoder hears them (GE2E, Wan et al., ICASSP 2018), and compared with that. One window says
little; a whole row of them under the limit is an alarm. Limit and row come from
``scripts/measure_likeness.py``; what they cost and find is in ``docs/gate.md``.

The clone's own sound is compared with, and not the person's: a clone is far less like its speaker
than like itself, so that only so a stranger's voice can be told from it.

The work is done by one thread for all calls. Overflow policy: while :data:`MAX_PENDING` windows
wait for it, further ones are skipped and counted; a call never waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog

from ringtrue.streaming.ports import Licence, frame_samples
from ringtrue.voices.encoder import (
    EncoderError,
    NotEnoughSpeechError,
    SpeakerEncoder,
    centroid,
    similarity,
)
from ringtrue.voices.encoder.embeddings import DIMENSION, Embedding

log = structlog.get_logger(__name__)

SOUND: Final = "sound"
"""Kind of the blob that keeps how a voice sounded when it was enrolled."""

RATES: Final = (8000, 16000)
"""Hz, of calls' legs."""

WINDOW_SECONDS: Final = 1.6
"""Of speech; pauses don't count."""

QUIET_RMS: Final = 100.0
"""A frame below this level (−50 dBFS) is a pause."""

MAX_PENDING: Final = 32
"""Windows that may wait for the thread: some 0.3 s of its work."""

Pcm = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class LikenessPolicy:
    """When a voice is no longer taken for its speaker."""

    limit: float = 0.70
    """Cosine to its sound at enrolment under which a window counts against the voice."""

    speaker_limit: float = 0.40
    """The same to the enrolled speaker, for a voice whose sound was not kept: finds little."""

    row: int = 4
    """Windows in a row that must be under it."""


@dataclass(slots=True)
class LikenessStats:
    """Counters since the start, over all calls."""

    judged: int = 0
    below: int = 0
    """Windows under the limit."""

    speechless: int = 0
    """Windows in which the encoder heard too little speech to tell."""

    skipped: int = 0
    """Windows nobody listened to, because too many waited."""

    failed: int = 0
    """Windows the encoder could not be run on."""

    alarms: int = 0


class Windows:
    """Cuts what was sent into windows of speech. Not for two threads at a time."""

    def __init__(self, rate: int) -> None:
        """For PCM at ``rate`` Hz."""
        self._frame = frame_samples(rate)
        self._length = round(WINDOW_SECONDS * rate)
        self._held = np.zeros(0, np.int16)

    def feed(self, pcm: bytes) -> list[Pcm]:
        """Whole frames of 20 ms; the windows that are full now, ``(1.6 * rate,)`` each."""
        frames = np.frombuffer(pcm, "<i2").reshape(-1, self._frame)
        power = np.square(frames, dtype=np.float64).mean(axis=1)
        sounding = frames[power >= QUIET_RMS**2].ravel()
        held = np.concatenate([self._held, sounding])
        count = len(held) // self._length
        self._held = held[count * self._length :]
        return list(held[: count * self._length].reshape(count, self._length))


class LikenessJudge:
    """Listens for all calls of a process, on one thread of its own."""

    def __init__(
        self,
        policy: LikenessPolicy | None = None,
        load: Callable[[], SpeakerEncoder] = SpeakerEncoder.load,
    ) -> None:
        """Loads nothing and starts no thread before the first window."""
        self.policy = policy or LikenessPolicy()
        self._load = load
        self._encoder: SpeakerEncoder | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._pending = 0
        self._closed = False
        self.stats = LikenessStats()

    def watch(
        self, speaker: bytes, sound: bytes, rate: int, on_alarm: Callable[[float], None]
    ) -> LikenessWatch:
        """Listen to one call's cloned voice at ``rate`` Hz.

        ``speaker`` is the embedding of who consented and ``sound`` what :func:`sound_of` gave when
        the voice was enrolled, empty where it was not kept. ``on_alarm`` is told once, on the
        loop, with the mean cosine of the row. Close the watch with the call.

        Raises :class:`~ringtrue.voices.encoder.errors.EncoderError` for bytes that are neither.
        """
        policy = self.policy
        if sound:
            size, at = 4 * DIMENSION, RATES.index(rate)
            if len(sound) != size * len(RATES):
                raise EncoderError(f"a voice's sound has {size * len(RATES)} bytes: {len(sound)}")
            reference, limit = speaker_of(sound[at * size : (at + 1) * size]), policy.limit
        else:
            reference, limit = speaker_of(speaker), policy.speaker_limit
        return LikenessWatch(self, reference, limit, rate, on_alarm)

    def close(self) -> None:
        """End the thread; what waits is not judged. Idempotent."""
        self._closed = True
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def _submit(self, watch: LikenessWatch, pcm: bytes) -> None:
        if self._closed or self._pending >= MAX_PENDING:
            self.stats.skipped += 1
            return
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="likeness")
        self._pending += 1
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._executor, self._listen, watch, pcm)
        work.add_done_callback(lambda done: self._heard(watch, done))

    def _listen(self, watch: LikenessWatch, pcm: bytes) -> list[float | None | Exception]:
        """In the thread: a cosine for each window, None for one without enough speech."""
        found: list[float | None | Exception] = []
        for window in watch._windows.feed(pcm):
            try:
                if self._encoder is None:
                    self._encoder = self._load()
                heard = self._encoder.embed(window, watch._rate)
                found.append(similarity(heard, watch._reference))
            except NotEnoughSpeechError:
                found.append(None)
            except Exception as error:  # counted and logged on the loop
                found.append(error)
        return found

    def _heard(
        self, watch: LikenessWatch, done: asyncio.Future[list[float | None | Exception]]
    ) -> None:
        self._pending -= 1
        if done.cancelled():
            return
        for cosine in done.result():
            if cosine is None:
                self.stats.speechless += 1
            elif isinstance(cosine, Exception):
                if not self.stats.failed:
                    log.error("likeness.failed", error=type(cosine).__name__)
                self.stats.failed += 1
            else:
                self.stats.judged += 1
                self.stats.below += cosine < watch._limit
                watch._judged(cosine)


class LikenessWatch:
    """One call's cloned voice; a :class:`~ringtrue.streaming.gate.VoiceWatch`."""

    def __init__(
        self,
        judge: LikenessJudge,
        reference: Embedding,
        limit: float,
        rate: int,
        on_alarm: Callable[[float], None],
    ) -> None:
        """Use :meth:`LikenessJudge.watch`."""
        self._judge = judge
        self._reference = reference
        self._limit = limit
        self._rate = rate
        self._on_alarm = on_alarm
        self._windows = Windows(rate)
        self._sent = bytearray()
        self._batch = 2 * round(WINDOW_SECONDS * rate)
        self._row: list[float] = []
        self._open = True
        self.alarmed = False
        """Whether the voice was found not to be itself."""

    def vouches(self, licence: Licence) -> bool:
        """False after an alarm."""
        return not self.alarmed

    def heard(self, pcm: bytes, licence: Licence) -> None:
        """20 ms of the voice were sent; handed on every 1.6 s."""
        self._sent += pcm
        if len(self._sent) >= self._batch:
            if self._open and not self.alarmed:
                self._judge._submit(self, bytes(self._sent))
            self._sent.clear()

    def close(self) -> None:
        """The call is over: nothing is told any more."""
        self._open = False

    def _judged(self, cosine: float) -> None:
        if cosine >= self._limit:
            self._row.clear()
            return
        self._row.append(cosine)
        if len(self._row) < self._judge.policy.row or self.alarmed or not self._open:
            return
        self.alarmed = True
        self._judge.stats.alarms += 1
        self._on_alarm(sum(self._row) / len(self._row))


def sound_of(recordings: Sequence[npt.NDArray[np.float32]], encoder: SpeakerEncoder) -> bytes:
    """How a voice sounds at each of :data:`RATES`, from what it said: mono at 16 kHz, float.

    The embeddings' bytes one after the other, (256,) little-endian float32 each. Raises
    :class:`~ringtrue.voices.encoder.errors.EncoderError` where there is no speech.
    """
    import soxr

    found = b""
    for rate in RATES:
        waves = [
            wave if rate == RATES[-1] else np.asarray(soxr.resample(wave, RATES[-1], rate))
            for wave in recordings
        ]
        sound = centroid([encoder.embed(wave, rate) for wave in waves])
        found += sound.astype("<f4").tobytes()
    return found


def speaker_of(data: bytes) -> Embedding:
    """The embedding a voice was enrolled with, from its stored bytes.

    Raises :class:`~ringtrue.voices.encoder.errors.EncoderError` for bytes that are none.
    """
    if len(data) != 4 * DIMENSION:
        raise EncoderError(f"an embedding has {4 * DIMENSION} bytes, got {len(data)}")
    speaker = np.frombuffer(data, "<f4")
    try:
        similarity(speaker, speaker)
    except ValueError as error:
        raise EncoderError(f"the stored embedding is none: {error}") from None
    return speaker
