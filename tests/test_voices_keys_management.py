"""The ring: wraps under the current key, unwraps under any it holds."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from ringtrue.voices.keys.errors import KeyMaterialError, UnknownKeyError, UnsealError
from ringtrue.voices.keys.management import KeyManagement, KeyRing
from ringtrue.voices.keys.sealing import DataKey

ONE, TWO = b"1" * 32, b"2" * 32


async def test_wrap_and_unwrap_over_a_rotation() -> None:
    old: KeyManagement = KeyRing({"one": ONE}, "one")
    new: KeyManagement = KeyRing({"two": TWO, "one": ONE}, "two")
    key = DataKey.generate()
    wrapped = await old.wrap(key, tenant="acme", voice="v_1")
    assert wrapped.key_id == old.current_id == "one"
    assert key.export() not in wrapped.ciphertext
    opened = await new.unwrap(wrapped, tenant="acme", voice="v_1")
    assert opened.export() == key.export()
    again = await new.wrap(opened, tenant="acme", voice="v_1")
    assert again.key_id == "two"
    with pytest.raises(UnknownKeyError, match="unknown key 'two'; keys held: one"):
        await old.unwrap(again, tenant="acme", voice="v_1")


async def test_a_wrapped_key_opens_for_its_voice_only() -> None:
    ring = KeyRing({"one": ONE}, "one")
    wrapped = await ring.wrap(DataKey.generate(), tenant="acme", voice="v_1")
    for tenant, voice in (("evil", "v_1"), ("acme", "v_2"), ("acmev", "_1")):
        with pytest.raises(UnsealError):
            await ring.unwrap(wrapped, tenant=tenant, voice=voice)
    for i in range(len(wrapped.ciphertext)):
        flipped = bytearray(wrapped.ciphertext)
        flipped[i] ^= 0x80
        with pytest.raises(UnsealError):
            await ring.unwrap(
                replace(wrapped, ciphertext=bytes(flipped)), tenant="acme", voice="v_1"
            )


@pytest.mark.parametrize(
    ("keys", "current", "complaint"),
    [
        ({}, "one", "'one' is not in the ring; it holds: none"),
        ({"one": ONE}, "two", "'two' is not in the ring; it holds: one"),
        ({"one": ONE[:31]}, "one", "'one' has 31 bytes; it takes 32"),
        ({"o:ne": ONE}, "o:ne", "key id 'o:ne'"),
        ({"one": ONE, "two": ONE}, "one", "two key ids hold the same key"),
    ],
)
def test_unfit_rings(keys: dict[str, bytes], current: str, complaint: str) -> None:
    with pytest.raises(KeyMaterialError, match=complaint) as caught:
        KeyRing(keys, current)
    assert "111" not in str(caught.value)


def test_a_ring_gives_nothing_away() -> None:
    ring = KeyRing({"one": ONE}, "one")
    assert repr(ring) == "KeyRing(current='one', ids=('one',))"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(ring)
