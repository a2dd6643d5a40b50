from __future__ import annotations

from datetime import timedelta

import pytest

from ringtrue.voices.enrolment import history
from ringtrue.voices.enrolment.errors import EnrolmentError
from ringtrue.voices.enrolment.history import (
    FINGERPRINTS,
    MAX_PER_VOICE,
    add_fingerprints,
    earlier,
    packed,
    unpacked,
)
from ringtrue.voices.store.profile import Lifecycle
from ringtrue.voices.store.voices import VoiceStore
from store_links import HOUR, NOW, Link, Urls


async def voice(store: VoiceStore, name: str, *prints: bytes, tenant: str = "acme") -> str:
    made = await store.create(tenant, name=name, language="en", engine="test-1", now=NOW)
    if prints:
        await store.put_blob(tenant, made.id, FINGERPRINTS, packed(prints), NOW)
    await store.set_lifecycle(tenant, made.id, Lifecycle.LIVE, NOW)
    return made.id


def test_packing_is_undone_and_damage_is_noticed() -> None:
    prints = (b"one", b"", b"three" * 100)
    assert unpacked(packed(prints)) == prints
    for cut in (1, 3, 5, 20):
        with pytest.raises(EnrolmentError, match="cut off"):
            unpacked(packed(prints)[:-cut] if cut < 20 else packed(prints)[:9])


async def test_every_voice_of_the_tenant_is_remembered_and_no_other(store_urls: Urls) -> None:
    async with Link(store_urls).open() as store:
        assert await earlier(store.voices, "acme") == ()
        await voice(store.voices, "Ada", b"a1", b"a2")
        await voice(store.voices, "Bob")
        await voice(store.voices, "Cid", b"c1")
        await voice(store.voices, "Ada", b"other", tenant="other")
        assert set(await earlier(store.voices, "acme")) == {b"a1", b"a2", b"c1"}


async def test_an_erased_voice_is_forgotten(store_urls: Urls) -> None:
    async with Link(store_urls).open() as store:
        ada = await voice(store.voices, "Ada", b"a1")
        await store.voices.erase("acme", ada, NOW + HOUR)
        assert await earlier(store.voices, "acme") == ()


async def test_renewals_add_up_to_a_bound(store_urls: Urls) -> None:
    async with Link(store_urls).open() as store:
        ada = await voice(store.voices, "Ada")
        for number in range(MAX_PER_VOICE + 3):
            now = NOW + timedelta(minutes=number)
            await add_fingerprints(store.voices, "acme", ada, [b"%d" % number], now)
        found = await earlier(store.voices, "acme")
        assert len(found) == MAX_PER_VOICE
        assert found[-1] == b"%d" % (MAX_PER_VOICE + 2)


async def test_all_pages_are_read_and_the_whole_is_bounded(
    store_urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_PAGE", 2)
    async with Link(store_urls).open() as store:
        list_all = store.voices.list

        async def pages(tenant: str, *, after: str = "") -> object:
            return await list_all(tenant, after=after, limit=2)

        monkeypatch.setattr(store.voices, "list", pages)
        for number in range(5):
            await voice(store.voices, f"Voice {number}", b"%d" % number)
        assert len(await earlier(store.voices, "acme")) == 5
        monkeypatch.setattr(history, "MAX_EARLIER", 3)
        assert len(await earlier(store.voices, "acme")) == 3
