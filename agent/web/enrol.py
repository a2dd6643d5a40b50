"""The page at ``/enrol``: records a voice with the browser's microphone and enrols it.

It is a client of ``/v1`` like any other, with the key its user types in; it keeps that key
nowhere but in the open page.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from ringtrue.agent.web.assets import page_router

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
    return page_router("enrol", FILES)
