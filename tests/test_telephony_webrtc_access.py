"""Tokens that give leave to call, and the credentials of relays."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.telephony.webrtc.access import MAX_TOKEN, AccessTokens, TokenError
from ringtrue.telephony.webrtc.relay import relay_server

KEY = b"k" * 32
NOW = 1_700_000_000.0


def tokens(**options: int) -> AccessTokens:
    return AccessTokens(KEY, **options)


def test_a_token_stands_for_one_agent_once() -> None:
    held = tokens()
    token, grant = held.mint("demo", "acme", now=NOW, ttl=60)
    assert (grant.agent, grant.tenant, grant.expires) == ("demo", "acme", NOW + 60)
    assert held.redeem(token, now=NOW + 59, origin=None) == grant
    with pytest.raises(TokenError, match="used before"):
        held.redeem(token, now=NOW + 59, origin=None)


def test_any_process_with_the_key_takes_it_and_no_other() -> None:
    token, grant = tokens().mint("demo", "acme", now=NOW, ttl=60)
    assert tokens().redeem(token, now=NOW, origin=None) == grant
    with pytest.raises(TokenError, match="no token of this server"):
        AccessTokens(b"x" * 32).redeem(token, now=NOW, origin=None)


def test_an_expired_token_opens_nothing() -> None:
    held = tokens()
    token, _ = held.mint("demo", "acme", now=NOW, ttl=60)
    with pytest.raises(TokenError, match="expired"):
        held.redeem(token, now=NOW + 60, origin=None)


@pytest.mark.parametrize("shown", [None, "https://other.example", "https://shop.example:444"])
def test_a_bound_token_is_for_its_site_alone(shown: str | None) -> None:
    held = tokens()
    site = "https://shop.example"
    token, _ = held.mint("demo", "acme", now=NOW, ttl=60, origin=site)
    with pytest.raises(TokenError, match="another site"):
        held.redeem(token, now=NOW, origin=shown)
    assert held.redeem(token, now=NOW, origin=site).origin == site


def test_every_changed_character_is_noticed() -> None:
    token, _ = tokens().mint("demo", "acme", now=NOW, ttl=60)
    for at, old in enumerate(token):
        for new in "Aé.":
            if new == old:
                continue
            with pytest.raises(TokenError):
                tokens().redeem(token[:at] + new + token[at + 1 :], now=NOW, origin=None)


@given(st.text(max_size=2 * MAX_TOKEN))
def test_nonsense_is_a_documented_error(text: str) -> None:
    with pytest.raises(TokenError):
        tokens().redeem(text, now=NOW, origin=None)


def test_a_signed_token_of_another_form_is_refused() -> None:
    body = "rtw1." + base64.urlsafe_b64encode(b'["demo"]').rstrip(b"=").decode()
    mac = hmac.digest(KEY, body.encode(), hashlib.sha256)
    token = f"{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    with pytest.raises(TokenError, match="another version"):
        tokens().redeem(token, now=NOW, origin=None)


def test_what_can_not_be_remembered_as_used_is_not_taken() -> None:
    held = tokens(max_spent=2)
    first, second, third = (held.mint("demo", "a", now=NOW, ttl=ttl)[0] for ttl in (90, 60, 90))
    held.redeem(first, now=NOW, origin=None)
    held.redeem(second, now=NOW, origin=None)
    with pytest.raises(TokenError, match="too many"):
        held.redeem(third, now=NOW, origin=None)
    held.redeem(third, now=NOW + 61, origin=None)  # the second has expired, behind the first
    with pytest.raises(TokenError, match="used before"):
        held.redeem(first, now=NOW + 61, origin=None)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="31 bytes"):
        AccessTokens(b"x" * 31)


def test_relay_credentials_are_what_the_draft_says() -> None:
    server = relay_server(["turn:turn.example"], "north", user="ab12", now=NOW, ttl=3600)
    assert server.username == "1700003600:ab12"
    password = base64.b64encode(hmac.digest(b"north", b"1700003600:ab12", hashlib.sha1)).decode()
    assert server.credential is not None
    assert server.credential.get_secret_value() == password
    with pytest.raises(ValueError, match="colon"):
        relay_server(["turn:turn.example"], "north", user="a:b", now=NOW, ttl=3600)
