"""Checks of placed calls: who may call, over what, and whether the day's sums can be kept."""

from __future__ import annotations

import asyncio
from typing import Final

from ringtrue.agent.dial_ledger import LedgerFileError
from ringtrue.agent.findings import Check, CheckFunction, State
from ringtrue.agent.outbound_setup import check_rules, dial_ledger
from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import Settings

NAME: Final = "outbound calls"


def _outbound_calls(settings: Settings) -> Check:
    outbound = settings.outbound
    if not outbound.enabled:
        return Check(NAME, State.OK, "off; outbound.enabled and outbound.tenants allow them")
    try:
        check_rules(settings)
        asyncio.run(dial_ledger(settings).load())
    except (ConfigError, LedgerFileError) as error:
        return Check(
            NAME, State.MISSING, str(error), "the server does not start", "correct what is named"
        )
    found = f"{len(outbound.tenants)} tenants, {len(outbound.trunks)} trunks"
    stranded = [
        name
        for name, rules in outbound.tenants.items()
        if (rules.countries or rules.numbers) and not outbound.trunks
    ]
    if stranded:
        return Check(
            NAME,
            State.DEGRADED,
            f"{found}; no trunk for the numbers of {', '.join(stranded)}",
            "calls to numbers are refused (no_route)",
            "add outbound.trunks",
        )
    return Check(NAME, State.OK, found)


OUTBOUND_CHECKS: Final[tuple[CheckFunction, ...]] = (_outbound_calls,)
