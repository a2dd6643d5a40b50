"""The phone for a target: who calls over SIP, over Twilio's frames, from a browser, or answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ringtrue.loadtest.answering import AnsweringPhone
from ringtrue.loadtest.browser import BrowserPhone
from ringtrue.loadtest.calling import Calling
from ringtrue.loadtest.phone import Phone
from ringtrue.loadtest.results import Transport
from ringtrue.loadtest.scenario.schema import Scenario
from ringtrue.loadtest.target import Target, TargetError
from ringtrue.loadtest.twilio import TwilioPhone


@dataclass(frozen=True, slots=True)
class Access:
    """What a target asks of who uses it. Secrets are not shown."""

    twilio_token: str = field(default="", repr=False)
    """The auth token that webhooks are signed with."""

    api_url: str = ""
    """Base of the target's web server, for calls that it is to place."""

    api_key: str = field(default="", repr=False)
    """With the scope ``calls:place``."""


@asynccontextmanager
async def open_phone(
    target: Target, scenario: Scenario, host: str, access: Access
) -> AsyncIterator[Calling]:
    """A phone of the scenario for ``target``, bound to ``host``.

    Raises :class:`TargetError` where the scenario and the target don't fit, OSError where
    nothing can be bound.
    """
    if target.transport.value not in scenario.transports:
        allowed = ", ".join(scenario.transports)
        raise TargetError(
            f"scenario {scenario.name} is not for {target.transport} targets; allowed: {allowed}"
        )
    agent = target.agent or scenario.agent
    drift = scenario.network.drift_ppm
    phone: Calling
    if scenario.direction == "outbound":
        phone = AnsweringPhone(
            host,
            agent=agent,
            url=access.api_url,
            api_key=access.api_key,
            codecs=scenario.caller.codecs,
            drift_ppm=drift,
        )
    elif target.transport is Transport.TWILIO:
        phone = TwilioPhone(access.twilio_token, agent=target.agent, drift_ppm=drift)
    elif target.transport is Transport.WEBRTC:
        phone = BrowserPhone(agent=agent, drift_ppm=drift)
    else:
        phone = Phone(host, codecs=scenario.caller.codecs, drift_ppm=drift)
    async with phone:
        yield phone
