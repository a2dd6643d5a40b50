"""Errors of the HTTP interface as problem details (RFC 9457).

A problem's ``type`` is ``urn:ringtrue:problem:NAME``. Wrong input is listed under ``errors``, each
with the ``field``, the ``value`` and what is ``allowed``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ringtrue.streaming.errors import RingtrueError
from ringtrue.voices.consent.errors import ChallengeError, ChallengeRefusal
from ringtrue.voices.errors import (
    CloningAbortedError,
    CloningError,
    EngineBusyError,
    EngineUnavailableError,
)
from ringtrue.voices.keys.errors import KeyManagementError
from ringtrue.voices.ledger import LedgerError
from ringtrue.voices.licensing import ConsentRefusedError
from ringtrue.voices.store.errors import (
    ConflictError,
    IncidentNotFoundError,
    LifecycleError,
    StoreUnavailableError,
    VoiceExistsError,
    VoiceFrozenError,
    VoiceNotFoundError,
)

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:ringtrue:problem:"

HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""On every answer of the interface."""

RETRY_SECONDS: Final = 10
MAX_SHOWN: Final = 80
"""Characters of a wrong value that are repeated."""

_UNSHOWN: Final = frozenset({"token", "statement", "speech"})


class Problem(Exception):
    """What a request is answered with instead of what it asked for."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        """``kind`` ends the type URI; ``members`` are extension members."""
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def body(self) -> dict[str, Any]:
        """The members of the JSON object."""
        return {
            "type": TYPE_PREFIX + self.kind,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }

    def response(self) -> Response:
        """The answer."""
        return Response(
            json.dumps(self.body(), ensure_ascii=False),
            status_code=self.status,
            media_type=MEDIA_TYPE,
            headers=HEADERS | self.headers,
        )


def wrong(field: str, value: object, allowed: str, *, status: int = 422) -> Problem:
    """A problem with one field of a request."""
    return _wrong([_error(field, value, allowed)], status)


def busy(detail: str, retry_after: float = RETRY_SECONDS, *, status: int = 503) -> Problem:
    """Not now, but in ``retry_after`` seconds."""
    kind = "busy" if status == HTTPStatus.SERVICE_UNAVAILABLE else "too-many"
    return Problem(
        status, kind, detail, headers={"Retry-After": str(max(1, round(retry_after + 0.5)))}
    )


def problem_of(error: Exception) -> Problem:
    """The problem that tells of ``error``; what is not expected tells nothing of itself."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return _wrong([_validation(item) for item in error.errors()])
        case HTTPException():
            kind = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
            return Problem(error.status_code, kind, str(error.detail), headers=error.headers)
        case VoiceNotFoundError():
            return Problem(404, "no-such-voice", str(error))
        case IncidentNotFoundError():
            return Problem(404, "no-such-incident", str(error))
        case VoiceFrozenError():
            return Problem(409, "voice-frozen", str(error))
        case VoiceExistsError():
            return Problem(409, "voice-exists", str(error))
        case LifecycleError() | ConflictError():
            return Problem(409, "conflict", str(error))
        case ConsentRefusedError():
            return Problem(403, "no-consent", str(error), reason=error.decision.reason.value)
        case ChallengeError() if error.reason is ChallengeRefusal.TOO_MANY:
            return busy(str(error), 60, status=429)
        case ChallengeError():
            return Problem(422, "challenge", str(error), reason=error.reason.value)
        case (
            StoreUnavailableError()
            | KeyManagementError()
            | EngineUnavailableError()
            | LedgerError()
        ):
            log.error("api.unavailable", error=type(error).__name__, reason=str(error))
            return busy("this can't be done at the moment; try again later")
        case EngineBusyError():
            return busy(str(error), 60)
        case CloningAbortedError():
            log.error("api.cloning_aborted", reason=str(error))
            return Problem(500, "aborted", "making the voice was broken off; begin anew")
        case CloningError():
            return Problem(422, "cloning", str(error))
        case RingtrueError():
            return Problem(422, "refused", str(error))
    log.error("api.failed", exc_info=error)
    return Problem(500, "internal", "something went wrong on the server; it is in its log")


def install(app: FastAPI) -> None:
    """Answer every error of ``app`` with a problem."""

    async def answer(request: Request, error: Exception) -> Response:
        return problem_of(error).response()

    for kind in (Problem, RequestValidationError, HTTPException, RingtrueError):
        app.add_exception_handler(kind, answer)

    app.add_middleware(_Unexpected)


class _Unexpected:
    """Tells the log what no handler knew, and the client no more than that it happened."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            await problem_of(error).response()(scope, receive, send)


def _wrong(errors: Sequence[dict[str, Any]], status: int = 422) -> Problem:
    detail = "; ".join(f"{item['field']}: {item['allowed']}" for item in errors)
    return Problem(status, "invalid-request", detail, errors=list(errors))


def _error(field: str, value: object, allowed: str) -> dict[str, Any]:
    shown: Any = value
    if field.split(".")[0] in _UNSHOWN or isinstance(value, bytes):
        shown = None
    elif not isinstance(value, bool | int | float) and value is not None:
        shown = str(value)[:MAX_SHOWN]
    return {"field": field, "value": shown, "allowed": allowed}


def _validation(item: Mapping[str, Any]) -> dict[str, Any]:
    where = [str(part) for part in item["loc"]]
    if len(where) > 1:
        where = where[1:]  # "body", "query", "path": the field's name tells
    value = item.get("input")
    if item["type"] == "missing" or isinstance(value, Mapping):
        value = None
    return _error(".".join(where), value, str(item["msg"]))
