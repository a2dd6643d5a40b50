"""Breaking the cycles of an ended call, so that its memory is free at once.

Processors of a Pipecat graph refer to their neighbours, to the worker that runs them, and by
their event handlers to whoever listens, all in both directions. Reference counting alone would
free nothing of a call, and the cyclic collector counts objects, not the native buffers they hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pipecat.utils.asyncio.task_manager import BaseTaskManager
from pipecat.utils.base_object import BaseObject

_PARTS: Final = frozenset((BaseObject, BaseTaskManager))
"""Looked for among a type's bases: an abstract class's own check walks all its subclasses for every
type it has not seen, which in a process's first call took a quarter of a second."""


def take_apart(roots: Iterable[object]) -> None:
    """Empty every Pipecat object among ``roots``, and all that they lead to by attributes.

    Attributes are followed from one such object to the next, also through lists, tuples, sets
    and dictionaries. Everything must have ended: an emptied object raises ``AttributeError`` for
    whatever is still asked of it. What several calls share may be referred to, but must not be a
    Pipecat object.
    """
    found: dict[int, object] = {}
    waiting = list(roots)
    while waiting:
        one = waiting.pop()
        if not _PARTS.isdisjoint(type(one).__mro__):
            if id(one) not in found:
                found[id(one)] = one
                waiting.extend(vars(one).values())
        elif isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list | tuple | set):
            waiting.extend(one)
    for one in found.values():
        vars(one).clear()
