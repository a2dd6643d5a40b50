"""Files of the pages, and the headers that keep pages from fetching anything from elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from fastapi import Response

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
