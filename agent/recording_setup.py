"""Where the settings keep recordings, and the keys they are encrypted under."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import structlog

from ringtrue.agent.audit.log import Recorder
from ringtrue.agent.audit.opening import audit_dir
from ringtrue.agent.recordings import Recordings
from ringtrue.config.agent_schema import Agent
from ringtrue.config.settings import Settings
from ringtrue.voices.keys.errors import KeyMaterialError
from ringtrue.voices.keys.management import KeyRing
from ringtrue.voices.keys.master import create_key_file, load_key_file
from ringtrue.voices.library_config import KEYS, library_dir

log = structlog.get_logger(__name__)

DIRECTORY: Final = "recordings"
KEY_FILE: Final = "recordings.keys"


def recordings_dir(settings: Settings, environ: Mapping[str, str] | None = None) -> Path:
    """Where recordings are."""
    return settings.recordings.dir or library_dir(settings.voices, environ) / DIRECTORY


def recording_keys(
    settings: Settings, environ: Mapping[str, str] | None = None, *, make: bool
) -> KeyRing:
    """The keys that wrap recordings' own; blocking, for start-up.

    With ``make`` they are made where no file is named and none is there. Raises
    :class:`~ringtrue.voices.keys.errors.KeyMaterialError` naming the file.
    """
    named = settings.recordings.key_file
    path = named or library_dir(settings.voices, environ) / KEYS / KEY_FILE
    if make and named is None and not path.exists():
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise KeyMaterialError(f"{path.parent}: can't be made: {error.strerror}") from None
        try:
            create_key_file(path)
        except KeyMaterialError:
            if not path.exists():
                raise
        else:
            log.warning("recordings.key_made", file=str(path))
    return load_key_file(path)


def recordings_of(
    settings: Settings, agents: Iterable[Agent], recorder: Recorder | None
) -> Recordings:
    """The recordings of a server with ``agents``.

    Raises :class:`~ringtrue.voices.keys.errors.KeyMaterialError` where one of them records and
    the keys can't be had.
    """
    wanted = any(agent.recording.enabled for agent in agents)
    keys = recording_keys(settings, make=True) if wanted else None
    return Recordings(recordings_dir(settings), keys, recorder=recorder, holds=audit_dir(settings))
