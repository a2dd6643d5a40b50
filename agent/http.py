"""The web application: pages, WebRTC signalling, cloned voices, Twilio, health and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, FastAPI, Response

from ringtrue.agent.calls import RETRY_AFTER_SECONDS
from ringtrue.agent.metrics import CONTENT_TYPE
from ringtrue.agent.web.enrol import enrol_router
from ringtrue.agent.web.router import (
    AgentChoice,
    Answer,
    BusyError,
    OfferRequest,
    webrtc_router,
)
from ringtrue.agent.web.verify import verify_router
from ringtrue.config.agent_dialogue import PLACEHOLDER
from ringtrue.config.agent_schema import Agent
from ringtrue.telephony.twilio.calls import TwilioCall
from ringtrue.telephony.twilio.router import twilio_router
from ringtrue.telephony.webrtc.calls import WebRtcCall

if TYPE_CHECKING:
    from ringtrue.agent.server import Server

PAGE_AGENT: Final = "demo"
"""Offered first by the page, where there is one of this name."""

EXAMPLES: Final = 4
"""Suggestions of what to say that the page gives for an agent."""


def build_app(server: Server) -> FastAPI:
    """The application of ``server``."""
    app = FastAPI(title=server.settings.server.name, openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, str | int]:
        """New calls are taken."""
        if not server.ready:
            response.status_code = 503
            return {"status": "not ready"}
        return {"status": "ready", "calls": len(server.calls)}

    if server.settings.http.metrics:

        @app.get("/metrics")
        async def metrics() -> Response:
            """Prometheus metrics."""
            return Response(server.metrics.render(), media_type=CONTENT_TYPE)

    if server.settings.webrtc.enabled:
        app.include_router(_browser(server))

    if server.settings.voices.enabled is not False:
        app.include_router(enrol_router())
        app.include_router(verify_router())
        app.mount("/v1", server.voices.app)

    twilio = server.settings.twilio
    if twilio.enabled and twilio.auth_token is not None:

        async def answer(call: TwilioCall) -> None:
            await server.answer(call, call.agent)

        def full() -> bool:
            """Asked by the webhook; the call's place is taken when its stream comes."""
            if server.calls.reserve() is not None:
                return True
            server.calls.release()
            return False

        app.include_router(
            twilio_router(
                answer,
                auth_token=twilio.auth_token.get_secret_value(),
                public_url=server.settings.http.public_url,
                account_sid=twilio.account_sid,
                token_ttl=twilio.stream_token_ttl_seconds,
                full=full,
            )
        )
    return app


def _browser(server: Server) -> APIRouter:
    """The page and the calls it makes."""
    webrtc = server.settings.webrtc

    async def accept(request: OfferRequest) -> Answer:
        if server.calls.reserve() is not None:
            raise BusyError(RETRY_AFTER_SECONDS)
        try:
            call = WebRtcCall(
                ice_servers=webrtc.ice_servers, remote=request.client, local=request.agent
            )
            sdp = await call.answer(request.sdp)
        except BaseException:
            server.calls.release()
            raise
        server.run_when_connected(call, request.agent)
        return Answer(sdp, call.id)

    agents = [
        AgentChoice(agent.name, agent.title, agent.description, _examples(agent))
        for agent in server.agents.agents.values()
    ]
    return webrtc_router(
        accept,
        agents=sorted(agents, key=lambda choice: choice.name != PAGE_AGENT),
        name=server.settings.server.name,
        ice_servers=webrtc.ice_servers,
        token_ttl=webrtc.session_token_ttl_seconds,
        public_url=server.settings.http.public_url,
    )


def _examples(agent: Agent) -> tuple[str, ...]:
    """A caller's first words, as the agent's dialogue understands them."""
    if agent.dialogue is None:
        return ()
    first = [
        intent.examples[0]
        for intent in agent.dialogue.intents.values()
        if intent.title and intent.examples and not intent.states
    ]
    return tuple(text for text in first if not PLACEHOLDER.search(text))[:EXAMPLES]
