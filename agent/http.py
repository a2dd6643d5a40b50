"""The web application: pages, WebRTC signalling, cloned voices, Twilio, health and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, Response

from ringtrue.agent.browser_setup import browser_routes
from ringtrue.agent.metrics import CONTENT_TYPE
from ringtrue.agent.web.enrol import enrol_router
from ringtrue.agent.web.verify import verify_router
from ringtrue.telephony.carriers.router import carriers_router
from ringtrue.telephony.media_streams.calls import StreamCall
from ringtrue.telephony.twilio.router import twilio_router

if TYPE_CHECKING:
    from ringtrue.agent.server import Server


def build_app(server: Server) -> FastAPI:
    """The application of ``server``."""
    app = FastAPI(title=server.settings.server.name, openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, str | int]:
        """New calls are taken; ``shut_by`` names the measurement for which they are not at present.

        That is no reason to restart anything, so the status stays 200.
        """
        if not server.ready:
            response.status_code = 503
            return {"status": "not ready"}
        state: dict[str, str | int] = {"status": "ready", "calls": len(server.calls)}
        if server.calls.door.shut_by is not None:
            state["shut_by"] = server.calls.door.shut_by
        return state

    if server.settings.http.metrics:

        @app.get("/metrics")
        async def metrics() -> Response:
            """Prometheus metrics."""
            return Response(server.metrics.render(), media_type=CONTENT_TYPE)

    if server.settings.webrtc.enabled:
        app.include_router(browser_routes(server))

    if server.settings.voices.enabled is not False:
        app.include_router(enrol_router())
        app.include_router(verify_router())
        app.mount("/v1", server.voices.app)

    async def answer(call: StreamCall) -> None:
        await server.answer(call, call.agent)

    def full() -> bool:
        """Asked by webhooks; a call's place is taken when its stream comes."""
        if server.calls.reserve() is not None:
            return True
        server.calls.release()
        return False

    twilio, carriers = server.settings.twilio, server.settings.carriers
    if twilio.enabled and twilio.auth_token is not None:
        app.include_router(
            twilio_router(
                answer,
                auth_token=twilio.auth_token.get_secret_value(),
                public_url=server.settings.http.public_url,
                account_sid=twilio.account_sid,
                token_ttl=twilio.stream_token_ttl_seconds,
                full=full,
                dialler=server.twilio,
                mark=server.mark,
            )
        )
    if carriers.enabled:
        app.include_router(
            carriers_router(
                answer,
                carriers,
                public_url=server.settings.http.public_url,
                full=full,
                mark=server.mark,
            )
        )
    return app
