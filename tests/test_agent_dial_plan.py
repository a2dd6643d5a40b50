"""Where tenants may call: allowed is only what is written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.agent.dial_plan import DialPlan, DialRefusal, DialRefusedError, Route
from ringtrue.config.dial_settings import OutboundSettings
from ringtrue.telephony.sip.uri import SipUri

RULES: dict[str, Any] = {
    "enabled": True,
    "trunks": {
        "world": {"uri": "sip:world.example.com", "rates": {"+1": 0.5, "+1201": 0.25}},
        "britain": {
            "uri": "sip:10.1.2.3:5070;transport=tcp",
            "domain": "uk.example.com",
            "prefixes": ["+44"],
            "plus": False,
            "caller": "+442079460000",
        },
    },
    "tenants": {
        "default": {
            "countries": ["US", "GB"],
            "numbers": ["+3361234"],
            "uris": ["sip:alice@pbx.example.com", "sip:*@10.0.0.5:*", "sip:2125550000@10.0.0.5"],
            "callers": ["+12015550100", "sip:desk@example.com"],
        },
        "bare": {"countries": ["GB"], "tiers": ["ordinary", "special"]},
    },
}


def plan(**changes: Any) -> DialPlan:
    return DialPlan(OutboundSettings.model_validate(RULES | changes))


def test_a_trunk_may_be_an_account() -> None:
    trunk = {"uri": "sip:carrier.example.com", "account": "carrier"}
    route = plan(trunks={"main": trunk}).route("default", "+12015550123")
    assert (route.via, route.account) == (None, "carrier")
    assert route.uri == "sip:+12015550123@carrier.example.com;user=phone"


def refusal(target: str, tenant: str = "default", caller: str | None = None) -> DialRefusal:
    with pytest.raises(DialRefusedError) as refused:
        plan().route(tenant, target, caller)
    return refused.value.reason


@pytest.mark.parametrize("target", ["tel:+1-201-555-0123", "+12015550123", "TEL:+12015550123"])
def test_a_number_goes_over_its_trunk(target: str) -> None:
    route = plan().route("default", target)
    assert route == Route(
        uri="sip:+12015550123@world.example.com;user=phone",
        caller="sip:+12015550100@world.example.com;user=phone",
        via=SipUri("world.example.com"),
        account=None,
        trunk="world",
        tier=route.tier,
        rate=0.25,
    )
    assert str(route.tier) == "ordinary"


def test_the_longest_prefix_chooses_the_trunk_and_its_ways() -> None:
    route = plan().route("bare", "+447400123456")
    assert route.uri == "sip:447400123456@uk.example.com;user=phone"
    assert str(route.via) == "sip:10.1.2.3:5070;transport=tcp"
    assert route.caller == "sip:+442079460000@uk.example.com;user=phone"
    assert (route.trunk, route.rate) == ("britain", None)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("tel:+19002345678", DialRefusal.PREMIUM),
        ("tel:+449098790000", DialRefusal.PREMIUM),
        ("tel:+870773111632", DialRefusal.SATELLITE),
        ("tel:+15551234567", DialRefusal.UNCLASSIFIED),
        ("tel:+443001234567", DialRefusal.SPECIAL),
        ("tel:+18765551234", DialRefusal.NOT_ALLOWED),
        ("tel:+33698765432", DialRefusal.NOT_ALLOWED),
        ("tel:911", DialRefusal.EMERGENCY),
        ("112", DialRefusal.EMERGENCY),
        ("tel:2015550123", DialRefusal.TARGET),
        ("tel:+12015550123;phone-context=+1900", DialRefusal.TARGET),
        ("http://example.com", DialRefusal.TARGET),
        ("tel:+1201\u0665550123", DialRefusal.TARGET),
        ("+1201555\r\n0123", DialRefusal.TARGET),
        ("", DialRefusal.TARGET),
    ],
)
def test_refused_numbers(target: str, reason: DialRefusal) -> None:
    assert refusal(target) is reason


def test_no_setting_allows_premium_and_the_like() -> None:
    for tier in ("premium", "satellite", "emergency", "unclassified"):
        with pytest.raises(ValueError, match="tiers"):
            OutboundSettings.model_validate(
                {"tenants": {"x": {"countries": ["US"], "tiers": [tier]}}}
            )
    everything = {"t": {"countries": ["US", "GB"], "numbers": ["+"], "tiers": ["special"]}}
    with pytest.raises(DialRefusedError) as refused:
        plan(tenants=everything).route("t", "+19002345678")
    assert refused.value.reason is DialRefusal.PREMIUM


@pytest.mark.parametrize(
    ("target", "uri"),
    [
        ("sip:alice@pbx.example.com", "sip:alice@pbx.example.com"),
        ("sip:alice@PBX.example.com;transport=tcp", "sip:alice@PBX.example.com;transport=tcp"),
        ("sip:bob@10.0.0.5", "sip:bob@10.0.0.5"),
        ("sip:201@10.0.0.5:5080", "sip:201@10.0.0.5:5080"),
        ("sip:2125550000@10.0.0.5", "sip:2125550000@10.0.0.5"),
        ("sip:+12015550123@10.0.0.5", "sip:+12015550123@10.0.0.5"),
    ],
)
def test_listed_uris(target: str, uri: str) -> None:
    route = plan().route("default", target)
    assert (route.uri, route.via, route.trunk, route.rate) == (uri, None, None, 0.0)
    host = target.partition("@")[2].partition(";")[0].partition(":")[0]
    assert route.caller == f"sip:+12015550100@{host};user=phone"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("sip:mallory@pbx.example.com", DialRefusal.NOT_ALLOWED),
        ("sip:alice@pbx.example.com:5061", DialRefusal.NOT_ALLOWED),
        ("sip:alice@evil.example.com", DialRefusal.NOT_ALLOWED),
        ("sip:10.0.0.5", DialRefusal.TARGET),
        ("sip:+19002345678@10.0.0.5", DialRefusal.PREMIUM),
        ("sip:%2B19002345678@10.0.0.5", DialRefusal.PREMIUM),
        ("sip:+1(900)2345678@10.0.0.5", DialRefusal.PREMIUM),
        ("sip:19002345678@10.0.0.5", DialRefusal.UNCLASSIFIED),
        ("sip:0019002345678@10.0.0.5", DialRefusal.UNCLASSIFIED),
        ("sip:9-1-900-2345678@10.0.0.5", DialRefusal.UNCLASSIFIED),
        ("sip:*72@10.0.0.5", DialRefusal.UNCLASSIFIED),
        ("sip:0@10.0.0.5", DialRefusal.UNCLASSIFIED),
        ("sip:911@10.0.0.5", DialRefusal.EMERGENCY),
        ("sip:19002345678@10.0.0.5;user=phone", DialRefusal.TARGET),
        ("sip:bob;phone-context=+1@10.0.0.5", DialRefusal.TARGET),
        ("sip:bob%3Bx=1@10.0.0.5", DialRefusal.TARGET),
        ("sip:bob@10.0.0.5;maddr=192.0.2.1", DialRefusal.TARGET),
        ("sip:bob@10.0.0.5;lr", DialRefusal.TARGET),
        ("sip:bob@10.0.0.5?Route=%3Csip:evil%3E", DialRefusal.TARGET),
        ("sip:bob:secret@10.0.0.5", DialRefusal.TARGET),
        ("sip:bob@", DialRefusal.TARGET),
    ],
)
def test_refused_uris(target: str, reason: DialRefusal) -> None:
    assert refusal(target) is reason


def test_only_listed_callers() -> None:
    assert plan().route("default", "+12015550123", "sip:desk@example.com").caller == (
        "sip:desk@example.com"
    )
    assert plan().route("default", "+12015550123", "tel:+1-201-555-0100").caller is not None
    assert refusal("+12015550123", caller="+12015550199") is DialRefusal.CALLER
    assert refusal("+12015550123", caller="sip:desk@example.com>;x=<y") is DialRefusal.CALLER
    assert refusal("+447400123456", "bare", "+442079460000") is DialRefusal.CALLER


def test_who_is_not_written_down_calls_nobody() -> None:
    assert refusal("+12015550123", "other") is DialRefusal.TENANT
    assert refusal("+12015550123", "bare") is DialRefusal.NOT_ALLOWED
    with pytest.raises(DialRefusedError) as refused:
        plan(enabled=False).route("default", "+12015550123")
    assert refused.value.reason is DialRefusal.DISABLED
    with pytest.raises(DialRefusedError) as refused:
        plan(trunks={}).route("default", "+12015550123")
    assert refused.value.reason is DialRefusal.NO_ROUTE


def test_refusals_do_not_repeat_the_number() -> None:
    for target in ("+19002345678", "sip:19002345678@10.0.0.5", "sip:19002345678@elsewhere"):
        with pytest.raises(DialRefusedError) as refused:
            plan().route("default", target)
        assert "2345678" not in str(refused.value)


@given(st.text(alphabet='sipetl:+@;=?.-*#%0123456789abcuhon<>" ', max_size=60))
def test_any_text_is_routed_by_the_rules_or_refused(text: str) -> None:
    try:
        route = plan().route("default", text)
    except DialRefusedError:
        return
    allowed = ("@pbx.example.com", "@10.0.0.5", "@world.example.com", "@uk.example.com")
    assert any(host in route.uri for host in allowed)
