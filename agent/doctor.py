"""``ringtrue doctor``: what is present, what is missing, what that costs, and what helps.

Nothing here starts a server or calls out: ports are bound and released, models are opened and
dropped. Only a library of voices, and the Redis it names, are opened as a server opens them, and
a server that runs here is asked where it is registered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ringtrue.agent.doctor_engines import ENGINE_CHECKS, REINSTALL
from ringtrue.agent.doctor_machine import MACHINE_CHECKS
from ringtrue.agent.doctor_media import MEDIA_CHECKS
from ringtrue.agent.doctor_outbound import OUTBOUND_CHECKS
from ringtrue.agent.doctor_sip import SIP_CHECKS
from ringtrue.agent.doctor_voices import VOICE_CHECKS
from ringtrue.agent.findings import Check, CheckFunction, State
from ringtrue.config.settings import Settings

CHECKS: Final[tuple[CheckFunction, ...]] = (
    *ENGINE_CHECKS,
    *VOICE_CHECKS,
    *SIP_CHECKS,
    *MEDIA_CHECKS,
    *OUTBOUND_CHECKS,
    *MACHINE_CHECKS,
)


def run_checks(settings: Settings, checks: Sequence[CheckFunction] = CHECKS) -> list[Check]:
    """Look at everything ``settings`` ask for; never raises. Takes about a second."""
    found: list[Check] = []
    for check in checks:
        name = check.__name__.strip("_").replace("_", " ")
        try:
            result = check(settings)
        except Exception as error:  # a check that fails is itself a finding
            reason = f"{type(error).__name__}: {error}"
            result = Check(name, State.MISSING, reason, "unknown: the check failed", REINSTALL)
        found += result if isinstance(result, list) else [result]
    return found


def worst(checks: Iterable[Check]) -> State:
    """The worst state among ``checks``."""
    order = list(State)
    return max((check.state for check in checks), key=order.index, default=State.OK)


def to_json(checks: Iterable[Check]) -> str:
    """The findings as a JSON list of objects with the fields of :class:`Check`."""
    return json.dumps([asdict(check) for check in checks], indent=2)


def show(checks: Iterable[Check], console: Console) -> None:
    """Print the findings as a table."""
    colours = {State.OK: "green", State.DEGRADED: "yellow", State.MISSING: "red"}
    table = Table(box=None, pad_edge=False)
    for heading in ("", "check", "found", "what it costs", "what helps"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        state = Text(check.state.value, style=colours[check.state])
        # Text, not markup: details quote paths and messages that may hold brackets.
        rest = (check.name, check.detail, check.cost, check.remedy)
        table.add_row(state, *map(Text, rest))
    console.print(table)


def report(settings: Settings, *, as_json: bool = False) -> int:
    """Print the findings to stdout; the exit status is 1 if anything is missing, else 0."""
    found = run_checks(settings)
    console = Console()
    if as_json:
        console.out(to_json(found), highlight=False)
    else:
        show(found, console)
    return int(worst(found) is State.MISSING)
