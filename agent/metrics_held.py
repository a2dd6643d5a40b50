"""What a server holds at present, for ``/metrics``: a leak shows here before it shows elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ringtrue.telephony.rtp.ports import PortPool
from ringtrue.telephony.sip.endpoint import SipEndpoint


class HeldCollector(Collector):
    """Tasks, RTP ports and SIP's memory at scrape time."""

    def __init__(
        self, ports: Callable[[], PortPool | None], sip: Callable[[], SipEndpoint | None]
    ) -> None:
        """Both may be None while the server is not up, or without SIP."""
        self._ports = ports
        self._sip = sip

    def collect(self) -> Iterable[Metric]:
        """Gauges; the tasks are those of the loop that scrapes."""
        try:
            tasks = len(asyncio.all_tasks())
        except RuntimeError:  # no loop runs in this thread: there are no tasks to be seen
            tasks = 0
        yield GaugeMetricFamily("ringtrue_tasks", "Tasks on the event loop", value=tasks)
        pool = self._ports()
        held = 0 if pool is None else pool.in_use
        yield GaugeMetricFamily("ringtrue_rtp_ports", "RTP ports in use", value=held)
        sip = GaugeMetricFamily(
            "ringtrue_sip_held", "Calls, transactions and connections kept", labels=["kind"]
        )
        endpoint = self._sip()
        for kind, count in ({} if endpoint is None else endpoint.sizes()).items():
            sip.add_metric([kind], count)
        yield sip
