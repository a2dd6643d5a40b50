"""The HTTP interface of the watermark: recordings in, reports out. Part of ``/v1``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ringtrue.agent.api_keys import needs
from ringtrue.agent.held_work import After, Wait
from ringtrue.agent.problems import HEADERS, MEDIA_TYPE, Problem
from ringtrue.agent.watermark_searches import MAX_BYTES, Searches, Searching, State
from ringtrue.agent.watermark_sessions import Session
from ringtrue.voices.store.api_keys import ApiKey, ApiScope
from ringtrue.voices.watermark.report import Report

UPLOADS: Final = "/watermark/detect"
"""Where recordings come in; no other limit of a body's size may be put on it."""

_UPLOAD: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": "The file: WAV, FLAC, Ogg, Opus, WebM, MP3, M4A, AMR and more.",
                }
            }
        },
    }
}


class SearchOut(BaseModel):
    """A search of one recording, as far as it is."""

    model_config = ConfigDict(frozen=True)

    id: str
    state: State
    progress: float = Field(description="0 to 1.")
    version: int = Field(description="Grows with every change.")
    changed_at: datetime
    report: Report | None = Field(description="What was found, once it is `done`.")
    sessions: tuple[Session, ...] = Field(
        description="Calls of this tenant that the recording's tokens name, from the audit log."
    )
    problem: dict[str, Any] | None = Field(description="Why it `failed`.")

    @classmethod
    def of(cls, search: Searching) -> SearchOut:
        """As it stands."""
        return cls(
            id=search.id,
            state=search.state,
            progress=search.progress,
            version=search.version,
            changed_at=search.changed_at,
            report=search.report,
            sessions=search.sessions,
            problem=search.problem.body() if search.problem is not None else None,
        )


def _searches(request: Request) -> Searches:
    searches: Searches = request.app.state.searches
    return searches


Held = Annotated[Searches, Depends(_searches)]
Detector = Annotated[ApiKey, Depends(needs(ApiScope.DETECT))]
SearchId = Annotated[str, Path(max_length=80, description="The search's id.")]

router = APIRouter()


@router.post(
    UPLOADS,
    status_code=202,
    summary="Search a recording for marks",
    openapi_extra=_UPLOAD,
    responses={413: {"description": "More bytes than allowed.", "content": {MEDIA_TYPE: {}}}},
)
async def detect(
    request: Request,
    response: Response,
    key: Detector,
    searches: Held,
    thorough: Annotated[
        bool, Query(description="Try speeds up to 3 % off too, in up to 5 minutes of audio.")
    ] = False,
) -> SearchOut:
    """Say whether a recording is this server's speech, how surely, and whose.

    The body is the file, up to 30 MiB and an hour. The search goes on if the connection ends; its
    address is in `Location`. Whoever holds the recording learns session number and time of what
    marks it carries; calls are named to their own tenant. Scope: `watermark:detect`.
    """
    searches.check(key.tenant)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise Problem(
                413, "too-large", f"the body is larger than {MAX_BYTES} bytes", limit=MAX_BYTES
            )
    if not body:
        raise Problem(422, "unreadable-recording", "the body is empty; it has to be an audio file")
    search = searches.begin(key.tenant, bytes(body), thorough=thorough)
    path = f"{request.scope.get('root_path', '')}/watermark/searches/{search.id}"
    response.headers.update(HEADERS | {"Location": path})
    return SearchOut.of(search)


@router.get("/watermark/searches/{search}", summary="Show a search")
async def show_search(
    search: SearchId,
    response: Response,
    key: Detector,
    searches: Held,
    after: After = 0,
    wait: Wait = 0,
) -> SearchOut:
    """How far a search is, and what it found. Scope: `watermark:detect`."""
    response.headers.update(HEADERS)
    return SearchOut.of(await searches.wait(key.tenant, search, after, wait))


@router.delete("/watermark/searches/{search}", summary="Cancel a search")
async def cancel_search(
    search: SearchId, response: Response, key: Detector, searches: Held
) -> SearchOut:
    """Stop it. One that is over stays as it is. Scope: `watermark:detect`."""
    response.headers.update(HEADERS)
    return SearchOut.of(searches.cancel(key.tenant, search))
