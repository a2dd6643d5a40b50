"""What a check of this machine finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata

from ringtrue.config.settings import Settings


class State(StrEnum):
    """How a thing stands."""

    OK = "ok"
    DEGRADED = "degraded"
    """Calls work, with less."""

    MISSING = "missing"
    """Something the settings ask for can't work."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    state: State
    detail: str
    """What was found."""

    cost: str = ""
    """What its state costs; empty when ok."""

    remedy: str = ""
    """What would help; empty when ok."""


CheckFunction = Callable[[Settings], Check | list[Check]]


def installed_version(distribution: str) -> str:
    """The version installed, or an empty string."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
