"""Sealed values to put in caches, and a store that counts how often it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from ringtrue.voices.keys.sealing import DataKey, SealContext, Sealed

PATIENCE = 20.0
"""Seconds after which a wait counts as hopeless; nothing is measured by it."""


def voice_id(number: int) -> str:
    return f"v_{number:032x}"


@dataclass
class Shelf:
    """One voice's sealed values as a store keeps them, under the voice's own key."""

    number: int = 1
    tenant: str = "acme"
    version: int = 1
    data: bytes = b"voiceprint-of-ada|" * 57
    key: DataKey = field(default_factory=DataKey.generate)
    loads: int = 0
    gate: asyncio.Event | None = None
    """What loads wait for, if anything."""

    def __post_init__(self) -> None:
        self.sealed = self.key.seal(self.data, self.place)

    @property
    def voice(self) -> str:
        return voice_id(self.number)

    @property
    def place(self) -> SealContext:
        return SealContext(self.tenant, self.voice, "embedding", self.version)

    @property
    def raw(self) -> bytes:
        return self.sealed.nonce + self.sealed.ciphertext

    async def load(self) -> Sealed:
        self.loads += 1
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        return self.sealed


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something to come true; fails only where it never does."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)
