"""Files of the pages, and the headers that keep pages from fetching anything from elsewhere."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Response

SECURITY: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "media-src 'self' blob: mediastream:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""On every answer of a page's routes."""

TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
"""Media type by a file's ending."""


@cache
def _content(file: str) -> bytes:
    return files("ringtrue.agent.web").joinpath("static", file).read_bytes()


def asset(file: str) -> Response:
    """A file of ``static``; ``file`` is one of a fixed list, never a request's own words."""
    headers = SECURITY | {"Cache-Control": "no-cache"}
    kind = TYPES[file.rpartition(".")[2]]
    return Response(_content(file), media_type=kind, headers=headers)


def page_router(name: str, allowed: Collection[str]) -> APIRouter:
    """The page ``/name``, which is ``name.html``, and the ``allowed`` files below it."""
    router = APIRouter()

    @router.get(f"/{name}", include_in_schema=False)
    async def page() -> Response:
        return asset(f"{name}.html")

    @router.get(f"/{name}/{{file}}", include_in_schema=False)
    async def file(file: str) -> Response:
        if file not in allowed:
            return Response("no such file", status_code=404, media_type="text/plain")
        return asset(file)

    return router
