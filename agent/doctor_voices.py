"""Checks of cloned voices: library, keys and Redis, engines, and the voices that agents name.

A library that is there is opened as a server opens it; one that isn't is not made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from ringtrue.agent.casting import NOT_FOUND
from ringtrue.agent.findings import Check, CheckFunction, State, installed_version
from ringtrue.config.agent_schema import Agent, load_agents
from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import FliteSettings, Settings
from ringtrue.streaming.errors import RingtrueError
from ringtrue.voices.flite import VOICES
from ringtrue.voices.hosted import HostedEngine, HostedService
from ringtrue.voices.keys.errors import KeyMaterialError
from ringtrue.voices.library import VoiceLibrary
from ringtrue.voices.library_config import (
    library_dir,
    library_exists,
    library_wanted,
    mark_key_file,
)
from ringtrue.voices.pocket.backend import EXTRA
from ringtrue.voices.pocket.files import open_directory
from ringtrue.voices.store.errors import VoiceNotFoundError
from ringtrue.voices.watermark.keyring import load_mark_keys

NAME: Final = "cloned voices"
REDIS_SECONDS: Final = 2.0


def _cloned_voices(settings: Settings) -> list[Check]:
    named = _naming(settings)
    if not library_wanted(settings.voices, named=bool(named) or settings.outbound.enabled):
        return [Check(NAME, State.OK, "none are named or kept")]
    if not library_exists(settings.voices):
        where = library_dir(settings.voices)
        found = [] if named else [Check(NAME, State.OK, f"no library in {where} yet")]
        return found + [_unspoken(agent, NOT_FOUND) for agent in named]
    try:
        return asyncio.run(_look(settings, named))
    except (RingtrueError, OSError) as error:
        return [
            Check(
                NAME,
                State.MISSING,
                str(error),
                "stock voices speak instead, and nobody can enrol",
                "correct the section voices, or bring back the keys or the database",
            )
        ]


def _naming(settings: Settings) -> list[Agent]:
    """Agents that name a cloned voice."""
    if not isinstance(settings.tts, FliteSettings) or settings.tts.voice is not None:
        return []
    try:
        agents = load_agents(settings.agents.dir)
    except ConfigError:
        return []  # another check says so
    return [agent for agent in agents.values() if agent.voice not in VOICES]


async def _look(settings: Settings, named: Sequence[Agent]) -> list[Check]:
    from ringtrue.agent.voice_library import open_voices

    async with open_voices(settings) as library:
        found = [_kept(settings, library)]
        if settings.voices.redis_url is not None:
            found.append(await _redis(library))
        for agent in named:
            found.append(await _named(library, agent))
    return found


def _kept(settings: Settings, library: VoiceLibrary) -> Check:
    engines = ", ".join(sorted(library.engines))
    where = library_dir(settings.voices) if settings.voices.database_url is None else "a database"
    return Check(NAME, State.OK, f"library in {where}, engines {engines}")


async def _redis(library: VoiceLibrary) -> Check:
    try:
        async with asyncio.timeout(REDIS_SECONDS):
            await library.revocations.wait_connected()
    except TimeoutError:
        return Check(
            "voice cache",
            State.DEGRADED,
            "Redis does not answer",
            "voices are read from the database, and withdrawals reach calls through it",
            "start Redis, or correct voices.redis_url",
        )
    return Check("voice cache", State.OK, "Redis answers")


async def _named(library: VoiceLibrary, agent: Agent) -> Check:
    try:
        voice = await library.find(agent.tenant, agent.voice)
    except VoiceNotFoundError:
        return _unspoken(agent, NOT_FOUND)
    decision = await library.decide(
        tenant=agent.tenant, voice=voice.id, agent=agent.name, purpose=agent.purpose or ""
    )
    if not decision.allowed:
        return _unspoken(agent, decision.reason.value)
    if voice.engine not in library.engines:
        return _unspoken(agent, f"engine {voice.engine} is not set up")
    until = f", until {decision.until:%Y-%m-%d}" if decision.until is not None else ""
    return Check(f"voice of {agent.name}", State.OK, f"{voice.id} with consent{until}")


def _unspoken(agent: Agent, reason: str) -> Check:
    return Check(
        f"voice of {agent.name}",
        State.DEGRADED,
        f"a cloned voice that may not speak: {reason}",
        f"calls of {agent.name} have the stock voice {agent.fallback_voice}",
        "ringtrue voices enrol or renew, with the purpose and for the agent its file names",
    )


def _watermark(settings: Settings) -> Check:
    """The key that marks all that is sent; one that will be made at the start is not made here."""
    path = mark_key_file(settings.voices)
    if settings.voices.watermark_key_file is None and not path.exists():
        return Check("watermark", State.OK, f"no key yet; the first start makes {path}")
    try:
        keys = load_mark_keys(path)
    except KeyMaterialError as error:
        return Check(
            "watermark",
            State.MISSING,
            str(error),
            "no server starts: nothing is sent unmarked",
            "bring the file back from its backup, or correct voices.watermark_key_file",
        )
    older = len(keys.keys) - 1
    more = f", and {older} that marked before" if older else ""
    return Check("watermark", State.OK, f"key {keys.current.id} in {path}{more}")


def _pocket_voices(settings: Settings) -> list[Check]:
    """The neural engine's packages and model; nothing of them is loaded."""
    pocket = settings.voices.pocket
    if pocket is None:
        return []
    cost = "voices of engine pocket-1 can't be made, and don't speak"
    name = "pocket voices"
    package = installed_version("pocket-tts")
    if not package:
        return [Check(name, State.MISSING, "pocket-tts is not installed", cost, EXTRA)]
    try:
        model = open_directory(pocket.model)
    except (RingtrueError, OSError) as error:
        remedy = "ringtrue models fetch, or correct voices.pocket.model"
        return [Check(name, State.MISSING, str(error), cost, remedy)]
    return [Check(name, State.OK, f"{model.name} in {pocket.model}, pocket-tts {package}")]


def _hosted_voices(settings: Settings) -> list[Check]:
    """Every hosted service is built, and none connected to."""
    found = []
    for name, held in settings.voices.hosted.items():
        engine = HostedEngine({name: HostedService(held.service, held.revealed())})
        try:
            asyncio.run(engine.warm())
        except RingtrueError as error:
            check = Check(
                f"hosted voices {name}",
                State.MISSING,
                str(error),
                "voices of this service can't be enrolled, and don't speak",
                f"correct voices.hosted.{name}, or install what its service needs",
            )
        else:
            check = Check(f"hosted voices {name}", State.OK, held.service)
        found.append(check)
    return found


VOICE_CHECKS: Final[tuple[CheckFunction, ...]] = (
    _watermark,
    _cloned_voices,
    _pocket_voices,
    _hosted_voices,
)
"""All of this module."""
