"""What a block opened is closed however the block ends, also where it never began."""

from __future__ import annotations

import pytest

from ringtrue.streaming.lifetime import Closing, Running


class Door(Closing):
    def __init__(self) -> None:
        self.did: list[str] = []

    async def close(self) -> None:
        self.did.append("close")


class Engine(Running, Door):
    def __init__(self, *, starts: bool) -> None:
        super().__init__()
        self.starts = starts

    async def start(self) -> None:
        self.did.append("start")
        if not self.starts:
            raise OSError("the address is taken")


async def test_closed_at_the_end() -> None:
    async with Door() as door:
        assert door.did == []
    assert door.did == ["close"]


async def test_closed_by_an_error_that_goes_on() -> None:
    engine = Engine(starts=True)
    with pytest.raises(RuntimeError, match="in the block"):
        async with engine:
            raise RuntimeError("in the block")
    assert engine.did == ["start", "close"]


async def test_what_failed_to_start_is_closed() -> None:
    engine = Engine(starts=False)
    with pytest.raises(OSError, match="taken"):
        async with engine:
            pytest.fail("the block was entered")
    assert engine.did == ["start", "close"]
