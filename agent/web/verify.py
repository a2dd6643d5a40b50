"""The page at ``/verify``: drop a recording, learn whether its speech was made here.

It is a client of ``/v1`` like any other, with the key its user types in; it keeps that key
nowhere but in the open page.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from ringtrue.agent.web.assets import page_router

FILES: Final = ("verify.js", "evidence.js", "style.css", "verify.css", "icon.svg")


def verify_router() -> APIRouter:
    """The page, and its files below ``/verify/``."""
    return page_router("verify", FILES)
