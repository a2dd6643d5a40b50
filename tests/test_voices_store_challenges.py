"""Challenges in real databases: redeemed once, by whom and for what they were issued."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select

from ringtrue.voices.consent.errors import ChallengeError, ChallengeRefusal
from ringtrue.voices.store.challenges import ChallengeStore
from ringtrue.voices.store.database import Database
from ringtrue.voices.store.schema import VOICES
from ringtrue.voices.store.tables import challenges
from store_links import HOUR, NAME, NOW, PURPOSE, Link, Urls

SOON = NOW + timedelta(minutes=1)


async def refusal(coroutine: object) -> ChallengeRefusal:
    with pytest.raises(ChallengeError) as caught:
        await coroutine  # type: ignore[misc]
    return caught.value.reason


async def test_redeemed_once(store_urls: Urls) -> None:
    async with Link(store_urls).open() as store:
        issued = await store.challenges.issue("acme", name=NAME, purpose=PURPOSE, now=NOW)
        # Spacing is as it was typed; what was agreed on is the same.
        again = {"name": f" {NAME}  ", "purpose": PURPOSE, "now": SOON}
        challenge = await store.challenges.redeem("acme", issued.token, **again)
        assert challenge == issued.challenge
        second = store.challenges.redeem("acme", issued.token, **again)
        assert await refusal(second) is ChallengeRefusal.USED
    async with Link(store_urls).open() as store:
        third = store.challenges.redeem("acme", issued.token, **again)
        assert await refusal(third) is ChallengeRefusal.USED


async def test_of_many_at_once_one_wins(store_urls: Urls) -> None:
    # Two stores: two processes would do the same.
    async with Link(store_urls).open() as one, Link(store_urls).open() as other:
        for _ in range(3):
            issued = await one.challenges.issue("acme", name=NAME, purpose=PURPOSE, now=NOW)
            results = await asyncio.gather(
                *(
                    store.challenges.redeem(
                        "acme", issued.token, name=NAME, purpose=PURPOSE, now=SOON
                    )
                    for store in (one, other)
                    for _ in range(4)
                ),
                return_exceptions=True,
            )
            won = [r for r in results if not isinstance(r, BaseException)]
            lost = [r.reason for r in results if isinstance(r, ChallengeError)]
            assert won == [issued.challenge]
            assert lost == [ChallengeRefusal.USED] * 7


async def test_bound_to_tenant_name_purpose_and_time(store_urls: Urls) -> None:
    async with Link(store_urls).open() as store:
        issued = await store.challenges.issue("acme", name=NAME, purpose=PURPOSE, now=NOW)
        good = {"token": issued.token, "name": NAME, "purpose": PURPOSE, "now": SOON}
        wrong_secret = issued.token[:-1] + ("A" if issued.token[-1] != "A" else "B")
        for tenant, change, reason in (
            ("evil", {}, ChallengeRefusal.UNKNOWN),
            ("acme", {"token": f"{'0' * 32}.{'A' * 43}"}, ChallengeRefusal.UNKNOWN),
            ("acme", {"token": wrong_secret}, ChallengeRefusal.MISMATCH),
            ("acme", {"name": "Eve"}, ChallengeRefusal.MISMATCH),
            ("acme", {"purpose": "fraud"}, ChallengeRefusal.MISMATCH),
            ("acme", {"token": "nonsense"}, ChallengeRefusal.MALFORMED),
            ("acme", {"now": issued.challenge.expires}, ChallengeRefusal.EXPIRED),
            ("acme", {"now": NOW + HOUR}, ChallengeRefusal.EXPIRED),
        ):
            attempt = store.challenges.redeem(tenant, **(good | change))  # type: ignore[arg-type]
            assert await refusal(attempt) is reason
        # None of these used it up.
        assert await store.challenges.redeem("acme", **good) == issued.challenge  # type: ignore[arg-type]


async def test_expired_ones_are_swept_in_the_end(store_urls: Urls) -> None:
    async with Link(store_urls).open() as store:
        old = await store.challenges.issue("acme", name=NAME, purpose=PURPOSE, now=NOW)
        later = NOW + timedelta(days=2)
        await store.challenges.issue("acme", name=NAME, purpose=PURPOSE, now=later)
        attempt = store.challenges.redeem("acme", old.token, name=NAME, purpose=PURPOSE, now=later)
        assert await refusal(attempt) is ChallengeRefusal.UNKNOWN


async def test_too_many(store_urls: Urls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringtrue.voices.store.challenges.MAX_OUTSTANDING", 2)
    async with Link(store_urls).open() as store:

        def one(tenant: str, now: object = NOW) -> object:
            return store.challenges.issue(tenant, name=NAME, purpose=PURPOSE, now=now)  # type: ignore[arg-type]

        await one("acme")  # type: ignore[misc]
        await one("acme")  # type: ignore[misc]
        assert await refusal(one("acme")) is ChallengeRefusal.TOO_MANY
        await one("other")  # type: ignore[misc]
        await one("acme", NOW + HOUR)  # type: ignore[misc]


async def test_only_hashes_are_stored(store_urls: Urls) -> None:
    database = Database(store_urls.voices, VOICES)
    try:
        await database.upgrade()
        issued = await ChallengeStore(database).issue("acme", name=NAME, purpose=PURPOSE, now=NOW)
        async with database.read() as connection:
            row = str((await connection.execute(select(challenges))).one())
    finally:
        await database.close()
    assert issued.challenge.id in row
    for hidden in (issued.token.partition(".")[2], NAME, PURPOSE, *issued.challenge.words):
        assert hidden not in row
