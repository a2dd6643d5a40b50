"""The HTTP interface of incidents. Part of ``/v1``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path as FilePath
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ringtrue.agent.api_keys import asker, needs
from ringtrue.agent.audit.affected import Affected, affected_by
from ringtrue.agent.audit.log import Recorder
from ringtrue.agent.incidents import lift_incident, open_incident
from ringtrue.agent.problems import HEADERS
from ringtrue.voices.consent.challenge import clean
from ringtrue.voices.library import VoiceLibrary
from ringtrue.voices.store.api_keys import ApiKey, ApiScope
from ringtrue.voices.store.incidents import MAX_REASON, Incident

MAX_CALLS: Final = 1000
"""Calls of an answer; the command line lists all."""


def _reason(text: str) -> str:
    return clean("reason", text, MAX_REASON)


Why = Annotated[
    str,
    Field(min_length=1, max_length=MAX_REASON, description="Why; the log keeps it."),
    AfterValidator(_reason),
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewIncident(_Model):
    """A voice to be frozen."""

    voice: str = Field(min_length=1, max_length=80, description="The voice's id, or its name.")
    reason: Why


class NewLifting(_Model):
    """A freeze to be lifted."""

    reason: Why
    release: bool = Field(
        default=False, description="Let retention delete the incident's evidence again."
    )


class IncidentOut(_Model):
    """An incident."""

    id: str
    voice: str
    open: bool
    reason: str
    opened_by: str
    opened_at: datetime
    lifted_by: str | None
    lifted_at: datetime | None
    lifted_for: str | None

    @classmethod
    def of(cls, incident: Incident) -> IncidentOut:
        """As it stands."""
        return cls(**{name: getattr(incident, name) for name in cls.model_fields})


class IncidentsOut(_Model):
    """Incidents, newest first."""

    incidents: list[IncidentOut]


class AffectedOut(_Model):
    """One call, or one text spoken outside calls, in which the voice was heard."""

    call: str
    agent: str | None
    first: str
    last: str
    utterances: int
    seconds: float
    ended: bool
    outputs: list[str] = Field(description="SHA-256 of each utterance's PCM, as it was sent.")


class IncidentDetailOut(_Model):
    """An incident, and what its voice said, as the audit log has it."""

    incident: IncidentOut
    calls: list[AffectedOut] = Field(description=f"The latest {MAX_CALLS}.")
    calls_total: int
    utterances: int
    seconds: float

    @classmethod
    def of(cls, incident: Incident, affected: Affected) -> IncidentDetailOut:
        """Both."""
        calls = [
            AffectedOut(
                call=call.call,
                agent=call.agent,
                first=call.first,
                last=call.last,
                utterances=call.utterances,
                seconds=call.seconds,
                ended=call.ended,
                outputs=[output.sha256 for output in call.outputs],
            )
            for call in affected.calls[-MAX_CALLS:]
        ]
        return cls(
            incident=IncidentOut.of(incident),
            calls=calls,
            calls_total=len(affected.calls),
            utterances=affected.utterances,
            seconds=round(affected.seconds, 3),
        )


@dataclass(frozen=True, slots=True)
class IncidentDesk:
    """What the routes work with; ``app.state.incidents``."""

    library: Callable[[], VoiceLibrary]
    """Gives the library, or raises."""

    directory: FilePath
    """Of the audit logs."""

    recordings: FilePath
    """Of the recordings of calls."""

    recorder: Recorder
    clock: Callable[[], datetime]


def _desk(request: Request) -> IncidentDesk:
    desk: IncidentDesk = request.app.state.incidents
    return desk


Desk = Annotated[IncidentDesk, Depends(_desk)]
Responder = Annotated[ApiKey, Depends(needs(ApiScope.INCIDENT))]
IncidentId = Annotated[str, Path(max_length=80, description="The incident's id.")]

router = APIRouter()


@router.post("/incidents", status_code=201, summary="Freeze a voice")
async def freeze(
    new: NewIncident, request: Request, response: Response, key: Responder, desk: Desk
) -> IncidentDetailOut:
    """Stop a voice everywhere: calls in progress change to the stock voice within 500 ms.

    Then it lists the calls that the voice was heard in, whose entries in the audit log are kept
    from then on. The voice can't be leased, renewed, resumed or erased, nor its speaker enrolled
    again, until that is lifted. One that is frozen is looked up again. Scope: `incidents`.
    """
    opened = await open_incident(
        desk.library(),
        desk.directory,
        desk.recorder,
        tenant=key.tenant,
        voice=new.voice,
        reason=new.reason,
        asked_by=asker(key),
        now=desk.clock(),
        recordings=desk.recordings,
    )
    path = f"{request.scope.get('root_path', '')}/incidents/{opened.incident.id}"
    response.headers.update(HEADERS | {"Location": path})
    return IncidentDetailOut.of(opened.incident, opened.affected)


@router.get("/incidents", summary="List incidents")
async def list_incidents(
    response: Response,
    key: Responder,
    desk: Desk,
    lifted: Annotated[bool, Query(description="Those that were lifted, too.")] = False,
) -> IncidentsOut:
    """The tenant's incidents, newest first. Scope: `incidents`."""
    response.headers.update(HEADERS)
    found = await desk.library().store.incidents.list(key.tenant, lifted=lifted)
    return IncidentsOut(incidents=[IncidentOut.of(one) for one in found])


@router.get("/incidents/{incident}", summary="Show an incident")
async def show_incident(
    incident: IncidentId, response: Response, key: Responder, desk: Desk
) -> IncidentDetailOut:
    """An incident, and what its voice said up to now. Scope: `incidents`."""
    response.headers.update(HEADERS)
    found = await desk.library().store.incidents.get(key.tenant, incident)
    affected = await asyncio.to_thread(affected_by, desk.directory, key.tenant, found.voice)
    return IncidentDetailOut.of(found, affected)


@router.post("/incidents/{incident}/lift", summary="Lift a freeze")
async def lift(
    incident: IncidentId, new: NewLifting, response: Response, key: Responder, desk: Desk
) -> IncidentOut:
    """Unfreeze the voice: it is what it was, and its consents are weighed. Scope: `incidents`."""
    response.headers.update(HEADERS)
    lifted = await lift_incident(
        desk.library(),
        desk.directory,
        desk.recorder,
        tenant=key.tenant,
        incident=incident,
        reason=new.reason,
        asked_by=asker(key),
        now=desk.clock(),
        release=new.release,
    )
    return IncidentOut.of(lifted)
