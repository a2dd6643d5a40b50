"""What every command of the command line shares: its options, its settings, how it runs and ends.

Exit codes: 0 done, 1 refused (a check, a consent, an audit), 2 anything else that went wrong, 143
ended by SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Coroutine
from dataclasses import asdict, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uvloop
from pydantic import BaseModel

from ringtrue.agent.logs import configure_logs, log_loop_error
from ringtrue.config.layers import ENV_PREFIX
from ringtrue.config.settings import Settings, load_settings

DONE: Final = 0
REFUSED: Final = 1
FAILED: Final = 2
TERMINATED: Final = 128 + signal.SIGTERM

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML file over the shipped defaults.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
TenantOption = Annotated[str, typer.Option("--tenant", help="Whose voices.")]


def settings_of(path: Path | None, *, quiet: bool = False, workers: str | None = None) -> Settings:
    """The settings, with the log as they say; ``quiet``: without what is merely informative.

    ``workers`` is what a command's option says of ``server.workers``.
    """
    given = {} if workers is None else {f"{ENV_PREFIX}SERVER__WORKERS": workers}
    settings = load_settings(path, environ={**os.environ, **given})
    log = settings.logging
    if quiet and log.level == "INFO":
        log = log.model_copy(update={"level": "WARNING"})
    configure_logs(log)
    return settings


def run(main: Coroutine[Any, Any, int]) -> None:
    """Run ``main`` on uvloop and exit with what it returns.

    SIGTERM cancels it, so that what it began (processes above all) ends with it; commands that
    serve take the signal themselves.
    """

    async def guarded() -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(log_loop_error)
        working = loop.create_task(main, name="command")
        if threading.current_thread() is threading.main_thread():  # others can't take signals
            loop.add_signal_handler(signal.SIGTERM, working.cancel)
        try:
            return await working
        except asyncio.CancelledError:
            if (whole := asyncio.current_task()) is not None and whole.cancelling():
                raise  # by SIGINT
            return TERMINATED

    raise typer.Exit(uvloop.run(guarded()))


def server_url(settings: Settings) -> str | None:
    """Where a server with these settings is found from this machine; None where they don't say."""
    http = settings.http
    if not http.enabled or not http.port:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http.host, http.host)
    return f"http://[{host}]:{http.port}" if ":" in host else f"http://{host}:{http.port}"


def print_json(value: object) -> None:
    """Print ``value``: models, dataclasses and moments as JSON has them."""
    typer.echo(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
