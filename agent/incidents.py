"""Incidents: a voice is stopped everywhere at once, what it said is found, and kept.

Freezing comes first and waits for nothing. Then everything in the audit log and every recording is
held back from retention, what the voice said is looked up, and the hold is narrowed to that. All of
it is recorded.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from ringtrue.agent.audit.affected import Affected, affected_by
from ringtrue.agent.audit.entries import Event, Kind
from ringtrue.agent.audit.errors import AuditError
from ringtrue.agent.audit.holds import Hold, release_hold, write_hold
from ringtrue.agent.audit.log import Recorder
from ringtrue.agent.audit.opening import AuditConfig
from ringtrue.agent.audit.segments import segments_of, slots_of
from ringtrue.agent.evidence import Export, Exported, consents_in, export_call
from ringtrue.agent.recordings_kept import recordings_in
from ringtrue.voices.library import VoiceLibrary
from ringtrue.voices.store.incidents import Incident

log = structlog.get_logger(__name__)

_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class Opened:
    """An incident, and what its voice said."""

    incident: Incident
    new: bool
    """Whether the voice was not frozen before."""

    affected: Affected
    held: Mapping[str, int]
    """Log → the first entry that retention keeps."""

    recordings: Mapping[str, str]
    """Affected call → its recording's id, where it has one."""


@dataclass(frozen=True, slots=True)
class Bundles:
    """Evidence of an incident's calls."""

    written: tuple[Exported, ...]
    later: tuple[tuple[str, str], ...]
    """Calls whose bundle could not be made yet, and why."""


async def open_incident(
    library: VoiceLibrary,
    directory: Path,
    recorder: Recorder,
    *,
    tenant: str,
    voice: str,
    reason: str,
    asked_by: str,
    now: datetime,
    recordings: Path,
    since: datetime | None = None,
    on_frozen: Callable[[Incident], None] = lambda incident: None,
    on_progress: Callable[[int], None] = lambda entries: None,
) -> Opened:
    """Freeze ``voice`` (id or name), and find and hold what it said (since ``since``).

    ``directory`` has the audit logs, ``recordings`` the recordings of calls; ``on_frozen`` is told
    as soon as the voice is stopped. One that is frozen already is only looked up again.

    Raises ValueError on an unfit reason, :class:`~ringtrue.voices.store.errors.StoreError` where
    nothing was frozen, and OSError where the logs can't be read: the voice is frozen then.
    """
    incident, new = await library.freeze(tenant, voice, reason=reason, asked_by=asked_by, now=now)
    on_frozen(incident)
    if new:
        await asyncio.to_thread(write_hold, directory, Hold(incident.id, _everything(directory)))
    affected = await asyncio.to_thread(
        affected_by, directory, tenant, incident.voice, since=since, on_progress=on_progress
    )
    held = await asyncio.to_thread(_narrowed, directory, affected)
    heard = frozenset(call.call for call in affected.calls)
    found, going_on = await asyncio.to_thread(_recorded, recordings, tenant, heard)
    await asyncio.to_thread(write_hold, directory, Hold(incident.id, held, heard | going_on))
    recorder.record(_found(incident, asked_by, affected, held, len(found)))
    return Opened(incident, new, affected, held, found)


async def lift_incident(
    library: VoiceLibrary,
    directory: Path,
    recorder: Recorder,
    *,
    tenant: str,
    incident: str,
    reason: str,
    asked_by: str,
    now: datetime,
    release: bool = False,
) -> Incident:
    """Unfreeze the incident's voice; ``release``: retention may delete its evidence again.

    With ``release``, one that is lifted already has only its evidence released: on every host that
    keeps a log. Raises ValueError on an unfit reason,
    :class:`~ringtrue.voices.ledger.LedgerError`,
    :class:`~ringtrue.voices.store.errors.StoreError`, and OSError where the hold stays.
    """
    lifted = await library.store.incidents.get(tenant, incident)
    if lifted.open or not release:
        lifted = await library.unfreeze(tenant, incident, reason=reason, asked_by=asked_by, now=now)
    if release and await asyncio.to_thread(release_hold, directory, lifted.id):
        recorder.record(
            Event(
                Kind.INCIDENT,
                tenant=lifted.tenant,
                voice=lifted.voice,
                requester=asked_by,
                detail={"incident": lifted.id, "action": "released"},
            )
        )
    return lifted


async def write_bundles(
    setup: AuditConfig,
    opened: Opened,
    recorder: Recorder,
    library: VoiceLibrary,
    out: Path,
    *,
    recordings: Path,
    directory: Path | None = None,
    on_progress: Callable[[int], None] = lambda calls: None,
) -> Bundles:
    """Write a bundle of evidence for every affected call into the directory ``out``.

    ``recordings`` is where the calls' recordings are.

    Entries of the last seconds may not be signed yet; their calls are named as to be done later.
    Raises OSError, and :class:`~ringtrue.agent.audit.errors.LogBrokenError` where a log doesn't
    hold.
    """
    await asyncio.to_thread(out.mkdir, parents=True, exist_ok=True)
    consents = consents_in(library)
    written, later = [], []
    for number, call in enumerate(opened.affected.calls, 1):
        path = out / bundle_name(call.call)
        export = Export(call.call, path, opened.incident.opened_by, recordings=recordings)
        try:
            written.append(
                await export_call(setup, export, recorder, consents, directory=directory)
            )
        except AuditError as error:
            if type(error) is not AuditError:  # what is broken is not right later
                raise
            later.append((call.call, str(error)))
        on_progress(number)
    return Bundles(tuple(written), tuple(later))


def bundle_name(call: str) -> str:
    """The file of a call's bundle."""
    return f"evidence-{_UNFIT.sub('_', call)[:100]}.zip"


def _everything(directory: Path) -> dict[str, int]:
    return {slot.name: 0 for slot in slots_of(directory)}


def _narrowed(directory: Path, affected: Affected) -> dict[str, int]:
    """Of a log that says nothing of the voice, what is being written now is kept."""
    return {
        slot.name: affected.first.get(slot.name, max(segments_of(slot), default=0))
        for slot in slots_of(directory)
    }


def _recorded(
    directory: Path, tenant: str, heard: frozenset[str]
) -> tuple[dict[str, str], frozenset[str]]:
    """The recordings of the calls ``heard``, and the calls that are being recorded.

    What those said last may not be in the log yet.
    """
    own = [one for one in recordings_in(directory)[0] if one.header.tenant == tenant]
    found = {one.header.call: one.header.id for one in own if one.header.call in heard}
    return found, frozenset(one.header.call for one in own if not one.complete)


def _found(
    incident: Incident,
    asked_by: str,
    affected: Affected,
    held: Mapping[str, int],
    recordings: int,
) -> Event:
    detail: dict[str, str | int | bool] = {
        "incident": incident.id,
        "action": "found",
        "calls": len(affected.calls),
        "utterances": affected.utterances,
        "recordings": recordings,
        "milliseconds": round(1000 * affected.seconds),
    }
    if affected.calls:
        detail |= {"from": affected.calls[0].first}
        detail |= {"to": max(call.last for call in affected.calls)}
    detail |= {f"held.{slot}": seq for slot, seq in sorted(held.items()) if slot in affected.first}
    return Event(
        Kind.INCIDENT,
        tenant=incident.tenant,
        voice=incident.voice,
        requester=asked_by,
        detail=detail,
    )
