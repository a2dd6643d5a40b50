"""Kinds of telephone numbers."""

from __future__ import annotations

import pytest

from ringtrue.agent.dial_numbers import NumberError, Tier, is_emergency, read_number


@pytest.mark.parametrize(
    ("text", "country", "tier"),
    [
        ("+12015550123", "US", Tier.ORDINARY),
        ("+1 (201) 555-0123", "US", Tier.ORDINARY),
        ("+18765551234", "JM", Tier.ORDINARY),
        ("+447400123456", "GB", Tier.ORDINARY),
        ("+390612345678", "IT", Tier.ORDINARY),
        ("+18005551234", "US", Tier.TOLL_FREE),
        ("+80012345678", None, Tier.TOLL_FREE),
        ("+443001234567", "GB", Tier.SPECIAL),
        ("+19002345678", "US", Tier.PREMIUM),
        ("+449098790000", "GB", Tier.PREMIUM),
        ("+9791234567890", None, Tier.PREMIUM),
        ("+870773111632", None, Tier.SATELLITE),
        ("+88163123456", None, Tier.SATELLITE),
        ("+882161234567", None, Tier.SATELLITE),
        ("+88812345678", None, Tier.UNCLASSIFIED),
        ("+15551234567", None, Tier.UNCLASSIFIED),
        ("+4412", None, Tier.UNCLASSIFIED),
        ("+9999999999", None, Tier.UNCLASSIFIED),
    ],
)
def test_tiers(text: str, country: str | None, tier: Tier) -> None:
    number = read_number(text)
    assert (number.country, number.tier) == (country, tier)
    assert number.e164.startswith("+")
    assert number.e164[1:].isdigit()


def test_a_number_that_networks_may_read_otherwise_is_unclassified() -> None:
    """+44 0 7911… is written often and dialled never."""
    assert read_number("+4407911123456").tier is Tier.UNCLASSIFIED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "2015550123",
        "0012015550123",
        "+1201555CALL",
        "+12015550123;ext=4",
        "+1201555012300000",
    ],
)
def test_other_texts_are_no_numbers(text: str) -> None:
    with pytest.raises(NumberError, match="international number"):
        read_number(text)


def test_emergency_numbers_of_any_country() -> None:
    assert all(is_emergency(digits) for digits in ("112", "911", "999", "000"))
    assert not any(is_emergency(digits) for digits in ("2001", "1000", "", "+112", "911911911"))
