"""What calls that are placed over the web have in common, whatever carries their audio."""

from __future__ import annotations

import asyncio

from ringtrue.streaming.ports import Direction, EndReason, LegStats


class PlacedCall:
    """A call that this side placed, and how it ended."""

    def __init__(self) -> None:
        """Not over yet; belongs to the running loop."""
        self._over: asyncio.Future[EndReason] = asyncio.get_running_loop().create_future()

    @property
    def direction(self) -> Direction:
        """Placed by us."""
        return Direction.OUTBOUND

    @property
    def local(self) -> str:
        """Our own number: none."""
        return ""

    async def ended(self) -> EndReason:
        """Wait until the call is over."""
        return await asyncio.shield(self._over)

    def _finish(self, reason: EndReason) -> None:
        """It is over, unless it was already."""
        if not self._over.done():
            self._over.set_result(reason)


class PlacedLeg:
    """The caller's side of such a call's audio: its target tells nothing of what was played."""

    def __init__(self) -> None:
        """Nothing was heard yet."""
        self._stats = LegStats()
        self._last_heard: float | None = None

    def last_heard(self) -> float | None:
        """Loop time of the last that came from the target."""
        return self._last_heard

    def heard_position(self) -> int | None:
        """None: what the target has played is its own affair."""
        return None

    def clear(self) -> None:
        """Nothing of ours waits at the target."""
