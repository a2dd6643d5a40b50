"""The page at ``/verify``: drop a recording, learn whether its speech was made here.

It is a client of ``/v1`` like any other, with the key its user types in; it keeps that key
nowhere but in the open page.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response

from ringtrue.agent.web.assets import asset

FILES: Final = ("verify.js", "evidence.js", "style.css", "verify.css", "icon.svg")


def verify_router() -> APIRouter:
    """The page, and its files below ``/verify/``."""
    router = APIRouter()

    @router.get("/verify", include_in_schema=False)
    async def page() -> Response:
        return asset("verify.html")

    @router.get("/verify/{file}", include_in_schema=False)
    async def file(file: str) -> Response:
        if file not in FILES:
            return Response("no such file", status_code=404, media_type="text/plain")
        return asset(file)

    return router
