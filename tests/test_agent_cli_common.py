"""How commands run and end."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

COMMAND = """
import asyncio
import signal
import sys
import typer
from ringtrue.agent.cli_common import run

# a shell has what it runs in the background ignore it
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main() -> int:
    print("begun", flush=True)
    try:
        await asyncio.sleep(30)
    finally:
        await asyncio.sleep(0.05)
        print("cleaned up", flush=True)
    return 0

try:
    run(main())
except typer.Exit as ended:
    sys.exit(ended.exit_code)
except KeyboardInterrupt:
    sys.exit("KeyboardInterrupt")
"""


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGTERM, 143, ""), (signal.SIGINT, 1, "KeyboardInterrupt")],
)
def test_a_signal_lets_a_command_end_what_it_began(
    number: signal.Signals, status: int, said: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert out == "cleaned up\n"
    assert process.returncode == status
    assert said in err
    assert bool(said) is bool(err)
