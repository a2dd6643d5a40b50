"""The HTTP interface of cloned voices: an application to be mounted at ``/v1``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, FastAPI, Path, Query, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ringtrue.agent.api_keys import Gatekeeper, asker, needs
from ringtrue.agent.audit.log import Recorder
from ringtrue.agent.enrolments import Desk, Enrolments, Terms
from ringtrue.agent.held_work import After, Wait
from ringtrue.agent.problems import HEADERS, MEDIA_TYPE, busy, install, wrong
from ringtrue.agent.voices_api_docs import POLICY, render
from ringtrue.agent.voices_api_models import (
    ChallengeOut,
    EnrolmentOut,
    ErasedOut,
    NewConsent,
    NewVoice,
    NewWithdrawal,
    SpeechRequest,
    VoiceDetailOut,
    VoiceOut,
    VoicesOut,
    WithdrawalOut,
)
from ringtrue.agent.voices_api_speech import spoken_answer
from ringtrue.agent.voices_api_upload import read_recordings
from ringtrue.agent.voices_view import view_voice
from ringtrue.agent.watermark_api import UPLOADS
from ringtrue.agent.watermark_api import router as watermark_router
from ringtrue.agent.watermark_searches import Searches
from ringtrue.agent.watermark_sessions import Sessions
from ringtrue.voices.errors import CloningError
from ringtrue.voices.hosted import choose_engine, engine_names
from ringtrue.voices.library import VoiceLibrary, utc_now
from ringtrue.voices.store.api_keys import ApiKey, ApiScope
from ringtrue.voices.store.errors import VoiceExistsError, VoiceFrozenError, VoiceNotFoundError
from ringtrue.voices.store.profile import Lifecycle

MAX_JSON: Final = 64 * 1024
"""Bytes of a JSON body."""

MAX_SPEAKING: Final = 16
"""Texts spoken at once over HTTP."""

PAGE: Final = 100

_ABOUT: Final = """\
Voices are cloned with the speaker's recorded consent, and speak only where a consent covers it.

Every request carries an API key: `Authorization: Bearer rtk_...`. What it sees and does is its
own tenant's alone; everything of other tenants is simply not there (404). Each operation names
the scope it needs; `admin` has every one.

Errors are problem details (RFC 9457, `application/problem+json`): wrong input is listed under
`errors` with its `field`, its `value` and what is `allowed`."""

PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"description": text, "content": {MEDIA_TYPE: {}}}
    for status, text in {
        401: "No valid API key.",
        403: "The key lacks the scope, or no consent covers it.",
        404: "Not there, or another tenant's.",
        422: "Something in the request is wrong; it says what.",
        429: "Too many; `Retry-After` says when to try again.",
        503: "Not at the moment; `Retry-After` says when to try again.",
    }.items()
}

_UPLOAD: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["token", "statement"],
                    "properties": {
                        name: {"type": "string", "format": kind, "description": text}
                        for name, kind, text in (
                            ("token", "password", "The challenge's."),
                            ("statement", "binary", "The challenge, read out."),
                            ("speech", "binary", "5 to 30 s of speech; not for a renewal."),
                        )
                    },
                }
            }
        },
    }
}


class VoicesApi:
    """The application, and the enrolments that are under way in it."""

    def __init__(
        self,
        library: Callable[[], VoiceLibrary | None],
        desk: Callable[[VoiceLibrary], Desk],
        *,
        title: str = "Ringtrue",
        clock: Callable[[], datetime] = utc_now,
        recorder: Recorder | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        """Serve the voices of ``library``, which gives None where it can't be had at present.

        ``desk`` makes what enrols into a library; ``clock`` gives the time of day, with its zone;
        ``sessions`` knows whose marks are.
        """
        self._library = library
        self._make_desk = desk
        self._desk: tuple[VoiceLibrary, Desk] | None = None
        self.clock = clock
        self.enrolments = Enrolments(self._current_desk, clock=clock)
        self.speaking = 0
        self.app = FastAPI(
            title=f"{title}: voices",
            version=version("ringtrue"),
            description=_ABOUT,
            openapi_url="/openapi.json",
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
        )
        self.searches = Searches(
            lambda: tuple(self.library.config.marks.keys.values()), sessions, clock=clock
        )
        self.app.state.voices = self
        self.app.state.searches = self.searches
        self.app.state.gatekeeper = Gatekeeper(
            lambda: self.library.store.api_keys, clock=clock, recorder=recorder
        )
        self.app.add_middleware(_Bounded)
        install(self.app)
        self.app.include_router(router)
        self.app.include_router(watermark_router, responses=PROBLEMS)

    @property
    def library(self) -> VoiceLibrary:
        """The library; raises :class:`~ringtrue.agent.problems.Problem` (503) without one."""
        library = self._library()
        if library is None:
            raise busy("this server has no library of voices at the moment", 30)
        return library

    async def close(self) -> None:
        """Cancel the enrolments and searches under way. Idempotent."""
        await self.enrolments.close()
        await self.searches.close()

    def _current_desk(self) -> Desk:
        library = self.library
        if self._desk is None or self._desk[0] is not library:
            self._desk = (library, self._make_desk(library))
        return self._desk[1]


class _Bounded:
    """Reads no body beyond :data:`MAX_JSON`; recordings have a bound of their own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].endswith(("/recordings", UPLOADS)):
            await self._app(scope, receive, send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_JSON:
                raise HTTPException(413, f"the body is larger than {MAX_JSON} bytes")
            return message

        await self._app(scope, counted, send)


def _api(request: Request) -> VoicesApi:
    api: VoicesApi = request.app.state.voices
    return api


Api = Annotated[VoicesApi, Depends(_api)]
Reader = Annotated[ApiKey, Depends(needs(ApiScope.READ))]
Writer = Annotated[ApiKey, Depends(needs(ApiScope.WRITE))]
Speaker = Annotated[ApiKey, Depends(needs(ApiScope.SPEAK))]
VoiceRef = Annotated[str, Path(max_length=80, description="The voice's id, or its name.")]
EnrolmentId = Annotated[str, Path(max_length=80, description="The enrolment's id.")]

router = APIRouter(responses=PROBLEMS)


@router.post("/voices", status_code=201, summary="Begin an enrolment")
async def begin(
    new: NewVoice, request: Request, response: Response, key: Writer, api: Api
) -> ChallengeOut:
    """Get a challenge for a new voice: what its speaker has to read out, soon and once.

    Scope: `voices:write`.
    """
    try:
        choose_engine(api.library.engines, new.engine)
    except CloningError:
        allowed = ", ".join(engine_names(api.library.engines)) or "none is set up"
        raise wrong("engine", new.engine, allowed) from None
    try:
        await api.library.find(key.tenant, new.name)
    except VoiceNotFoundError:
        return await _challenge(api, key, new.terms(api.clock()), request, response)
    raise VoiceExistsError(f"this tenant has a voice of the name {new.name!r}")


@router.post("/voices/{voice}/renew", status_code=201, summary="Begin a renewal")
async def renew(
    voice: VoiceRef, new: NewConsent, request: Request, response: Response, key: Writer, api: Api
) -> ChallengeOut:
    """Get a challenge for a new consent to a voice there is, by the same speaker.

    Scope: `voices:write`.
    """
    held = await api.library.find(key.tenant, voice)
    if held.lifecycle is Lifecycle.FROZEN:
        raise VoiceFrozenError(held.id, "it takes no consent")
    expires = new.expires(api.clock())
    terms = Terms(held.name, new.purpose, new.agents, expires=expires, voice=held.id)
    return await _challenge(api, key, terms, request, response)


async def _challenge(
    api: VoicesApi, key: ApiKey, terms: Terms, request: Request, response: Response
) -> ChallengeOut:
    enrolment, issued = await api.enrolments.begin(key.tenant, f"api-key:{key.id}", terms)
    path = f"{request.scope.get('root_path', '')}/enrolments/{enrolment.id}"
    response.headers.update(HEADERS | {"Location": path})
    return ChallengeOut.of(issued, enrolment, f"{path}/recordings")


@router.post(
    "/enrolments/{enrolment}/recordings",
    status_code=202,
    summary="Give the recordings",
    openapi_extra=_UPLOAD,
    responses={413: {"description": "More bytes than allowed.", "content": {MEDIA_TYPE: {}}}},
)
async def recordings(
    enrolment: EnrolmentId, request: Request, response: Response, key: Writer, api: Api
) -> EnrolmentOut:
    """Give the recorded challenge, and for a new voice 5 to 30 s of speech by the same speaker.

    WAV, FLAC, Ogg, WebM, MP3 or M4A. They are checked, then the voice is made, which takes up to
    half a minute and goes on if the connection ends. Scope: `voices:write`.
    """
    held = api.enrolments.ready(key.tenant, enrolment)
    given = await read_recordings(
        request.headers.get("content-type", ""),
        request.stream(),
        speech=held.terms.voice is None,
    )
    submitted = api.enrolments.submit(
        key.tenant, enrolment, given.token, given.statement, given.speech
    )
    path = request.scope["path"].removesuffix("/recordings")
    response.headers.update(HEADERS | {"Location": path})
    return EnrolmentOut.of(submitted)


@router.get("/enrolments/{enrolment}", summary="Show an enrolment")
async def show_enrolment(
    enrolment: EnrolmentId,
    response: Response,
    key: Reader,
    api: Api,
    after: After = 0,
    wait: Wait = 0,
) -> EnrolmentOut:
    """How far an enrolment or a renewal is. Scope: `voices:read`."""
    response.headers.update(HEADERS)
    return EnrolmentOut.of(await api.enrolments.wait(key.tenant, enrolment, after, wait))


@router.delete("/enrolments/{enrolment}", summary="Cancel an enrolment")
async def cancel(enrolment: EnrolmentId, response: Response, key: Writer, api: Api) -> EnrolmentOut:
    """Stop it, whatever it is doing. One that is over stays as it is. Scope: `voices:write`."""
    response.headers.update(HEADERS)
    return EnrolmentOut.of(api.enrolments.cancel(key.tenant, enrolment))


@router.get("/voices", summary="List voices")
async def list_voices(
    response: Response,
    key: Reader,
    api: Api,
    after: Annotated[str, Query(max_length=80, description="A former page's `next`.")] = "",
    limit: Annotated[int, Query(ge=1, le=PAGE)] = PAGE,
) -> VoicesOut:
    """The tenant's voices that are not erased, a page at a time. Scope: `voices:read`."""
    response.headers.update(HEADERS)
    found = await api.library.store.voices.list(key.tenant, after=after, limit=limit + 1)
    page = found[:limit]
    return VoicesOut(
        voices=[VoiceOut.of(voice) for voice in page],
        next=page[-1].id if len(found) > limit else None,
    )


@router.get("/voices/{voice}", summary="Show a voice")
async def show_voice(voice: VoiceRef, response: Response, key: Reader, api: Api) -> VoiceDetailOut:
    """A voice and its consents. Scope: `voices:read`."""
    response.headers.update(HEADERS)
    view = await view_voice(api.library, key.tenant, voice, api.clock())
    return VoiceDetailOut.of_view(view)


@router.post("/voices/{voice}/withdraw", summary="Withdraw consent")
async def withdraw(
    voice: VoiceRef,
    response: Response,
    key: Writer,
    api: Api,
    what: Annotated[NewWithdrawal | None, Body()] = None,
) -> WithdrawalOut:
    """Take back one consent, or all of them: calls in progress change voice within 500 ms.

    Scope: `voices:write`.
    """
    response.headers.update(HEADERS)
    done = await api.library.withdraw(
        key.tenant,
        voice,
        asked_by=asker(key),
        now=api.clock(),
        consent=what.consent if what is not None else None,
    )
    return WithdrawalOut(
        serial=done.serial, voice=done.voice, consent=done.consent, made_at=done.made_at
    )


@router.delete("/voices/{voice}", summary="Erase a voice")
async def erase(voice: VoiceRef, response: Response, key: Writer, api: Api) -> ErasedOut:
    """Destroy the voice's key and everything of it, for good. Scope: `voices:write`."""
    response.headers.update(HEADERS)
    erased = await api.library.erase(key.tenant, voice, api.clock(), asked_by=asker(key))
    return ErasedOut.of(erased)


@router.get(
    "/voices/{voice}/consent",
    summary="Export the consents",
    responses={200: {"content": {"application/json": {}}}},
)
async def export_consent(voice: VoiceRef, key: Reader, api: Api) -> Response:
    """Every signed record of a voice with the public keys that check them. Scope: `voices:read`."""
    document = await api.library.export_consent(key.tenant, voice, asked_by=asker(key))
    name = (await api.library.find(key.tenant, voice)).id
    disposition = f'attachment; filename="{name}-consent.json"'
    headers = HEADERS | {"Content-Disposition": disposition}
    return Response(document, media_type="application/json", headers=headers)


@router.post(
    "/voices/{voice}/speech",
    summary="Speak a text",
    response_class=StreamingResponse,
    responses={200: {"description": "Audio.", "content": {"audio/wav": {}, "audio/pcm": {}}}},
)
async def speech(voice: VoiceRef, what: SpeechRequest, key: Speaker, api: Api) -> Response:
    """Audio as it is made; it breaks off where the consent is withdrawn meanwhile.

    Needs a consent that covers the purpose, and the agent that the key was made for (`api` unless
    it was made for another). Scope: `voices:speak`.
    """
    if api.speaking >= MAX_SPEAKING:
        raise busy(f"{MAX_SPEAKING} texts are being spoken", 2)
    library = api.library
    api.speaking += 1

    def over() -> None:
        api.speaking -= 1

    return await spoken_answer(library, key, voice, what, now=api.clock(), over=over)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request, api: Api) -> HTMLResponse:
    """The description as a page."""
    base = request.scope.get("root_path", "")
    sheets = ("/enrol/style.css", "/enrol/enrol.css")
    page = render(api.app.openapi(), base=base, stylesheets=sheets)
    return HTMLResponse(page, headers=HEADERS | {"Content-Security-Policy": POLICY})
