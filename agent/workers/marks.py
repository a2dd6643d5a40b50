"""Marks in ids and paths: which worker made them, and so whom a request is for."""

from __future__ import annotations

import re
from typing import Final

_MARK: Final = re.compile(r"~w([0-9]{1,2})(?![0-9A-Za-z_-])")


def mark_of(slot: int) -> str:
    """What the worker of ``slot`` puts behind its ids; unreserved in URIs (RFC 3986 §2.3)."""
    return f"~w{slot}"


def slot_in(path: str) -> int | None:
    """The slot of the first mark in ``path``; None without one."""
    match = _MARK.search(path)
    return None if match is None else int(match[1])
