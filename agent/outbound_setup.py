"""What places calls in a server: rules, ledger, phone and audit, put together."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from ringtrue.agent.audit.entries import Event, Kind
from ringtrue.agent.audit.log import Recorder
from ringtrue.agent.calls import Calls
from ringtrue.agent.dial_ledger import DialLedger
from ringtrue.agent.dial_ledger_shared import SharedDialLedger, fold
from ringtrue.agent.dial_outcomes import PlacedState
from ringtrue.agent.dial_plan import DialPlan, DialRefusedError
from ringtrue.agent.metrics import Metrics
from ringtrue.agent.outbound import OnPlaced, Order, Outbound, PlacedCall
from ringtrue.agent.outbound_lines import Phone
from ringtrue.agent.twilio_setup import check_twilio_trunks, twilio_trunks
from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import Settings
from ringtrue.telephony.twilio.placing import TwilioDialler
from ringtrue.voices.library_config import library_dir

USAGE: Final = "outbound.json"


def utc_now() -> datetime:
    """The time of day."""
    return datetime.now(UTC)


def dial_ledger(settings: Settings, slot: int = 0, count: int = 1) -> DialLedger:
    """The ledger that the settings name; kept in memory where no calls are placed.

    ``slot`` and ``count`` are the worker's and how many there are. Blocking, for start-up. Raises
    :class:`~ringtrue.agent.dial_ledger.LedgerFileError`.
    """
    if not settings.outbound.enabled:
        return DialLedger(None, clock=utc_now)
    path = settings.outbound.usage_file or library_dir(settings.voices) / USAGE
    if count > 1:
        return SharedDialLedger(path, slot, count, clock=utc_now)
    fold(path, 1, utc_now().date().isoformat())
    return DialLedger(path, clock=utc_now)


def outbound_of(
    settings: Settings,
    ledger: DialLedger,
    calls: Calls,
    phone: Callable[[], Phone | None],
    audit: Recorder,
    metrics: Metrics | None = None,
    twilio: Callable[[], TwilioDialler | None] = lambda: None,
    mark: str = "",
) -> Outbound:
    """What places calls by the settings' rules; refusals and outcomes are audited.

    ``mark`` is the worker's.

    Raises :class:`ConfigError` for rules that could never place a call.
    """
    outbound = settings.outbound
    check_rules(settings)
    return Outbound(
        DialPlan(outbound),
        ledger,
        calls,
        phone,
        clock=utc_now,
        ring_seconds=outbound.ring_seconds,
        on_placed=recording(audit, metrics),
        twilio=twilio,
        mark=mark,
    )


def check_rules(settings: Settings) -> None:
    """Raise :class:`ConfigError` for rules that could never place a call."""
    if not settings.outbound.enabled:
        return
    check_twilio_trunks(settings)
    carried = settings.sip.enabled or bool(twilio_trunks(settings))
    if not carried or not settings.http.enabled or settings.voices.enabled is False:
        raise ConfigError(
            "outbound.enabled is true, but calls need sip.enabled (or a trunk of Twilio's), "
            "http.enabled and voices.enabled (whose database keeps the API keys)"
        )
    accounts = settings.sip.registrations
    for name, trunk in settings.outbound.trunks.items():
        if trunk.account is not None and trunk.account not in accounts:
            known = ", ".join(accounts) or "none"
            raise ConfigError(
                f"outbound.trunks.{name}.account is {trunk.account!r}; sip.registrations: {known}"
            )


def recording(audit: Recorder, metrics: Metrics | None = None) -> OnPlaced:
    """Write down who had whom called (masked), what was refused, and what nobody answered.

    Refusals are counted, too.

    Answered calls leave their own trail.
    """

    def record(placed: PlacedCall, order: Order, refusal: DialRefusedError | None) -> None:
        detail: dict[str, str | int | bool] = {"to": placed.to, "placed": placed.id}
        if refusal is not None:
            kind = Kind.CALL_REFUSED
            detail["reason"] = refusal.reason.value
            if metrics is not None:
                metrics.call_refused(f"outbound_{refusal.reason.value}")
        elif placed.state is PlacedState.FAILED:
            kind = Kind.CALL_UNANSWERED
            detail["outcome"] = str(placed.outcome)
            detail["status"] = placed.sip_status or 0
        elif placed.over:
            return
        elif placed.state is PlacedState.ANSWERED:
            kind = Kind.CALL_ANSWERED
        else:
            kind = Kind.CALL_PLACED
        audit.record(
            Event(
                kind,
                tenant=order.tenant,
                agent=order.agent.name,
                call=placed.call,
                requester=order.asked_by,
                detail=detail,
            )
        )

    return record
