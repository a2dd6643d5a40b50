"""What ``/metrics`` shows of SIP signalling: registrations, and who was let in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ringtrue.telephony.sip.auth_server import Verdict
from ringtrue.telephony.sip.endpoint import SipEndpoint

REGISTRATION: Final = "ringtrue_sip_registration"


class SipCollector(Collector):
    """Reads an endpoint's state at scrape time."""

    def __init__(
        self, endpoint: Callable[[], SipEndpoint | None], *, accounts: bool = True
    ) -> None:
        """``endpoint`` gives None while there is none; ``accounts``: where they stand, too."""
        self._endpoint = endpoint
        self._accounts = accounts

    def collect(self) -> Iterable[Metric]:
        """One sample for each account, and one for each verdict on a new call."""
        endpoint = self._endpoint()
        if endpoint is None:
            return
        states = GaugeMetricFamily(
            REGISTRATION, "Accounts with providers, by state", labels=["account", "state"]
        )
        for held in endpoint.registrations if self._accounts else ():
            states.add_metric([held.account.name, held.state], 1)
        yield states
        yield CounterMetricFamily(
            "ringtrue_sip_calls_dropped",
            "New calls of sources that began too many, not looked at",
            value=endpoint.dropped,
        )
        if endpoint.auth is None:
            return
        verdicts = CounterMetricFamily(
            "ringtrue_sip_callers", "New calls, by what became of them", labels=["verdict"]
        )
        for verdict in Verdict:
            verdicts.add_metric([verdict], endpoint.auth.counts[verdict])
        yield verdicts
