"""The ``ringtrue`` command, run as a process: the load test knows the product from outside."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ringtrue.streaming.errors import RingtrueError

COMMAND: Final = (sys.executable, "-m", "ringtrue.agent.cli")
TIMEOUT: Final = 300.0


class ToolError(RingtrueError):
    """The command failed; the text is its last line."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Whose settings the command is to use."""

    config: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Over this process's own; it may hold secrets."""

    def environ(self) -> dict[str, str]:
        """What the command's environment is."""
        return {**os.environ, **self.environment}

    async def run(self, *arguments: str, ok: Sequence[int] = (0,)) -> str:
        """Run ``ringtrue ARGUMENTS`` and return what it printed.

        Raises :class:`ToolError` for an exit status that isn't ``ok``, or after 5 minutes.
        """
        options = [] if self.config is None else ["--config", str(self.config)]
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *arguments, *options,
            stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=self.environ(),
        )  # fmt: skip
        try:
            async with asyncio.timeout(TIMEOUT):
                out, err = await process.communicate()
        except TimeoutError:
            raise ToolError(f"{arguments[0]} took over {TIMEOUT:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode not in ok:
            last = err.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
            raise ToolError(f"ringtrue {arguments[0]} ended with {process.returncode}: {last[0]}")
        return out.decode(errors="replace")


async def synthesize(
    installation: Installation, texts: Sequence[str], voices: Sequence[str], files: Sequence[Path]
) -> None:
    """Have each of ``texts`` said by each of ``voices``; ``files`` in that order, made once.

    Raises :class:`ToolError`.
    """
    wanted = [(text, voice) for text in texts for voice in voices]
    for (text, voice), path in zip(wanted, files, strict=True):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # A text that begins with a dash is no option.
            await installation.run(
                "say", "--voice", voice, "--rate", "8000", "--out", str(path), "--", text
            )
