"""A crew of callers as a process: its orders on stdin, one event a line on stdout.

``python -m ringtrue.loadtest.worker < crew.json``. The end of its input tells it to begin no more
calls; SIGTERM to stop at once.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from typing import Annotated, Any, Final, Literal

import structlog
import uvloop
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ringtrue.loadtest.crew import CallDone, Crew, CrewEnd, CrewEvent, CrewSpec, CrewState
from ringtrue.streaming.errors import RingtrueError

MAX_LINE: Final = 8 << 20
"""Bytes of one event; a call's record has some 10 kB."""


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DoneLine(_Line):
    """A call is over."""

    kind: Literal["done"] = "done"
    event: CallDone


class StateLine(_Line):
    """How many calls are up."""

    kind: Literal["state"] = "state"
    event: CrewState


class EndLine(_Line):
    """The crew has finished."""

    kind: Literal["end"] = "end"
    event: CrewEnd


SPEC: Final[TypeAdapter[CrewSpec]] = TypeAdapter(CrewSpec)
LINE: Final[TypeAdapter[DoneLine | StateLine | EndLine]] = TypeAdapter(
    Annotated[DoneLine | StateLine | EndLine, Field(discriminator="kind")]
)


def line_of(event: CrewEvent) -> bytes:
    """An event as a line."""
    line: DoneLine | StateLine | EndLine
    match event:
        case CallDone():
            line = DoneLine(event=event)
        case CrewState():
            line = StateLine(event=event)
        case CrewEnd():
            line = EndLine(event=event)
    return LINE.dump_json(line) + b"\n"


def read_line(line: bytes) -> CrewEvent:
    """The event of a line. Raises ``ValueError`` (pydantic's) for anything else."""
    return LINE.validate_json(line).event


async def _main(spec: CrewSpec) -> None:
    out = sys.stdout.buffer

    def emit(event: CrewEvent) -> None:
        out.write(line_of(event))
        out.flush()

    crew = Crew(spec, emit)
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, _watch_input, crew, loop)
    gc.freeze()  # a collection of all that is loaded would make every caller late
    try:
        await crew.run()
    finally:
        loop.remove_reader(sys.stdin)


def _watch_input(crew: Crew, loop: asyncio.AbstractEventLoop) -> None:
    if not os.read(sys.stdin.fileno(), 1):
        loop.remove_reader(sys.stdin)
        crew.stop()


def main() -> int:
    """Read, run. Returns the exit status: 2 for orders that can't be followed."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        spec = SPEC.validate_json(sys.stdin.buffer.readline())
        uvloop.run(_main(spec))
    except ValidationError as error:
        problem: Any = error.errors(include_url=False)[0]
        sys.stderr.write(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}\n")
        return 2
    except (RingtrueError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
