"""Voices that a hosted service speaks: any Pipecat TTS service, by a voice id of the vendor's.

The voice was cloned at the vendor's; here it is enrolled with the same statement and the same
checks as every other, and speaks by the same consent. Nothing is uploaded: whoever enrols it names
the service and the vendor's id of the voice, as engine ``hosted:SERVICE:VOICE_ID``, and the voice
must sound like the enrolled speaker (:mod:`ringtrue.voices.hosted.likeness`), or one person's
consent could let another's voice speak.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final
from weakref import WeakSet

from ringtrue.streaming.errors import SynthesisError
from ringtrue.voices.engine import OnProgress, Progress, Speech, VoiceEngine
from ringtrue.voices.errors import CloningError, EngineStateError, EngineUnavailableError
from ringtrue.voices.hosted.likeness import check_likeness
from ringtrue.voices.hosted.line import HostedService, Line, Lines
from ringtrue.voices.hosted.stream import HostedStream, HostedVoice

ENGINE_ID: Final = "hosted-1"
PREFIX: Final = "hosted"
"""Of an engine's name that says service and voice too."""

MAX_STATE: Final = 4096
MAX_VOICE: Final = 256
MAX_LINES: Final = 64
"""Utterances in one voice at once."""

KEEP_SECONDS: Final = 60.0
"""How long a connection without work is kept."""

_VOICE: Final = re.compile(rf"[\x21-\x7e]{{1,{MAX_VOICE}}}")


def choose_engine(engines: Mapping[str, VoiceEngine], name: str) -> VoiceEngine:
    """The engine that ``name`` means: an id, or ``hosted:SERVICE:VOICE_ID``.

    The engine returned for the latter clones by taking that voice; its ``id`` is what a profile
    names. Raises :class:`~ringtrue.voices.errors.CloningError` naming the choices.
    """
    kind, _, rest = name.partition(":")
    hosted = engines.get(ENGINE_ID)
    if kind == PREFIX and isinstance(hosted, HostedEngine):
        service, _, voice = rest.partition(":")
        return hosted.taking(service, voice)
    if name in engines and name != ENGINE_ID:
        return engines[name]
    raise CloningError(f"no engine {name!r}; allowed: {', '.join(engine_names(engines)) or 'none'}")


def engine_names(engines: Mapping[str, VoiceEngine]) -> list[str]:
    """What :func:`choose_engine` takes."""
    names = sorted(each for each in engines if each != ENGINE_ID)
    hosted = engines.get(ENGINE_ID)
    if isinstance(hosted, HostedEngine):
        names += [f"{PREFIX}:{service}:VOICE_ID" for service in hosted.services]
    return names


class HostedEngine:
    """A :class:`~ringtrue.voices.engine.VoiceEngine` of configured services."""

    def __init__(
        self, services: Mapping[str, HostedService], *, keep_seconds: float = KEEP_SECONDS
    ) -> None:
        """Speak with ``services``, each under the name that voices' states use."""
        self._services = dict(services)
        self._keep = keep_seconds
        self._lines: WeakSet[Lines] = WeakSet()
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
        self._lines.add(lines)
        return HostedVoice(lines, self._streams)

    async def release(self, voice: HostedVoice) -> None:
        """Disconnect what ``voice`` keeps; it can't be used any more."""
        await voice.lines.close()

    def _line(self, service: str, voice: str) -> Line:
        try:
            return Line(self._services[service], voice, service)
        except SynthesisError as error:
            raise EngineUnavailableError(str(error)) from None

    async def close(self) -> None:
        """Cut every open stream and disconnect."""
        for stream in tuple(self._streams):
            stream.cut()
        for lines in tuple(self._lines):
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
        """Take the voice, if it is the speaker's."""
        on_progress(Progress(0.1, "listening to the vendor's voice"))
        voice = await self._engine.prepare(self._state)
        try:
            await check_likeness(voice, speech)
        except SynthesisError as error:
            raise CloningError(f"the vendor's voice can't be heard: {error}") from None
        finally:
            await self._engine.release(voice)
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
