"""Settings of recordings: where they are kept and under which key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ringtrue.config.agent_dialogue import Part
from ringtrue.config.section import Section


class RecordingsSettings(Section):
    """Where recordings are kept; which calls are recorded, each agent's file says."""

    dir: Path | None = None
    """None: ``recordings`` beside the voices' databases."""

    key_file: Path | None = None
    """What wraps each recording's own key; None: with the voices' keys, made when needed."""


class RecordingFile(Part):
    """Whether an agent's calls are recorded, and how."""

    enabled: bool = False
    """Callers are told so with the first words of every call."""

    keep_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """After so many days a recording is erased."""

    mask_digits: bool = True
    """The caller is silenced around every key pressed."""

    wait_for_notice: bool = True
    """The caller is silenced until the notice was heard to its end."""
