"""The web application: the page, WebRTC signalling, Twilio, health and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, Response

from ringtrue.agent.metrics import CONTENT_TYPE
from ringtrue.telephony.twilio.calls import TwilioCall
from ringtrue.telephony.twilio.router import twilio_router

if TYPE_CHECKING:
    from ringtrue.agent.server import Server


def build_app(server: Server) -> FastAPI:
    """The application of ``server``."""
    app = FastAPI(title=server.settings.server.name, docs_url=None, redoc_url=None)

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

    twilio = server.settings.twilio
    if twilio.enabled and twilio.auth_token is not None:

        async def answer(call: TwilioCall) -> None:
            await server.answer(call, call.agent)

        app.include_router(
            twilio_router(
                answer,
                auth_token=twilio.auth_token.get_secret_value(),
                public_url=server.settings.http.public_url,
                account_sid=twilio.account_sid,
                token_ttl=twilio.stream_token_ttl_seconds,
                full=server.calls.full,
            )
        )
    return app
