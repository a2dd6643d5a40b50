"""Sealing: what was sealed opens, and nothing else does."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import assume, given
from hypothesis import strategies as st

from ringtrue.voices.keys.errors import UnsealError
from ringtrue.voices.keys.sealing import DataKey, SealContext, Sealed

KEY = DataKey(bytes(range(32)))
CONTEXT = SealContext("acme", "v_1", "embedding", 3)
SEALED = KEY.seal(b"a voiceprint", CONTEXT)

fields = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)
versions = st.integers(0, 2**64 - 1)
contexts = st.builds(SealContext, fields, fields, fields, versions)


@given(st.binary(max_size=200), contexts)
def test_round_trip(data: bytes, context: SealContext) -> None:
    key = DataKey.generate()
    sealed = key.seal(data, context)
    assert key.unseal(sealed, context) == data
    assert len(sealed.ciphertext) == len(data) + 16


@given(contexts, contexts)
def test_no_two_contexts_share_their_additional_data(one: SealContext, other: SealContext) -> None:
    assume(one != other)
    assert one.aad() != other.aad()


@given(st.lists(fields, min_size=2, max_size=2), st.integers(0, 20))
def test_a_boundary_that_moves_is_another_context(parts: list[str], cut: int) -> None:
    joined = "".join(parts)
    moved = (joined[:cut], joined[cut:])
    assume(all(moved) and moved != tuple(parts))
    assert SealContext(*parts, "k", 1).aad() != SealContext(*moved, "k", 1).aad()


def test_every_flipped_bit_is_noticed() -> None:
    for name in ("nonce", "ciphertext"):
        raw = getattr(SEALED, name)
        for bit in range(8 * len(raw)):
            flipped = bytearray(raw)
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(UnsealError, match="embedding version 3"):
                KEY.unseal(replace(SEALED, **{name: bytes(flipped)}), CONTEXT)


@given(st.binary(max_size=40), st.binary(max_size=80))
def test_arbitrary_bytes_raise_only_unseal_error(nonce: bytes, ciphertext: bytes) -> None:
    with pytest.raises(UnsealError):
        KEY.unseal(Sealed(nonce, ciphertext), CONTEXT)


@pytest.mark.parametrize(
    "other",
    [
        replace(CONTEXT, tenant="evil"),
        replace(CONTEXT, voice="v_2"),
        replace(CONTEXT, kind="engine_state"),
        replace(CONTEXT, version=2),
    ],
)
def test_another_place_or_key(other: SealContext) -> None:
    with pytest.raises(UnsealError):
        KEY.unseal(SEALED, other)
    with pytest.raises(UnsealError):
        DataKey.generate().unseal(SEALED, CONTEXT)


def test_it_is_plain_aes_256_gcm() -> None:
    opened = AESGCM(bytes(range(32))).decrypt(SEALED.nonce, SEALED.ciphertext, CONTEXT.aad())
    assert opened == b"a voiceprint"
    assert CONTEXT.aad() == (
        b"ringtrue/seal/1\0\0\0\4acme\0\0\0\3v_1\0\0\0\x09embedding\0\0\0\0\0\0\0\3"
    )


def test_nonces_differ() -> None:
    assert len({KEY.seal(b"", CONTEXT).nonce for _ in range(1000)}) == 1000


def test_a_key_gives_nothing_away() -> None:
    secret = bytes(range(32))
    for shown in (repr(KEY), str(KEY), f"{KEY}", repr([KEY])):
        assert shown.strip("[]") == "DataKey(…)"
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            attempt(KEY)  # type: ignore[operator]
    assert KEY.export() == secret
    with pytest.raises(ValueError, match="32 bytes, got 16"):
        DataKey(secret[:16])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"tenant": ""}, "tenant ''"),
        ({"voice": "x" * 257}, "voice 'xxx"),
        ({"kind": "a\nb"}, "kind 'a"),
        ({"tenant": "\ud800"}, "tenant"),
        ({"version": -1}, "version -1"),
        ({"version": 2**64}, "version 18446744073709551616"),
    ],
)
def test_unfit_contexts(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(CONTEXT, **change)  # type: ignore[arg-type]
