"""What is open for the length of an ``async with`` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Closing(ABC):
    """Closed at the end of the block, whatever ended it."""

    @abstractmethod
    async def close(self) -> None:
        """Release what it holds."""

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        await self.close()


class Running(Closing):
    """Started at the block's beginning, and closed at its end."""

    @abstractmethod
    async def start(self) -> None:
        """Begin. Where it fails, :meth:`close` has to release what it began."""

    async def __aenter__(self) -> Self:
        """Start; what was started is released if the rest fails."""
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self
