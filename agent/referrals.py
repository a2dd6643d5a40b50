"""Callers' phones send us on (REFER): to places of the agent's own list, by the dial plan."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol, runtime_checkable

import structlog

from ringtrue.agent.background import Background
from ringtrue.agent.dial_ledger import Charge, DialLedger
from ringtrue.agent.dial_plan import DialPlan, DialRefusal, DialRefusedError
from ringtrue.agent.dial_watch import watch_charge
from ringtrue.config.agent_transfers import TransferTarget
from ringtrue.config.dial_settings import DialTenant
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.errors import SipError, SipParseError
from ringtrue.telephony.sip.handles import SipCall
from ringtrue.telephony.sip.message import parse_target
from ringtrue.telephony.sip.moving import Referral
from ringtrue.telephony.sip.uri import SipUri

log = structlog.get_logger(__name__)

_SEPARATORS: Final = str.maketrans("", "", "-.()")


@runtime_checkable
class Follows(Protocol):
    """A :class:`~ringtrue.agent.consultation.Line` that can go where a far end sends us."""

    async def follow(
        self, tenant: str, to: str, call: SipCall, referral: Referral, *, within: float
    ) -> int:
        """Call ``to``; who answers has ``call`` from then on. Returns the final status.

        Raises a :class:`~ringtrue.streaming.errors.RingtrueError` where the rules don't allow it,
        or it can't be sent.
        """
        ...


def place_of(target: str, places: Mapping[str, TransferTarget]) -> str | None:
    """The entry of ``places`` that a far end means by the SIP URI ``target``; None: no one.

    A number is the same on every host, anything else has to agree in user, host and port.
    """
    meant = _address(target)
    for name, place in places.items():
        if meant is not None and _address(place.to) == meant:
            return name
    return None


def _address(text: str) -> tuple[str, ...] | None:
    scheme, _, rest = text.partition(":")
    if scheme.lower() not in ("sip", "sips"):
        number = (rest or text).translate(_SEPARATORS)
        return ("number", number) if number.startswith("+") else None
    try:
        uri = parse_target(text)
    except SipParseError:
        return None
    return _of_sip(uri)


def _of_sip(uri: SipUri) -> tuple[str, ...]:
    user = uri.user_text
    number = user.translate(_SEPARATORS)
    if number.startswith("+") and number[1:].isdigit():
        return ("number", number)
    return ("sip", user, uri.host.lower().rstrip("."), str(uri.port or ""))


class Follower:
    """Goes where it may, and ends what uses its tenant's day up."""

    def __init__(
        self, plan: DialPlan, ledger: DialLedger, endpoint: Callable[[], SipEndpoint | None]
    ) -> None:
        """``endpoint`` gives what to call with, None where SIP is off."""
        self._plan = plan
        self._ledger = ledger
        self._endpoint = endpoint
        self._background = Background("referral.task_failed")

    async def follow(
        self, tenant: str, to: str, call: SipCall, referral: Referral, *, within: float
    ) -> int:
        """As :meth:`Follows.follow`. Raises :class:`DialRefusedError`, and
        :class:`~ringtrue.telephony.sip.errors.SipError` where it can't be sent."""
        rules, route = self._plan.tenant(tenant), self._plan.route(tenant, to)
        endpoint = self._endpoint()
        if endpoint is None:
            raise DialRefusedError(DialRefusal.DISABLED, "this server has no SIP: sip.enabled")
        charge = self._ledger.admit(tenant, rules, route.rate, self._now())
        try:
            status = await endpoint.follow(
                call,
                referral,
                route.uri,
                from_uri=None if route.caller is None else f"<{route.caller}>",
                via=route.via,
                account=route.account,
                ring_limit=within,
            )
        except BaseException as error:
            if isinstance(error, SipError):
                referral.tell(503)
            await self._ledger.close(charge, self._now())
            raise
        if status >= 300:
            await self._ledger.close(charge, self._now())
        else:
            charge.answered_at = self._now()
            self._background.spawn(self._charged(call, charge, rules), "referral")
        return status

    async def close(self) -> None:
        """Stop watching; the charges are closed as they stand."""
        await self._background.close()

    async def _charged(self, call: SipCall, charge: Charge, rules: DialTenant) -> None:
        """Until the call is over, or has to be."""
        watch = self._background.spawn(
            watch_charge(self._ledger, call, charge, rules), "referral-charge"
        )
        try:
            await call.ended()
        finally:
            watch.cancel()
            await self._ledger.close(charge, self._now())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
