"""Calls to whoever shall take a caller, placed like all calls of this server."""

from __future__ import annotations

from ringtrue.agent.consultation import Reached
from ringtrue.agent.dial_outcomes import PlacedState
from ringtrue.agent.handing import Desk
from ringtrue.agent.outbound import Order, Outbound
from ringtrue.agent.referrals import Follower
from ringtrue.config.agent_schema import Agent
from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import Settings
from ringtrue.telephony.sip.handles import SipCall
from ringtrue.telephony.sip.moving import Referral

ASKED_BY = "transfer"
"""Who has such calls placed, in the audit log."""

WAIT_SECONDS = 5.0


class TransferLine:
    """A :class:`~ringtrue.agent.consultation.Line` that keeps to the dial plan, caps and audit."""

    def __init__(self, outbound: Outbound, follower: Follower) -> None:
        """Place calls with ``outbound``, and follow callers' phones with ``follower``."""
        self._outbound = outbound
        self._follower = follower

    def usable(self, tenant: str) -> bool:
        """Whether ``tenant`` may have calls placed."""
        return self._outbound.places(tenant)

    async def follow(
        self, tenant: str, to: str, call: SipCall, referral: Referral, *, within: float
    ) -> int:
        """As :meth:`Follower.follow`."""
        return await self._follower.follow(tenant, to, call, referral, within=within)

    async def call(self, agent: Agent, to: str, *, within: float, desk: Desk) -> Reached:
        """Call ``to`` for the tenant of ``agent``.

        Raises :class:`~ringtrue.agent.dial_plan.DialRefusedError`.
        """
        order = Order(
            tenant=agent.tenant,
            asked_by=ASKED_BY,
            to=to,
            agent=agent,
            ring_seconds=within,
            desk=desk,
        )
        placed = self._outbound.place(order)
        try:
            while placed.state in (PlacedState.DIALLING, PlacedState.RINGING):
                await self._outbound.wait(order.tenant, placed.id, placed.version, WAIT_SECONDS)
        except BaseException:
            self._outbound.cancel(order.tenant, placed.id)
            raise
        answered = placed.state is not PlacedState.FAILED
        return Reached(placed.call, answered, placed.sip_status)


def check_transfers(settings: Settings, agents: dict[str, Agent]) -> None:
    """Raise :class:`ConfigError` for agents whose transfers could never be made."""
    outbound = settings.outbound
    for agent in agents.values():
        asks = sorted(name for name, to in agent.transfers.items() if to.how != "blind")
        if asks and not (outbound.enabled and agent.tenant in outbound.tenants):
            raise ConfigError(
                f"agent {agent.name!r}: transfers.{asks[0]}.how needs calls to be placed; set "
                f"outbound.enabled and outbound.tenants.{agent.tenant}"
            )
