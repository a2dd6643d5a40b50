"""Making a bundle of evidence of a call: its proven entries, the consents, the verifier."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ringtrue.agent.audit.entries import Event, Kind
from ringtrue.agent.audit.evidence import bundle_files, revealed, write_bundle
from ringtrue.agent.audit.log import Recorder
from ringtrue.agent.audit.opening import AuditConfig
from ringtrue.agent.audit.searching import FromLog, prove_call
from ringtrue.agent.recordings_kept import Described, evidence_of
from ringtrue.voices.library import VoiceLibrary
from ringtrue.voices.store.errors import VoiceNotFoundError

Spoke = tuple[str, str]
"""Tenant and id of a cloned voice."""

Consents = Callable[[Sequence[Spoke]], Awaitable[list[bytes]]]
"""Gives the signed records of voices; none for one that was erased since."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle that was written."""

    call: str
    path: Path
    entries: int
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Export:
    """What is asked for."""

    call: str
    out: Path
    """The archive to write."""

    asked_by: str
    reveal_text: bool = False
    """Add what was said, where the log keeps it."""

    detector: Path | None = None
    """A watermark detector's report to add."""

    recordings: Path | None = None
    """Where recordings of calls are; the call's are named, not added."""


async def export_call(
    setup: AuditConfig,
    export: Export,
    recorder: Recorder,
    consents: Consents,
    *,
    directory: Path | None = None,
) -> Exported:
    """Write the bundle of one call, and record that.

    ``consents`` is asked only where a cloned voice spoke. Raises
    :class:`~ringtrue.agent.audit.errors.AuditError`,
    :class:`~ringtrue.voices.store.errors.StoreError` and OSError.
    """
    place = directory or setup.directory
    logs = await asyncio.to_thread(prove_call, place, setup.keys, export.call)
    report = None
    if export.detector is not None:
        report = await asyncio.to_thread(export.detector.read_bytes)
    recorded: list[Described] = []
    if export.recordings is not None:
        recorded = await asyncio.to_thread(evidence_of, export.recordings, place, export.call)
    spoke = spoke_in(logs, export.call)
    files = bundle_files(
        export.call,
        logs,
        setup.signer,
        setup.keys,
        datetime.now(UTC),
        name=export.out.name,
        consents=await consents(spoke) if spoke else (),
        texts=revealed(logs, setup.texts) if export.reveal_text else (),
        report=report,
        recordings=recorded,
    )
    await asyncio.to_thread(write_bundle, export.out, files)
    detail = {"texts": export.reveal_text}
    recorder.record(
        Event(Kind.EVIDENCE, call=export.call, requester=export.asked_by, detail=detail)
    )
    entries = sum(len(log.entries) for log in logs)
    return Exported(export.call, export.out, entries, tuple(sorted(files)))


def spoke_in(logs: Iterable[FromLog], call: str) -> list[Spoke]:
    """The cloned voices that were heard in ``call``."""
    found = {
        (proven.entry["tenant"], proven.entry["voice"])
        for log in logs
        for proven in log.entries
        if proven.entry.get("call") == call and proven.entry.get("consent")
    }
    return sorted(found)


def consents_in(library: VoiceLibrary) -> Consents:
    """The consents that ``library`` keeps."""

    async def consents(spoke: Sequence[Spoke]) -> list[bytes]:
        found = []
        for tenant, voice in spoke:
            try:
                found.append(await library.export_consent(tenant, voice))
            except VoiceNotFoundError:
                continue
        return found

    return consents
