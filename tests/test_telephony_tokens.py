"""One-use tokens: once, in time, and never more than so many."""

import pytest

from ringtrue.telephony.tokens import TokenStore


def test_a_token_opens_once() -> None:
    store: TokenStore[str] = TokenStore(30)
    token = store.issue("call", now=100.0)
    assert store.redeem(token, now=129.9) == "call"
    assert store.redeem(token, now=129.9) is None


def test_a_token_expires() -> None:
    store: TokenStore[str] = TokenStore(30)
    token = store.issue("call", now=100.0)
    assert store.redeem(token, now=130.0) is None
    assert len(store) == 0


def test_a_flood_costs_bounded_memory_and_the_newest_survive() -> None:
    store: TokenStore[int] = TokenStore(30, max_tokens=10)
    tokens = [store.issue(number, now=0.0) for number in range(1000)]
    assert len(store) == 10
    assert store.redeem(tokens[0], now=0.0) is None
    assert [store.redeem(token, now=0.0) for token in tokens[-10:]] == list(range(990, 1000))


def test_guesses_open_nothing() -> None:
    store: TokenStore[str] = TokenStore(30)
    token = store.issue("call", now=0.0)
    for guess in ("", token[:-1], token + "x", token.swapcase(), "\ud800", "a" * 100_000):
        assert store.redeem(guess, now=0.0) is None
    assert store.redeem(token, now=0.0) == "call"


@pytest.mark.parametrize("ttl", [0, -1])
def test_a_ttl_must_be_positive(ttl: float) -> None:
    with pytest.raises(ValueError, match="ttl must be above 0"):
        TokenStore(ttl)
