"""A worker's process: ``python -m ringtrue.agent.workers.process CHANNEL DOOR``.

The arguments are descriptors of two sockets its supervisor made; the plan comes by standard input,
pickled, from nobody else. Little is imported here: the rest is loaded at a low priority.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import signal
import socket
import sys
from threading import Thread
from types import ModuleType
from typing import Final

LOADING_NICE: Final = 5
"""How much further back a loading worker stands than those that have calls (a third of their
share of a busy processor): they are sent to work at once, and it is still done in seconds."""


STARTERS: Final = ("numpy", "onnxruntime")
"""What starts threads when it is imported."""


def load(name: str, nice: int = LOADING_NICE) -> ModuleType:
    """Import ``name`` at a lower priority. Raises what importing it raises.

    Linux gives each thread a priority of its own, and lets no unprivileged one have it back: so
    the import runs in a thread that ends with it. Threads that libraries start meanwhile would
    inherit its priority for good; those that do are loaded before.
    """
    for starter in STARTERS:
        importlib.import_module(starter)
    loaded: list[ModuleType | BaseException] = []

    def work() -> None:
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + nice)
        try:
            loaded.append(importlib.import_module(name))
        except BaseException as error:
            loaded.append(error)

    thread = Thread(target=work, name="loading")
    thread.start()
    thread.join()
    (result,) = loaded
    if isinstance(result, BaseException):
        raise result
    return result


def main() -> None:
    """Entry point of the process."""
    # A terminal's interrupt reaches every process of its group: the supervisor acts on it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel, door = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    working = load("ringtrue.agent.workers.working")
    try:
        plan = pickle.load(sys.stdin.buffer)
    except EOFError:  # a spare one whose supervisor is gone
        sys.exit(working.LOST)
    sys.exit(working.run(plan, channel, door))


if __name__ == "__main__":
    main()
