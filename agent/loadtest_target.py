"""The target of a deterministic load test: this server, in this process, with nothing by chance.

What differs from a server as it is served: its recognizer knows the callers' prompts alone, its
choices among texts and its watermark are drawn from the seed, nothing is measured to refuse
calls, and cloned voices are off. Everything else is the server's own: signalling, media, turns,
language hook, synthesizer, gate.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ringtrue.agent.engines import Engines
from ringtrue.agent.loopback import loopback_server
from ringtrue.config.settings import load_settings
from ringtrue.loadtest.scenario.schema import Scenario
from ringtrue.loadtest.spawn import RECOGNIZER, environment_of, laid_over
from ringtrue.loadtest.stand_ins.language import MODEL, LanguageStandIn
from ringtrue.loadtest.tool import Installation
from ringtrue.loadtest.virtual_time import VirtualTimeLoop
from ringtrue.voices.keys.secret_files import write_secret
from ringtrue.voices.library_config import mark_keys
from ringtrue.voices.watermark.keys import MarkKey
from ringtrue.voices.watermark.marker import Marker
from ringtrue.voices.watermark.token import SESSION_BITS

MOMENT: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""When every mark says it was made."""


def seeded(seed: int) -> type[Engines]:
    """Engines that draw everything from ``seed``."""

    class SeededEngines(Engines):
        """See :func:`seeded`."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._seeds = random.Random(f"{seed}/words")
            self._sessions = random.Random(f"{seed}/marks")

        def watermarker(self, rate: int) -> Marker:
            """Marks with the next of the seed's sessions."""
            session = self._sessions.getrandbits(SESSION_BITS)
            if self._marks is None:
                self._marks = mark_keys(self._settings.voices)
            return Marker(self._marks, rate, MOMENT, session=session)

    return SeededEngines


@asynccontextmanager
async def in_process(
    scenario: Scenario, folder: Path, seed: int
) -> AsyncIterator[tuple[str, Installation]]:
    """A server for ``scenario`` on this loop: the SIP URI to call, and whose settings it has.

    On a :class:`VirtualTimeLoop` time stands still while it computes. Raises
    :class:`~ringtrue.config.errors.ConfigError` for a scenario whose settings can't be used.
    """
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        settings = _settings(scenario, folder, seed)
        if scenario.serve.llm is not None:
            llm = await stack.enter_async_context(LanguageStandIn(scenario.serve.llm, seed))
            endpoint = {"engine": "openai", "model": MODEL, "base_url": llm.base_url}
            settings["llm"] = endpoint | {"api_key": "none"}
        environment = environment_of(settings)
        server = await stack.enter_async_context(
            loopback_server(load_settings(environ=environment), engines=seeded(seed))
        )
        synthesis = server.engines.synthesis
        if isinstance(loop, VirtualTimeLoop) and synthesis is not None:
            loop.holds.append(lambda: synthesis.pending > 0)
        yield (
            f"sip:{scenario.agent}@127.0.0.1:{server.sip_port}",
            Installation(environment=environment),
        )


def _settings(scenario: Scenario, folder: Path, seed: int) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    key = MarkKey(hashlib.sha256(f"ringtrue load test {seed}".encode()).digest())
    path = folder / "watermark.keys"
    line = f"{key.id} {base64.b64encode(key.secret).decode()}\n"
    write_secret(path, line.encode("ascii"), replace=True)
    settings: dict[str, Any] = {
        "stt": {"engine": "pipecat", "service": RECOGNIZER},
        "voices": {"enabled": False, "dir": str(folder), "watermark_key_file": str(path)},
        "audit": {"dir": str(folder / "audit"), "local_witness": "off"},
        "records": {"dir": str(folder / "records")},
        "admission": {"enabled": False},
        "agents": {"default": scenario.serve.agent},
    }
    if scenario.serve.agents is not None:
        settings["agents"]["dir"] = str(scenario.serve.agents)
    return laid_over(settings, scenario.serve.settings)
