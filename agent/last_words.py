"""How a call ends from either side."""

from __future__ import annotations

import asyncio
from typing import Final

from ringtrue.streaming.graph import CallGraph
from ringtrue.streaming.ports import EndReason

LAST_WORDS_SECONDS: Final = 35.0
"""How long a call that the agent ends may go on with what was already said: more than playout
is given to drain."""


async def last_words(graph: CallGraph, far_end: asyncio.Task[EndReason]) -> None:
    """Let what was queued be heard, unless the caller hangs up or the graph is stuck."""
    finishing = asyncio.create_task(graph.finish(), name="call-last-words")
    try:
        await asyncio.wait(
            [finishing, far_end],
            timeout=LAST_WORDS_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
    finally:
        finishing.cancel()
        await asyncio.gather(finishing, return_exceptions=True)


def settle(over: asyncio.Future[EndReason], task: asyncio.Task[EndReason]) -> None:
    """The far end ended the call (or waiting for that failed)."""
    if not task.cancelled():
        end_with(over, EndReason.ERROR if task.exception() is not None else task.result())


def end_with(over: asyncio.Future[EndReason], reason: EndReason) -> None:
    """End the call for ``reason``, unless it has ended already."""
    if not over.done():
        over.set_result(reason)
