"""Settings of calls that this server places: over which trunks, for whom, to where, how much.

Nothing is allowed unless it is written here; nothing said in a call changes it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from ringtrue.config.section import Seconds, Section, split_list
from ringtrue.config.sip_settings import AccountName

TRUNK_URI: Final = re.compile(r"sips?:[^\s@?;]+(?:;transport=(?:udp|tcp|tls))?")
SIP_PATTERN: Final = re.compile(r"sips?:[^\s@?;]+@[^\s@?;]+")
_PREFIX: Final = re.compile(r"\+[0-9]{0,15}")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
CALLER: Final = re.compile(r"\+[0-9]{4,15}|sips?:[^\s@?;\"<>]+@[^\s@?;\"<>]+")


def _prefix(value: str) -> str:
    if _PREFIX.fullmatch(value) is None:
        raise ValueError(f"{value!r} is not the beginning of a number, like +44; + is every number")
    return value


def _country(value: str) -> str:
    if _COUNTRY.fullmatch(value) is None:
        raise ValueError(f"{value!r} is no country code of two capital letters, like US")
    return value


Prefix = Annotated[str, AfterValidator(_prefix)]
"""The beginning of E.164 numbers: ``+44``; ``+`` is every number."""

Country = Annotated[str, AfterValidator(_country)]
"""ISO 3166-1 alpha-2."""

Money = Annotated[float, Field(ge=0, le=1_000_000)]
"""In whatever currency the rates are."""

Caller = Annotated[str, Field(max_length=120)]


def _caller(value: str | None) -> str | None:
    if value is not None and CALLER.fullmatch(value) is None:
        raise ValueError("not a number like +15551234567, nor a URI like sip:desk@example.com")
    return value


class TrunkSettings(Section):
    """A carrier or gateway that takes calls to numbers."""

    provider: Literal["sip", "twilio"] = "sip"
    """``twilio``: calls are placed over its REST interface, with the account of ``twilio``."""

    uri: str | None = None
    """Where calls are sent: ``sip:HOST[:PORT][;transport=tcp]``, or ``sips:``; SIP only."""

    account: AccountName | None = None
    """An account of ``sip.registrations``: its server takes the calls, its password answers
    challenges. None: calls go to ``uri``."""

    domain: str | None = None
    """What the dialled and the calling URI name as host; None: the host of ``uri``."""

    prefixes: Annotated[tuple[Prefix, ...], BeforeValidator(split_list), Field(min_length=1)] = (
        "+",
    )
    """Numbers it takes. The trunk with the longest fitting prefix is used."""

    plus: bool = True
    """Dial ``+15551234567``; False: ``15551234567``."""

    caller: Caller | None = None
    """Who calls where neither the request nor the tenant says."""

    rates: dict[Prefix, Money] = {}
    """Price of a minute by prefix; the longest fitting one counts."""

    _caller = field_validator("caller")(_caller)

    @field_validator("uri")
    @classmethod
    def _uri(cls, value: str | None) -> str | None:
        if value is not None and TRUNK_URI.fullmatch(value) is None:
            raise ValueError("not like sip:carrier.example.com:5060;transport=tcp")
        return value

    @model_validator(mode="after")
    def _of_its_kind(self) -> TrunkSettings:
        if self.provider == "sip":
            if self.uri is None:
                raise ValueError("uri is missing: where the trunk's calls are sent")
        elif self.uri is not None or self.account is not None or self.domain is not None:
            raise ValueError(f"uri, account and domain are of SIP trunks, not {self.provider}'s")
        return self


class DialTenant(Section):
    """Where one tenant may call, and how much."""

    countries: Annotated[tuple[Country, ...], BeforeValidator(split_list)] = ()
    """Countries whose numbers it may call."""

    numbers: Annotated[tuple[Prefix, ...], BeforeValidator(split_list)] = ()
    """Beginnings of numbers it may call, whatever their country."""

    uris: Annotated[tuple[str, ...], BeforeValidator(split_list)] = ()
    """SIP URIs it may call; ``*`` stands for any user, or any port."""

    tiers: Annotated[
        tuple[Literal["ordinary", "toll_free", "special"], ...],
        BeforeValidator(split_list),
        Field(min_length=1),
    ] = ("ordinary", "toll_free")
    """Kinds of numbers; premium, satellite, emergency and unknown ones can't be allowed."""

    callers: Annotated[tuple[Caller, ...], BeforeValidator(split_list)] = ()
    """Numbers and URIs it may call from; the first where a request names none."""

    max_concurrent: Annotated[int, Field(ge=1, le=10_000)] = 2
    max_attempts_per_minute: Annotated[int, Field(ge=1, le=100_000)] = 10
    max_minutes_per_day: Annotated[float, Field(ge=0, le=1_000_000)] = 60
    """Minutes answered, over all its calls, by the UTC day."""

    max_spend_per_day: Money | None = None
    """Where it is set, numbers without a rate are not called. None: minutes alone count."""

    max_call_seconds: Seconds = 900

    @field_validator("uris")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            host = pattern.partition("@")[2].partition(":")[0]
            if SIP_PATTERN.fullmatch(pattern) is None or "*" in host:
                raise ValueError(
                    f"{pattern!r} is not like sip:alice@pbx.example.com or sip:*@10.0.0.5:*; the "
                    "host has to be named"
                )
        return value

    @field_validator("callers")
    @classmethod
    def _callers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for caller in value:
            _caller(caller)
        return value


class OutboundSettings(Section):
    """Calls placed by ``ringtrue call`` and ``POST /v1/calls``."""

    enabled: bool = False
    ring_seconds: Annotated[float, Field(ge=5, le=300)] = 45
    """How long a call may ring, where its request doesn't say."""

    trunks: dict[
        Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")], TrunkSettings
    ] = {}
    tenants: dict[str, DialTenant] = {}
    """Who may call; ``default`` is the tenant of agents and keys that name none."""

    usage_file: Path | None = None
    """Where the day's minutes and spend are kept; None: ``outbound.json`` beside the voices."""

    @model_validator(mode="after")
    def _somebody(self) -> OutboundSettings:
        if self.enabled and not self.tenants:
            raise ValueError("enabled, but tenants is empty: nobody could call")
        return self
