"""Who speaks in a call: the cloned voice its agent names where a consent covers it, else a stock
voice.

A library that can't be opened, or not in time, costs calls their cloned voices and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import structlog

from ringtrue.agent.audit.log import Recorder
from ringtrue.agent.voice_library import open_voices
from ringtrue.config.agent_schema import Agent
from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import FliteSettings, Settings
from ringtrue.streaming.errors import RingtrueError
from ringtrue.voices.encoder import EncoderError
from ringtrue.voices.flite import VOICES
from ringtrue.voices.lease import Lease
from ringtrue.voices.ledger import LedgerError
from ringtrue.voices.library import VoiceLibrary
from ringtrue.voices.library_config import library_wanted
from ringtrue.voices.licensing import ConsentRefusedError
from ringtrue.voices.rolling_likeness import speaker_of
from ringtrue.voices.stock import FliteEngine
from ringtrue.voices.store.errors import VoiceNotFoundError

log = structlog.get_logger(__name__)

LEASE_SECONDS: Final = 2.0
"""How long a call may wait for its voice before a stock voice answers it."""

RETRY_SECONDS: Final = 5.0
"""Pause between looks for a library that couldn't be opened, or wasn't there."""

NOT_FOUND: Final = "not_found"
UNAVAILABLE: Final = "unavailable"
UNRECORDED: Final = "unrecorded"
"""The audit log can't be written."""

_WARMING: Final = "Hello."


@dataclass(frozen=True, slots=True)
class Casting:
    """The voices of one call."""

    stock: str
    """Speaks where the cloned voice doesn't, and takes over from it."""

    lease: Lease | None = None
    refused: str | None = None
    """Why the cloned voice that the agent names doesn't speak."""

    def close(self) -> None:
        """The call is over."""
        if self.lease is not None:
            self.lease.close()


class Cast:
    """The voices of all calls of a process, and the library they come from."""

    def __init__(
        self,
        settings: Settings,
        agents: Sequence[Agent],
        stock: FliteEngine | None,
        recorder: Recorder | None = None,
    ) -> None:
        """``stock`` is None where a service speaks; then no agent has a cloned voice.

        What is done with voices goes to ``recorder``, or to an audit log of the library's own.

        Raises :class:`ConfigError` for an agent whose voice is no stock voice and that doesn't
        say what for.
        """
        self._settings = settings
        self._stock = stock
        self._recorder = recorder
        self._override = settings.tts.voice if isinstance(settings.tts, FliteSettings) else None
        self._cloned = tuple(agent for agent in agents if self._names_cloned(agent))
        for agent in self._cloned:
            if agent.purpose is None:
                raise ConfigError(
                    f"agent {agent.name}: voice is {agent.voice!r}; tts.engine flite has: "
                    f"{', '.join(VOICES)}, and for a cloned voice purpose must be given: what "
                    "its speaker consented to"
                )
        self._open = AsyncExitStack()
        self._waiting: asyncio.Task[None] | None = None
        self.library: VoiceLibrary | None = None
        """None where there is none, or it can't be opened at present."""

    @property
    def wanted(self) -> bool:
        """Whether the settings, the agents or voices that are there ask for a library."""
        # Calls are placed by API keys, which are kept with the voices.
        named = bool(self._cloned) or self._settings.outbound.enabled
        return library_wanted(self._settings.voices, named=named)

    async def open(self) -> None:
        """Open the library where it is wanted, and make ready the voices that agents name.

        One that can't be opened is tried again until :meth:`close`; only where ``voices.enabled``
        is true, not ``auto``, its error is raised. With ``auto``, one that isn't there yet is
        opened once somebody makes it.
        """
        if self._settings.voices.enabled is False:
            return
        if self.wanted:
            try:
                await self._try()
            except (RingtrueError, OSError) as error:
                if self._settings.voices.enabled is True:
                    raise
                log.error("voices.unavailable", error=type(error).__name__, reason=str(error))
        if self.library is None:
            loop = asyncio.get_running_loop()
            self._waiting = loop.create_task(self._wait(), name="voices-wait")

    async def close(self) -> None:
        """Close the library."""
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.gather(self._waiting, return_exceptions=True)
        self.library = None
        await self._open.aclose()

    async def cast(self, agent: Agent) -> Casting:
        """Who speaks in a call that ``agent`` answers; never raises, never waits long."""
        if not self._names_cloned(agent):
            return Casting(self._override or agent.voice)
        try:
            async with asyncio.timeout(LEASE_SECONDS):
                lease = await self._lease(agent)
        except ConsentRefusedError as error:
            reason = error.decision.reason.value
        except VoiceNotFoundError:
            reason = NOT_FOUND
        except LedgerError:
            reason = UNRECORDED
        except Exception as error:  # whatever keeps a voice away, the call is answered
            log.error("voices.lease_failed", agent=agent.name, error=type(error).__name__)
            reason = UNAVAILABLE
        else:
            if lease is not None:
                return Casting(agent.fallback_voice, lease)
            reason = UNAVAILABLE
        log.warning("voices.refused", agent=agent.name, reason=reason)
        return Casting(agent.fallback_voice, refused=reason)

    def _names_cloned(self, agent: Agent) -> bool:
        return self._stock is not None and self._override is None and agent.voice not in VOICES

    async def _lease(self, agent: Agent) -> Lease | None:
        if self.library is None:
            return None
        lease = await self.library.lease(
            tenant=agent.tenant,
            voice=agent.voice,
            agent=agent.name,
            purpose=agent.purpose or "",
        )
        try:
            speaker_of(lease.speaker)  # a voice that can't be told from others doesn't speak
        except EncoderError:
            lease.close()
            raise
        return lease

    async def _try(self) -> None:
        self.library = await self._open.enter_async_context(
            open_voices(self._settings, self._stock, self._recorder)
        )
        for agent in self._cloned:
            casting = await self.cast(agent)
            try:
                if casting.lease is not None:
                    await _speak(casting.lease)
            except Exception as error:  # found out again by the call that needs it
                log.error("voices.not_warm", agent=agent.name, error=type(error).__name__)
            finally:
                casting.close()

    async def _wait(self) -> None:
        while self.library is None:
            await asyncio.sleep(RETRY_SECONDS)
            if not await asyncio.to_thread(lambda: self.wanted):  # looks for a file
                continue
            try:
                await self._try()
            except Exception as error:  # whatever it is, it may be mended while the server runs
                log.warning("voices.still_unavailable", error=type(error).__name__)
            else:
                log.info("voices.available")


async def _speak(lease: Lease) -> None:
    """Say a word to nobody, so that the first call waits for nothing."""
    stream = lease.open(8000)
    stream.feed(_WARMING)
    stream.finish()
    async for chunk in stream.frames():
        if chunk.pcm:
            break
    stream.cut()
