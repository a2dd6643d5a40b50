"""Incidents in the database: a frozen voice is stopped, and kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
import pytest_asyncio

from ringtrue.voices.consent.decision import Reason
from ringtrue.voices.store.errors import (
    IncidentNotFoundError,
    LifecycleError,
    VoiceErasedError,
    VoiceFrozenError,
    VoiceNotFoundError,
)
from ringtrue.voices.store.opening import Store
from ringtrue.voices.store.profile import Lifecycle, Voice
from store_links import HOUR, NOW, PURPOSE, Link, Urls, new_voice

TENANT = "acme"
WHY = {"reason": "heard in a fraud", "asked_by": "ops"}


@pytest_asyncio.fixture
async def held(store_urls: Urls) -> AsyncIterator[tuple[Link, Store, Voice]]:
    """A live voice with a consent."""
    link = Link(store_urls)
    async with link.open() as store:
        voice = await new_voice(store)
        await store.consents.add(link.consent(voice), NOW)
        voice = await store.voices.set_lifecycle(voice.tenant, voice.id, Lifecycle.LIVE, NOW)
        yield link, store, voice


async def reason(store: Store, voice: Voice) -> Reason:
    decision = await store.consents.decide(
        tenant=voice.tenant, voice=voice.id, agent="a", purpose=PURPOSE, now=NOW + HOUR
    )
    return decision.reason


async def test_a_frozen_voice_is_what_it_was_once_lifted(held: tuple[Link, Store, Voice]) -> None:
    _, store, voice = held
    assert await reason(store, voice) is Reason.COVERED
    incident, new = await store.incidents.freeze(voice.tenant, voice.id, now=NOW, **WHY)
    assert new
    assert (incident.was, incident.open, incident.opened_by) == (Lifecycle.LIVE, True, "ops")
    assert await reason(store, voice) is Reason.FROZEN
    frozen = await store.voices.get(voice.tenant, voice.id)
    assert (frozen.lifecycle, frozen.version) == (Lifecycle.FROZEN, voice.version + 1)
    assert await store.incidents.frozen(voice.tenant) == (voice.id,)
    again, new = await store.incidents.freeze(
        voice.tenant, voice.id, reason="once more", asked_by="other", now=NOW + HOUR
    )
    assert (again, new) == (incident, False)
    lifted = await store.incidents.lift(
        voice.tenant, incident.id, reason="a mistake", asked_by="chief", now=NOW + HOUR
    )
    assert (lifted.open, lifted.lifted_by, lifted.lifted_for) == (False, "chief", "a mistake")
    assert await store.incidents.get(voice.tenant, incident.id) == lifted
    assert await reason(store, voice) is Reason.COVERED
    assert await store.incidents.list(voice.tenant) == ()
    assert await store.incidents.list(voice.tenant, lifted=True) == (lifted,)
    with pytest.raises(LifecycleError, match="lifted already"):
        await store.incidents.lift(voice.tenant, incident.id, now=NOW, **WHY)


async def test_nothing_else_is_done_with_a_frozen_voice(held: tuple[Link, Store, Voice]) -> None:
    link, store, voice = held
    incident, _ = await store.incidents.freeze(voice.tenant, voice.id, now=NOW, **WHY)
    for state in (Lifecycle.LIVE, Lifecycle.SUSPENDED, Lifecycle.WITHDRAWN):
        with pytest.raises(VoiceFrozenError, match=f"it can't become {state}"):
            await store.voices.set_lifecycle(voice.tenant, voice.id, state, NOW)
    with pytest.raises(VoiceFrozenError, match="it takes no consent"):
        await store.consents.add(link.consent(voice), NOW)
    with pytest.raises(VoiceFrozenError, match="it can't be erased"):
        await store.voices.erase(voice.tenant, voice.id, NOW)
    given, _ = await store.consents.records(voice.tenant, voice.id)
    assert len(given) == 1  # the evidence can still be read
    # Who spoke may still take the consent back; it counts once the voice is unfrozen.
    await store.consents.withdraw(link.withdrawal(voice), NOW)
    assert await reason(store, voice) is Reason.FROZEN
    await store.incidents.lift(voice.tenant, incident.id, now=NOW, **WHY)
    assert await reason(store, voice) is Reason.WITHDRAWN
    await store.voices.erase(voice.tenant, voice.id, NOW)


async def test_a_voice_that_is_being_erased_is_not_frozen_meanwhile(
    held: tuple[Link, Store, Voice], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, store, voice = held
    vault, begun = store.voices._vault, list[asyncio.Task[object]]()
    destroy = vault.destroy

    async def slowly(tenant: str, identity: str, now: datetime) -> bool:
        freezing = store.incidents.freeze(tenant, identity, now=now, **WHY)
        begun.append(asyncio.create_task(freezing))
        await asyncio.sleep(0.1)
        assert not begun[0].done()
        return await destroy(tenant, identity, now)

    monkeypatch.setattr(vault, "destroy", slowly)
    await store.voices.erase(voice.tenant, voice.id, NOW)
    with pytest.raises(VoiceErasedError):
        await begun[0]
    assert await store.incidents.list(voice.tenant, lifted=True) == ()


async def test_what_is_of_another_tenant_is_not_there(held: tuple[Link, Store, Voice]) -> None:
    _, store, voice = held
    with pytest.raises(VoiceNotFoundError):
        await store.incidents.freeze("other", voice.id, now=NOW, **WHY)
    incident, _ = await store.incidents.freeze(voice.tenant, voice.id, now=NOW, **WHY)
    for missing in ("other", voice.tenant):
        identity = incident.id if missing == "other" else "inc_" + "0" * 16
        with pytest.raises(IncidentNotFoundError):
            await store.incidents.get(missing, identity)
        with pytest.raises(IncidentNotFoundError):
            await store.incidents.lift(missing, identity, now=NOW, **WHY)
    with pytest.raises(IncidentNotFoundError):
        await store.incidents.get(voice.tenant, "x" * 5000)
    assert await store.incidents.list("other", lifted=True) == ()
    assert await store.incidents.frozen("other") == ()


async def test_what_cannot_be_frozen(held: tuple[Link, Store, Voice]) -> None:
    _, store, voice = held
    with pytest.raises(ValueError, match="reason has 0 characters"):
        await store.incidents.freeze(voice.tenant, voice.id, reason=" ", asked_by="x", now=NOW)
    enrolling = await store.voices.create(
        voice.tenant, name="Bea", language="en", engine="e-1", now=NOW
    )
    with pytest.raises(LifecycleError, match="is being enrolled"):
        await store.incidents.freeze(voice.tenant, enrolling.id, now=NOW, **WHY)
