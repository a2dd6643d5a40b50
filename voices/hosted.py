"""Voices that a hosted service speaks: any Pipecat TTS service, by a voice id of the vendor's.

The voice was cloned at the vendor's; here it is enrolled with the same statement and the same
checks as every other, and speaks by the same consent. Nothing is uploaded: whoever enrols it names
the service and the vendor's id of the voice, as engine ``hosted:SERVICE:VOICE_ID``.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import numpy as np

from ringtrue.streaming.errors import SynthesisError
from ringtrue.streaming.ports import SpeechChunk, WordMark
from ringtrue.voices.engine import OnProgress, Progress, Speech, VoiceEngine
from ringtrue.voices.errors import CloningError, EngineStateError, EngineUnavailableError
from ringtrue.voices.hosted_line import HostedService, Line, Lines
from ringtrue.voices.pocket.marks import Pace, PhraseMarks
from ringtrue.voices.renderer import RATES
from ringtrue.voices.rerate import RealArray, Rerate

ENGINE_ID: Final = "hosted-1"
PREFIX: Final = "hosted"
"""Of an engine's name that says service and voice too."""

MAX_STATE: Final = 4096
MAX_VOICE: Final = 256
MAX_QUEUED: Final = 20_000
"""Characters one utterance may hold."""

MAX_LINES: Final = 64
"""Utterances in one voice at once."""

KEEP_SECONDS: Final = 60.0
"""How long a connection without work is kept."""

IN_FLIGHT: Final = 2
"""Phrases asked for at once: the next is being made while one is being sent."""

AHEAD_SECONDS: Final = 8.0
"""Audio held at most before another phrase is asked for."""

_VOICE: Final = re.compile(rf"[\x21-\x7e]{{1,{MAX_VOICE}}}")


def choose_engine(engines: Mapping[str, VoiceEngine], name: str) -> VoiceEngine:
    """The engine that ``name`` means: an id, or ``hosted:SERVICE:VOICE_ID``.

    The engine returned for the latter clones by taking that voice. Raises
    :class:`~ringtrue.voices.errors.CloningError` naming the choices.
    """
    kind, _, rest = name.partition(":")
    hosted = engines.get(ENGINE_ID)
    if kind == PREFIX and isinstance(hosted, HostedEngine):
        service, _, voice = rest.partition(":")
        return hosted.taking(service, voice)
    if name in engines and name != ENGINE_ID:
        return engines[name]
    names = sorted(each for each in engines if each != ENGINE_ID)
    if isinstance(hosted, HostedEngine):
        names += [f"{PREFIX}:{service}:VOICE_ID" for service in hosted.services]
    raise CloningError(f"no engine {name!r}; this server has: {', '.join(names)}")


class HostedEngine:
    """A :class:`~ringtrue.voices.engine.VoiceEngine` of configured services."""

    def __init__(
        self, services: Mapping[str, HostedService], *, keep_seconds: float = KEEP_SECONDS
    ) -> None:
        """Speak with ``services``, each under the name that voices' states use."""
        self._services = dict(services)
        self._keep = keep_seconds
        self._lines: list[Lines] = []
        self._streams: set[HostedStream] = set()

    @property
    def id(self) -> str:
        """``hosted-1``."""
        return ENGINE_ID

    @property
    def services(self) -> tuple[str, ...]:
        """Names of the services there are."""
        return tuple(self._services)

    async def warm(self) -> None:
        """Import and build every service once, so that a wrong setting shows at the start.

        Raises :class:`~ringtrue.voices.errors.EngineUnavailableError`.
        """
        for name in self._services:
            self._line(name, "warm")

    def taking(self, service: str, voice: str) -> VoiceEngine:
        """This engine, for enrolling the vendor's ``voice`` at ``service``.

        Raises :class:`~ringtrue.voices.errors.CloningError` for a service there isn't or an id
        that is none.
        """
        return _Taking(self, self._state(service, voice))

    def _state(self, service: str, voice: str) -> bytes:
        configured = self._services.get(service)
        if configured is None:
            known = ", ".join(self._services) or "none"
            raise CloningError(f"no hosted service {service!r}; configured: {known}")
        if not _VOICE.fullmatch(voice):
            raise CloningError(
                f"{voice!r} is no voice id; allowed: 1 to {MAX_VOICE} printable characters "
                f"without spaces, as in {PREFIX}:{service}:VOICE_ID"
            )
        state = {
            "format": ENGINE_ID,
            "service": service,
            "vendor": configured.service,
            "voice": voice,
        }
        return json.dumps(state).encode()

    async def clone(self, speech: Speech, on_progress: OnProgress) -> bytes:
        """Refuse: which voice it is to be isn't said. See :meth:`taking`.

        Raises :class:`~ringtrue.voices.errors.CloningError`.
        """
        raise CloningError(
            "a hosted voice is cloned at its vendor's and enrolled here by its id there: "
            f"name the engine {PREFIX}:SERVICE:VOICE_ID"
        )

    async def prepare(self, state: bytes) -> HostedVoice:
        """Make ``state`` ready to speak; connects to nothing yet.

        Raises :class:`~ringtrue.voices.errors.EngineStateError` for bytes that are no state or
        name a service that is no longer configured, and
        :class:`~ringtrue.voices.errors.EngineUnavailableError` for settings it doesn't take.
        """
        service, vendor, voice = _read(state)
        configured = self._services.get(service)
        if configured is None or configured.service != vendor:
            known = ", ".join(f"{k} ({v.service})" for k, v in self._services.items()) or "none"
            raise EngineStateError(
                f"the voice is spoken by hosted service {service!r} ({vendor}), which is not "
                f"configured; configured: {known}"
            )
        self._line(service, voice)
        lines = Lines(
            lambda: Line(configured, voice, service), most=MAX_LINES, keep_seconds=self._keep
        )
        self._lines.append(lines)
        return HostedVoice(lines, self._streams)

    def _line(self, service: str, voice: str) -> Line:
        try:
            return Line(self._services[service], voice, service)
        except SynthesisError as error:
            raise EngineUnavailableError(str(error)) from None

    async def close(self) -> None:
        """Cut every open stream and disconnect."""
        for stream in tuple(self._streams):
            stream.cut()
        for lines in self._lines:
            await lines.close()


class _Taking:
    """A :class:`HostedEngine` that clones by taking one voice."""

    def __init__(self, engine: HostedEngine, state: bytes) -> None:
        self._engine = engine
        self._state = state

    @property
    def id(self) -> str:
        return self._engine.id

    async def warm(self) -> None:
        await self._engine.warm()

    async def clone(self, speech: Speech, on_progress: OnProgress) -> bytes:
        on_progress(Progress(1.0, "taking the vendor's voice"))
        return self._state

    async def prepare(self, state: bytes) -> HostedVoice:
        return await self._engine.prepare(state)

    async def close(self) -> None:
        await self._engine.close()


def _read(state: bytes) -> tuple[str, str, str]:
    try:
        if len(state) > MAX_STATE:
            raise ValueError("too long")
        data = json.loads(state)
        if data["format"] != ENGINE_ID:
            raise ValueError("another format")
        service, vendor, voice = data["service"], data["vendor"], data["voice"]
        if not (isinstance(service, str) and isinstance(vendor, str) and _VOICE.fullmatch(voice)):
            raise ValueError("other fields")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise EngineStateError("the bytes are no state of a hosted voice") from None
    return service, vendor, voice


class HostedVoice:
    """A :class:`~ringtrue.voices.engine.PreparedVoice`."""

    speaks_markup: Final = False

    def __init__(self, lines: Lines, streams: set[HostedStream]) -> None:
        """Use :meth:`HostedEngine.prepare`."""
        self._lines = lines
        self._streams = streams
        self._pace = Pace()

    def open(self, rate: int) -> HostedStream:
        """Start an utterance at ``rate`` Hz (8000 or 16000); raises ``ValueError`` for another."""
        if rate not in RATES:
            raise ValueError(f"rate must be one of {', '.join(map(str, RATES))} Hz, got {rate}")
        stream = HostedStream(self._lines, rate, self._pace, self._streams.discard)
        self._streams.add(stream)
        return stream


class HostedStream:
    """One utterance being spoken; see :class:`~ringtrue.streaming.ports.SynthesisStream`.

    Overflow policy: no phrase is asked for while :data:`AHEAD_SECONDS` of audio wait to be
    read. Text beyond :data:`MAX_QUEUED` characters ends :meth:`frames` with an error after what
    was accepted.
    """

    def __init__(
        self, lines: Lines, rate: int, pace: Pace, on_end: Callable[[HostedStream], None]
    ) -> None:
        """Use :meth:`HostedVoice.open`."""
        self._lines = lines
        self._rate = rate
        self._pace = pace
        self._on_end = on_end
        self._line: Line | None = None
        self._phrases: deque[str] = deque()
        self._asked: deque[str] = deque()
        """Phrases of which not everything has come."""

        self._characters = 0
        self._overflow = False
        self._finished = False
        self._cut = False
        self._consumed = False
        self._changed = asyncio.Event()
        self._error: SynthesisError | None = None
        self._chunks: deque[SpeechChunk] = deque()
        self._held = 0
        """Samples in ``_chunks``."""

        self._made = 0
        self._began = 0
        """Where the phrase being received begins."""

        self._rerate: Rerate | None = None
        self._marks: PhraseMarks | None = None
        self._word: tuple[str, int] | None = None
        """The last word that began, and where; it ends where the next one begins."""

        self._ended: deque[WordMark] = deque()
        """Words whose ends are known and not told yet."""

    def feed(self, phrase: str) -> None:
        """Queue one phrase. After :meth:`finish` or :meth:`cut` it is dropped."""
        if self._finished or self._cut or self._overflow:
            return
        if self._characters + len(phrase) > MAX_QUEUED:
            self._overflow = self._finished = True
        else:
            self._characters += len(phrase)
            self._phrases.append(phrase)
        self._changed.set()

    def finish(self) -> None:
        """No more phrases: :meth:`frames` ends once everything fed has been spoken."""
        self._finished = True
        self._changed.set()

    def cut(self) -> None:
        """Stop now: queued text and audio are dropped and :meth:`frames` ends. Idempotent."""
        if self._cut:
            return
        self._cut = True
        self._phrases.clear()
        self._chunks.clear()
        self._changed.set()
        line, self._line = self._line, None
        if line is not None:
            self._lines.give_back(line, speaking=bool(self._asked))
        self._on_end(self)

    async def frames(self) -> AsyncIterator[SpeechChunk]:
        """Chunks as the service sends them, in order. For one consumer, once.

        Words are marked by the service's times where it gives any, else estimated. Raises
        :class:`~ringtrue.streaming.errors.SynthesisError` if the service fails, if too much text
        was queued, or if the stream is read twice.
        """
        if self._consumed:
            raise SynthesisError("a synthesis stream can be read only once")
        self._consumed = True
        try:
            while not self._cut:
                self._changed.clear()
                await self._ask()
                if self._chunks:
                    chunk = self._chunks.popleft()
                    self._held -= len(chunk.pcm) // 2
                    yield chunk
                elif self._cut:
                    return
                elif self._error is not None:
                    raise self._error
                elif self._finished and not self._phrases and not self._asked:
                    break
                else:
                    await self._changed.wait()
            if self._overflow and not self._cut:
                raise SynthesisError(f"more than {MAX_QUEUED} characters were queued to be spoken")
        finally:
            self.cut()

    async def _ask(self) -> None:
        """Ask for as many of the phrases that wait as may be under way."""
        while (
            self._phrases
            and self._error is None
            and len(self._asked) < IN_FLIGHT
            and self._held < AHEAD_SECONDS * self._rate
        ):
            if self._line is None and not await self._connected():
                return
            assert self._line is not None
            phrase = self._phrases.popleft()
            self._asked.append(phrase)
            await self._line.say(phrase, spoken=any(letter.isalnum() for letter in phrase))

    async def _connected(self) -> bool:
        line = await self._lines.take()
        if self._cut:
            self._lines.give_back(line, speaking=False)
            return False
        line.hearer = self
        self._line = line
        return True

    def audio(self, pcm: bytes, rate: int) -> None:
        """Take audio from the line."""
        if self._cut or not self._asked:
            return
        if self._rerate is None or self._rerate.source != rate:
            self._rerate = Rerate(rate, self._rate)
        samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2")
        self._put(self._rerate.feed(samples.astype(np.float64)), phrase_end=False)

    def word(self, text: str, start: float | None) -> None:
        """Take a word from the line."""
        if self._cut or start is None or self._line is None or not self._line.times_words:
            return
        at = self._began + int(start * self._rate)
        before, self._word = self._word, (text.strip(), at)
        if before is not None:
            self._ended.append(WordMark(before[0], at))
            self._add(SpeechChunk(b"", self._reached()))

    def phrase_over(self) -> None:
        """Take the end of a phrase from the line."""
        if self._cut or not self._asked:
            return
        rest = self._rerate.finish() if self._rerate is not None else np.zeros(0)
        self._rerate = None
        self._put(rest, phrase_end=True)
        self._asked.popleft()
        self._began = self._made
        self._changed.set()

    def failed(self, error: SynthesisError) -> None:
        """Take an error from the line."""
        self._error = error
        self._changed.set()

    def _put(self, samples: RealArray, *, phrase_end: bool) -> None:
        self._made += len(samples)
        words: tuple[WordMark, ...] = ()
        timed = self._line is not None and self._line.times_words
        if not timed:
            if self._marks is None:
                self._marks = PhraseMarks(self._asked[0], self._began, self._rate, self._pace)
            words = self._marks.reached(self._made)
        if phrase_end:
            if self._marks is not None:
                words += self._marks.finish(self._made)
                self._marks = None
            if self._word is not None:
                self._ended.append(WordMark(self._word[0], self._made))
                self._word = None
        words += self._reached(everything=phrase_end)
        pcm = np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()
        self._add(SpeechChunk(pcm, words, phrase_end))

    def _reached(self, *, everything: bool = False) -> tuple[WordMark, ...]:
        """Words whose ends have come; times may be told before the audio or after it."""
        found = []
        while self._ended and (everything or self._ended[0].end <= self._made):
            mark = self._ended.popleft()
            found.append(WordMark(mark.text, min(mark.end, self._made)))
        return tuple(found)

    def _add(self, chunk: SpeechChunk) -> None:
        if chunk.pcm or chunk.words or chunk.phrase_end:
            self._chunks.append(chunk)
            self._held += len(chunk.pcm) // 2
            self._changed.set()
