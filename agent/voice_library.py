"""Opens the library of cloned voices with the engines that the settings name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from ringtrue.agent.audit.ledger import AuditLedger
from ringtrue.agent.audit.log import Recorder
from ringtrue.agent.audit.opening import open_audit
from ringtrue.config.settings import FliteSettings, Settings
from ringtrue.voices.embedded import EmbeddedEngine
from ringtrue.voices.engine import VoiceEngine
from ringtrue.voices.hosted import HostedEngine, HostedService
from ringtrue.voices.library import VoiceLibrary, open_library
from ringtrue.voices.library_config import library_config
from ringtrue.voices.pocket.engine import PocketEngine
from ringtrue.voices.stock import FliteEngine


def stock_engine(settings: Settings) -> FliteEngine:
    """The stock voices, as configured; nothing is loaded yet."""
    own = settings.tts if isinstance(settings.tts, FliteSettings) else settings.tts.fallback
    threads = own.threads if isinstance(own, FliteSettings) else None
    return FliteEngine(search=settings.paths.libraries, threads=threads)


def voice_engines(settings: Settings, stock: FliteEngine) -> dict[str, VoiceEngine]:
    """Every engine of cloned voices that ``settings`` set up, by id; nothing is loaded yet."""
    engines: list[VoiceEngine] = [EmbeddedEngine(stock)]
    pocket, hosted = settings.voices.pocket, settings.voices.hosted
    if pocket is not None:
        engines.append(
            PocketEngine(
                pocket.model,
                batch=pocket.batch,
                threads=pocket.threads,
                temperature=pocket.temperature,
            )
        )
    if hosted:
        services = {
            name: HostedService(each.service, each.revealed()) for name, each in hosted.items()
        }
        engines.append(HostedEngine(services))
    return {engine.id: engine for engine in engines}


@asynccontextmanager
async def open_voices(
    settings: Settings, stock: FliteEngine | None = None, recorder: Recorder | None = None
) -> AsyncIterator[VoiceLibrary]:
    """Hold the library open; over ``stock``, or stock voices of its own.

    What is done with voices goes to ``recorder``, or to an audit log of its own.

    Raises :class:`~ringtrue.voices.store.errors.StoreError`,
    :class:`~ringtrue.voices.keys.errors.KeyManagementError` and
    :class:`~ringtrue.voices.cache.errors.RedisUrlError`.
    """
    config = await asyncio.to_thread(library_config, settings.voices)
    async with AsyncExitStack() as stack:
        if stock is None:
            stock = stock_engine(settings)
            stack.push_async_callback(stock.close)
        engines = voice_engines(settings, stock)
        for engine in engines.values():
            stack.push_async_callback(engine.close)
        if recorder is None:
            recorder = await stack.enter_async_context(open_audit(settings))
        ledger = AuditLedger(recorder)
        yield await stack.enter_async_context(open_library(config, engines, ledger))
