"""What a server holds is on its metrics page, and is gone when it is let go."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from ringtrue.agent.metrics import Metrics
from ringtrue.agent.metrics_held import HeldCollector
from ringtrue.telephony.rtp.ports import PortPool
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.handles import ServerInvite


def read(metrics: Metrics) -> dict[str, float]:
    names = ("ringtrue_tasks", "ringtrue_rtp_ports", "ringtrue_sip_held")
    return {
        ":".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        if family.name in names
        for sample in family.samples
    }


async def refuse(invite: ServerInvite) -> None:
    await invite.reject(603)


async def test_what_is_held_is_counted() -> None:
    pool, endpoint = PortPool("127.0.0.1"), SipEndpoint("127.0.0.1", 0, on_invite=refuse)
    metrics = Metrics()
    metrics.registry.register(HeldCollector(lambda: pool, lambda: endpoint))
    await endpoint.start()
    before = read(metrics)
    pairs = [pool.acquire(), pool.acquire()]
    waiting = asyncio.create_task(asyncio.sleep(60))
    during = read(metrics)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    for pair in pairs:
        pool.release(pair)
    await endpoint.close()
    assert before["ringtrue_rtp_ports"] == 0
    assert during["ringtrue_rtp_ports"] == 2
    assert during["ringtrue_tasks"] == before["ringtrue_tasks"] + 1
    assert during["ringtrue_sip_held:calls"] == 0
    assert read(metrics)["ringtrue_rtp_ports"] == 0


def test_without_a_loop_and_without_sip_there_is_nothing() -> None:
    metrics = Metrics()
    metrics.registry.register(HeldCollector(lambda: None, lambda: None))
    assert read(metrics) == {"ringtrue_tasks": 0, "ringtrue_rtp_ports": 0}
