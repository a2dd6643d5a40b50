"""The callers of a benchmark as a process: a specification on stdin, the result on stdout.

``python -m ringtrue.loadtest.bench_caller < spec.json > result.json``
"""

from __future__ import annotations

import logging
import sys

import structlog
import uvloop
from pydantic import TypeAdapter, ValidationError

from ringtrue.loadtest.bench import BenchSpec, call_from_here


def main() -> int:
    """Read, run, write. Returns the exit status: 2 for a specification that can't be read."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        spec = TypeAdapter(BenchSpec).validate_json(sys.stdin.buffer.read())
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"])) or "specification"
        sys.stderr.write(f"{where}: {problem['msg']}\n")
        return 2
    result = uvloop.run(call_from_here(spec))
    sys.stdout.buffer.write(result.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
