"""Whether a tenant may call somewhere, as whom, and by which way: decided here and nowhere else.

What is allowed comes from the settings alone. Neither what a request says about itself nor
anything said in a call widens it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ringtrue.agent.dial_numbers import Number, NumberError, Tier, is_emergency, read_number
from ringtrue.config.dial_settings import DialTenant, OutboundSettings, TrunkSettings
from ringtrue.streaming.errors import RingtrueError
from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.message import parse_target
from ringtrue.telephony.sip.uri import SipUri, host_port

EXTENSION_DIGITS: Final = 6
"""Longest user of digits that counts as an extension; a longer one may be any number."""

MAX_TARGET: Final = 256


class DialRefusal(StrEnum):
    """Why a call is not placed."""

    DISABLED = "disabled"
    """This server places no calls."""

    TENANT = "tenant"
    """This tenant places no calls."""

    TARGET = "target"
    """Not something that can be called."""

    NOT_ALLOWED = "not_allowed"
    """Not on the tenant's list of countries, numbers and URIs."""

    PREMIUM = "premium"
    SATELLITE = "satellite"
    SPECIAL = "special"
    EMERGENCY = "emergency"
    UNCLASSIFIED = "unclassified"
    """A number of which nobody knows what a call to it costs."""

    CALLER = "caller"
    """The tenant may not call as this one."""

    NO_ROUTE = "no_route"
    """No trunk takes the number."""

    NO_RATE = "no_rate"
    """The tenant's spend is capped, and nothing says what the call costs."""

    CONCURRENT = "concurrent"
    ATTEMPTS = "attempts"
    MINUTES = "minutes"
    SPEND = "spend"
    FULL = "full"
    """The server has no place for another call, or is stopping."""


class DialRefusedError(RingtrueError):
    """A call is not placed; :attr:`reason` says why."""

    def __init__(self, reason: DialRefusal, detail: str, *, retry_after: float | None = None):
        """``detail`` names the rule, not the number; ``retry_after`` in seconds, where it helps."""
        super().__init__(detail)
        self.reason = reason
        self.retry_after = retry_after


_TIERS: Final = {
    Tier.PREMIUM: (DialRefusal.PREMIUM, "premium-rate numbers are never called"),
    Tier.SATELLITE: (DialRefusal.SATELLITE, "satellite numbers are never called"),
    Tier.EMERGENCY: (DialRefusal.EMERGENCY, "emergency numbers are never called"),
    Tier.UNCLASSIFIED: (
        DialRefusal.UNCLASSIFIED,
        "the number is valid in no numbering plan; such numbers are never called",
    ),
}


@dataclass(frozen=True, slots=True)
class Route:
    """How an allowed call is placed."""

    uri: str = field(repr=False)
    """The SIP URI to invite."""

    caller: str | None = field(repr=False)
    """The SIP URI that calls; None: this server's own Contact."""

    via: SipUri | None
    """The trunk's server; None: where the URI says, or ``account``."""

    account: str | None
    """The account it is placed on."""

    trunk: str | None
    tier: Tier | None
    """None for a SIP URI that is no number."""

    rate: float | None
    """Price of a minute; None where nothing says. A call to a URI, over no trunk, costs nothing."""

    provider: str = "sip"
    """``sip``, or the carrier whose REST interface places it: then ``uri`` and ``caller`` are
    numbers with ``+``."""


class DialPlan:
    """The settings' rules."""

    def __init__(self, settings: OutboundSettings) -> None:
        """Nothing is checked beyond what the settings check themselves."""
        self._settings = settings

    def tenant(self, name: str) -> DialTenant:
        """What ``name`` may do. Raises :class:`DialRefusedError`."""
        if not self._settings.enabled:
            raise DialRefusedError(
                DialRefusal.DISABLED, "this server places no calls: outbound.enabled is false"
            )
        tenant = self._settings.tenants.get(name)
        if tenant is None:
            raise DialRefusedError(
                DialRefusal.TENANT, "this tenant places no calls: it is not in outbound.tenants"
            )
        return tenant

    def route(self, tenant: str, target: str, caller: str | None = None) -> Route:
        """How ``tenant`` calls ``target``: ``tel:+…``, ``+…`` or ``sip:…``.

        ``caller`` is a number or URI of the tenant's list; None takes its first. Raises
        :class:`DialRefusedError`.
        """
        rules = self.tenant(tenant)
        if len(target) > MAX_TARGET or not target.isascii() or not target.isprintable():
            raise _no_target(f"at most {MAX_TARGET} printable ASCII characters")
        scheme = target.partition(":")[0].lower()
        if scheme in ("sip", "sips"):
            return self._sip(rules, target, caller)
        number = target[4:] if scheme == "tel" else target
        return self._number(rules, number, caller)

    # -- numbers -----------------------------------------------------------------------------

    def _number(self, rules: DialTenant, text: str, caller: str | None) -> Route:
        if is_emergency(text):
            raise DialRefusedError(*_TIERS[Tier.EMERGENCY])
        number = _read(text)
        _permit(rules, number)
        found = self._trunk(number)
        if found is None:
            raise DialRefusedError(DialRefusal.NO_ROUTE, "no trunk takes this number")
        name, trunk = found
        if trunk.provider == "twilio":
            return self._over_twilio(rules, number, caller, name, trunk)
        assert trunk.uri is not None  # the settings see to it
        gateway = parse_target(trunk.uri)
        domain = trunk.domain or host_port(gateway.host, None)
        dialled = number.e164 if trunk.plus else number.e164[1:]
        return Route(
            uri=f"sip:{dialled}@{domain};user=phone",
            caller=_caller(rules, caller, domain, trunk.caller),
            via=None if trunk.account is not None else gateway,
            account=trunk.account,
            trunk=name,
            tier=number.tier,
            rate=_longest(number.e164, trunk.rates),
        )

    def _over_twilio(
        self,
        rules: DialTenant,
        number: Number,
        caller: str | None,
        name: str,
        trunk: TrunkSettings,
    ) -> Route:
        chosen = _chosen(rules, caller, trunk.caller)
        if chosen is None or not chosen.startswith("+"):
            raise DialRefusedError(
                DialRefusal.CALLER,
                "calls over this trunk are made as a number with +: name one of the tenant's "
                "callers that is one",
            )
        return Route(
            uri=number.e164,
            caller=_plain(chosen),
            via=None,
            account=None,
            trunk=name,
            tier=number.tier,
            rate=_longest(number.e164, trunk.rates),
            provider=trunk.provider,
        )

    def _trunk(self, number: Number) -> tuple[str, TrunkSettings] | None:
        fits = {
            name: max(map(len, prefixes))
            for name, trunk in self._settings.trunks.items()
            if (prefixes := [p for p in trunk.prefixes if number.e164.startswith(p)])
        }
        if not fits:
            return None
        name = max(fits, key=lambda key: fits[key])
        return name, self._settings.trunks[name]

    # -- URIs --------------------------------------------------------------------------------

    def _sip(self, rules: DialTenant, target: str, caller: str | None) -> Route:
        try:
            uri = parse_target(target)
        except SipParseError as error:
            raise _no_target(error.reason) from None
        odd = [name for name, value in uri.params if not _harmless(name.lower(), value)]
        if odd or uri.headers is not None or uri.password is not None:
            raise _no_target(
                "a SIP URI may have the parameters transport and user=phone, no password, and no "
                "headers"
            )
        user = uri.user_text
        if not user or any(c in user for c in ";,&=?/@ ") or not user.isprintable():
            raise _no_target(
                "a SIP URI has a user part, which is a name or a number without parameters"
            )
        exact = _allowed(rules.uris, uri)
        if exact is None:
            raise DialRefusedError(
                DialRefusal.NOT_ALLOWED, "this SIP URI is not in the tenant's uris"
            )
        tier = _tier_of(rules, user, uri, exact=exact)
        where = host_port(uri.host, None)
        return Route(
            uri=str(uri),
            caller=_caller(rules, caller, where, None),
            via=None,
            account=None,
            trunk=None,
            tier=tier,
            rate=0.0,
        )


def _read(text: str) -> Number:
    try:
        return read_number(text)
    except NumberError as error:
        raise _no_target(str(error)) from None


def _permit(rules: DialTenant, number: Number) -> None:
    refused = _TIERS.get(number.tier)
    if refused is not None:
        raise DialRefusedError(*refused)
    if number.tier not in rules.tiers:
        raise DialRefusedError(
            DialRefusal.SPECIAL if number.tier is Tier.SPECIAL else DialRefusal.NOT_ALLOWED,
            f"{number.tier} numbers are not in the tenant's tiers: {', '.join(rules.tiers)}",
        )
    listed = any(number.e164.startswith(prefix) for prefix in rules.numbers)
    if not listed and number.country not in rules.countries:
        raise DialRefusedError(
            DialRefusal.NOT_ALLOWED, "this number is in none of the tenant's countries and numbers"
        )


def _tier_of(rules: DialTenant, user: str, uri: SipUri, *, exact: bool) -> Tier | None:
    """The tier of a URI that may reach a telephone; None of one that names somebody."""
    bare = "".join(c for c in user if c not in "-.()")
    if bare.startswith("+") or uri.param("user") is not None:
        number = _read(user)
        _permit(rules, number)
        return number.tier
    if exact or not (bare.isdigit() or any(c in bare for c in "*#")):
        return None
    if is_emergency(bare):
        raise DialRefusedError(*_TIERS[Tier.EMERGENCY])
    if len(bare) > EXTENSION_DIGITS or not bare.isdigit() or bare.startswith("0"):
        raise DialRefusedError(
            DialRefusal.UNCLASSIFIED,
            f"digits that are no extension (1 to {EXTENSION_DIGITS}, not beginning with 0) have to "
            "be a number with +, or to be listed in the tenant's uris one by one",
        )
    return None


def _harmless(name: str, value: str | None) -> bool:
    return name == "transport" or (name == "user" and value == "phone")


def _allowed(patterns: Iterable[str], uri: SipUri) -> bool | None:
    """Whether a pattern names ``uri`` itself (True), allows it (False), or none does (None)."""
    wanted = uri.host.lower().rstrip(".")
    found: bool | None = None
    for pattern in patterns:
        user, _, where = pattern.partition(":")[2].partition("@")
        host, port = _split_port(where)
        if host.lower().rstrip(".") != wanted or port not in ("*", str(uri.port or "")):
            continue
        if user == uri.user_text:
            return True
        if user == "*":
            found = False
    return found


def _split_port(where: str) -> tuple[str, str]:
    if where.startswith("["):
        host, _, port = where[1:].partition("]")
        return host, port.removeprefix(":")
    host, _, port = where.partition(":")
    return host, port


def _caller(rules: DialTenant, wanted: str | None, domain: str, usual: str | None) -> str | None:
    """Who calls, as a SIP URI."""
    chosen = _chosen(rules, wanted, usual)
    if chosen is None or chosen.lower().startswith("sip"):
        return chosen
    return f"sip:{chosen}@{domain};user=phone"


def _chosen(rules: DialTenant, wanted: str | None, usual: str | None) -> str | None:
    """Who calls: of the tenant's own, else the trunk's."""
    if wanted is None:
        return next(iter(rules.callers), usual)
    listed = {_plain(caller): caller for caller in rules.callers}
    chosen = listed.get(_plain(wanted))
    if chosen is None:
        raise DialRefusedError(
            DialRefusal.CALLER, "the tenant may not call as this one: it is not in its callers"
        )
    return chosen


def _plain(caller: str) -> str:
    text = caller.removeprefix("tel:")
    return "".join(c for c in text if c not in "-.() ") if text.startswith("+") else text


def _longest(number: str, rates: Mapping[str, float]) -> float | None:
    fits = [prefix for prefix in rates if number.startswith(prefix)]
    return rates[max(fits, key=len)] if fits else None


def _no_target(allowed: str) -> DialRefusedError:
    return DialRefusedError(DialRefusal.TARGET, f"can't be called; allowed: {allowed}")
