"""A server whose agent speaks with a cloned voice, and the commands over the same settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Ran, restored_logs, run_command
from library_links import NAME, PURPOSE, RecordingEngine, candidate, statement

from ringtrue.agent import voice_library
from ringtrue.agent.audit.opening import audit_dir, audit_keys
from ringtrue.agent.audit.searching import entries_of
from ringtrue.agent.audit.verifying import verify
from ringtrue.agent.loopback import loopback_server
from ringtrue.agent.server import Server
from ringtrue.agent.voice_library import open_voices
from ringtrue.config.agent_schema import shipped_agents
from ringtrue.config.settings import Settings, load_settings
from ringtrue.voices.library import utc_now

TENANT = "default"


@dataclass
class ClonedServer:
    """One place with its settings, and their file for the commands."""

    settings: Settings
    config: Path

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Server]:
        async with loopback_server(self.settings) as server:
            yield server

    async def enrol(self) -> str:
        """Admit the voice that the agent ``ada`` names; its id."""
        async with open_voices(self.settings) as library:
            voice, _ = await library.admit(TENANT, candidate(), statement(), utc_now())
            return voice.id

    def entries(self, **fields: object) -> list[dict[str, Any]]:
        """What the audit log has with these fields."""

        def wanted(entry: dict[str, Any]) -> bool:
            return all(entry.get(name) == value for name, value in fields.items())

        return list(entries_of(audit_dir(self.settings), wanted, b""))

    def check(self) -> None:
        """The audit log holds."""
        report = verify(audit_dir(self.settings), audit_keys(self.settings))
        assert report.problems == []

    async def run(self, *arguments: object) -> Ran:
        """A command over these settings."""
        with restored_logs():
            return await asyncio.to_thread(run_command, *arguments, "--config", self.config)


def cloned_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ClonedServer:
    """With an engine that says numbered words in place of every engine of cloned voices."""
    engine = RecordingEngine()
    monkeypatch.setattr(voice_library, "voice_engines", lambda *_: {engine.id: engine})
    agents = folder / "agents"
    agents.mkdir()
    agent = yaml.safe_load((shipped_agents() / "demo.yaml").read_text())
    agent |= {
        "name": "ada",
        "voice": NAME,
        "fallback_voice": "rms",
        "purpose": PURPOSE,
        "greeting": "Hello, this is the automated voice of Example.",
        "disclosure": {"in_greeting": True},
    }
    (agents / "ada.yaml").write_text(yaml.safe_dump(agent))
    config = folder / "server.yaml"
    content = {
        "agents": {"dir": str(agents), "default": "ada"},
        "voices": {"dir": str(folder / "voices")},
        "audit": {
            "text": "encrypted",
            "checkpoint_seconds": 0.2,
            "witness": str(folder / "witness"),
        },
    }
    config.write_text(yaml.safe_dump(content))
    return ClonedServer(load_settings(config, environ={}), config)
