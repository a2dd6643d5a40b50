"""The page at ``/enrol``: records a voice with the browser's microphone and enrols it.

It is a client of ``/v1`` like any other, with the key its user types in; it keeps that key
nowhere but in the open page.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response

from ringtrue.agent.web.assets import asset

FILES: Final = (
    "enrol.js",
    "recorder.js",
    "capture.js",
    "style.css",
    "enrol.css",
    "icon.svg",
)


def enrol_router() -> APIRouter:
    """The page, and its files below ``/enrol/``."""
    router = APIRouter()

    @router.get("/enrol", include_in_schema=False)
    async def page() -> Response:
        return asset("enrol.html")

    @router.get("/enrol/{file}", include_in_schema=False)
    async def file(file: str) -> Response:
        if file not in FILES:
            return Response("no such file", status_code=404, media_type="text/plain")
        return asset(file)

    return router
