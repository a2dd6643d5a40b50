"""What kind of number a telephone number is, by the numbering plans of libphonenumber."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

import phonenumbers
from phonenumbers import PhoneNumberType, shortnumberinfo

from ringtrue.streaming.errors import RingtrueError

_SEPARATORS: Final = re.compile(r"[\-.() ]")
_E164: Final = re.compile(r"\+[1-9][0-9]{3,14}\Z")
_SHORT: Final = re.compile(r"[0-9*#]{1,6}\Z")

_SATELLITE: Final = frozenset((870, 881, 882, 883))
"""Inmarsat, and the networks of ITU-T E.164's shared codes: priced like satellite calls."""

_PREMIUM: Final = frozenset((979,))
_UNKNOWN: Final = frozenset((878, 888))


class NumberError(RingtrueError):
    """Not a telephone number in international form."""


class Tier(StrEnum):
    """What a call to a number may cost, and do."""

    ORDINARY = "ordinary"
    """Fixed, mobile and Internet telephony."""

    TOLL_FREE = "toll_free"
    SPECIAL = "special"
    """Shared cost, personal, universal access, pagers, voicemail."""

    PREMIUM = "premium"
    SATELLITE = "satellite"
    EMERGENCY = "emergency"
    UNCLASSIFIED = "unclassified"
    """Valid in no numbering plan, or of a kind nobody can tell."""


_TIERS: Final = {
    PhoneNumberType.FIXED_LINE: Tier.ORDINARY,
    PhoneNumberType.MOBILE: Tier.ORDINARY,
    PhoneNumberType.FIXED_LINE_OR_MOBILE: Tier.ORDINARY,
    PhoneNumberType.VOIP: Tier.ORDINARY,
    PhoneNumberType.TOLL_FREE: Tier.TOLL_FREE,
    PhoneNumberType.SHARED_COST: Tier.SPECIAL,
    PhoneNumberType.PERSONAL_NUMBER: Tier.SPECIAL,
    PhoneNumberType.PAGER: Tier.SPECIAL,
    PhoneNumberType.UAN: Tier.SPECIAL,
    PhoneNumberType.VOICEMAIL: Tier.SPECIAL,
    PhoneNumberType.PREMIUM_RATE: Tier.PREMIUM,
}


@dataclass(frozen=True, slots=True)
class Number:
    """A telephone number and what is known of it."""

    e164: str
    """``+15551234567``."""

    country: str | None
    """ISO 3166-1 alpha-2; None where it belongs to none, or to nobody knows which."""

    tier: Tier


def read_number(text: str) -> Number:
    """Classify ``text``: ``+`` and digits, with or without visual separators (RFC 3966 §5.1.1).

    Raises :class:`NumberError` for anything else: a national number means another one elsewhere.
    """
    digits = _SEPARATORS.sub("", text)
    if _E164.match(digits) is None:
        raise NumberError("not an international number: + and 4 to 15 digits, like +15551234567")
    try:
        number = phonenumbers.parse(digits, None)
    except phonenumbers.NumberParseException:
        return Number(digits, None, Tier.UNCLASSIFIED)
    country = phonenumbers.region_code_for_number(number)
    known = None if country in (None, "001", "ZZ") else country
    if f"+{number.country_code}{phonenumbers.national_significant_number(number)}" != digits:
        return Number(digits, known, Tier.UNCLASSIFIED)  # digits that a network may read otherwise
    return Number(digits, known, _tier(number))


def is_emergency(digits: str) -> bool:
    """Whether ``digits`` are an emergency number anywhere."""
    return _SHORT.match(digits) is not None and _emergency(digits)


def _tier(number: phonenumbers.PhoneNumber) -> Tier:
    code = number.country_code
    if code in _SATELLITE:
        return Tier.SATELLITE
    if code in _PREMIUM:
        return Tier.PREMIUM
    if code in _UNKNOWN or not phonenumbers.is_valid_number(number):
        return Tier.UNCLASSIFIED
    return _TIERS.get(phonenumbers.number_type(number), Tier.UNCLASSIFIED)


@lru_cache(maxsize=4096)
def _emergency(digits: str) -> bool:
    regions = phonenumbers.SUPPORTED_SHORT_REGIONS
    return any(shortnumberinfo.is_emergency_number(digits, region) for region in regions)
