"""The event loop on virtual time that the load test has, for tests.

Use it through the marker::

    @pytest.mark.virtual_time
    async def test_a_long_wait() -> None:
        await asyncio.sleep(3600)
"""

from __future__ import annotations

from ringtrue.loadtest.virtual_time import (
    DEADLOCK_SECONDS,
    START,
    VirtualDeadlockError,
    VirtualTimeLoop,
    run_virtual,
)

__all__ = ["DEADLOCK_SECONDS", "START", "VirtualDeadlockError", "VirtualTimeLoop", "run_virtual"]
