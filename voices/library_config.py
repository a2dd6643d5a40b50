"""Where a library of cloned voices is and under which keys, worked out from the settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog
from pydantic import SecretStr

from ringtrue.config.voice_settings import VoicesSettings
from ringtrue.voices.keys.errors import KeyMaterialError
from ringtrue.voices.keys.management import KeyManagement
from ringtrue.voices.keys.master import create_key_file, key_ring_from_environment, load_key_file
from ringtrue.voices.keys.signing import Signer, TrustedKeys
from ringtrue.voices.watermark.keyring import MarkKeys, create_mark_keys, load_mark_keys

log = structlog.get_logger(__name__)

DATABASE: Final = "voices.db"
KEYS: Final = "keys"
"""The directory below the library's that holds every key; to be backed up apart from the rest."""


@dataclass(frozen=True, slots=True)
class LibraryConfig:
    """What :func:`~ringtrue.voices.library.open_library` needs to know."""

    database_url: str = field(repr=False)
    keys_url: str = field(repr=False)
    keys: KeyManagement
    signer: Signer
    trusted: TrustedKeys
    marks: MarkKeys
    """The keys of this installation's watermark, by which its own speech is known again."""

    redis_url: str | None = field(default=None, repr=False)
    cache_seconds: float = 3600.0
    keep_recordings: bool = False
    consent_days: int = 365
    lease_seconds: float = 0.45


def library_dir(settings: VoicesSettings, environ: Mapping[str, str] | None = None) -> Path:
    """The directory of the library: the one set, or ``ringtrue`` where XDG keeps user data."""
    if settings.dir is not None:
        return settings.dir
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_DATA_HOME", "")
    # The XDG specification has relative paths ignored.
    root = Path(base) if base.startswith("/") else Path("~/.local/share").expanduser()
    return root / "ringtrue"


def library_exists(settings: VoicesSettings, environ: Mapping[str, str] | None = None) -> bool:
    """Whether voices have been kept here before, or are kept in a database that is named."""
    if settings.database_url is not None:
        return True
    return (library_dir(settings, environ) / DATABASE).exists()


def library_wanted(
    settings: VoicesSettings, *, named: bool, environ: Mapping[str, str] | None = None
) -> bool:
    """Whether a server opens the library; ``named`` says that an agent names a cloned voice."""
    if settings.enabled == "auto":
        return named or library_exists(settings, environ)
    return bool(settings.enabled)


def library_config(
    settings: VoicesSettings, environ: Mapping[str, str] | None = None
) -> LibraryConfig:
    """Read the keys and complete the URLs; blocking, for start-up.

    A library that is new gets keys of its own, where no place for them is named. Raises
    :class:`~ringtrue.voices.keys.errors.KeyMaterialError` naming the file or variable.
    """
    environ = os.environ if environ is None else environ
    directory = library_dir(settings, environ)
    new = not library_exists(settings, environ)
    keys: KeyManagement
    if settings.master_keys == "environment":
        keys = key_ring_from_environment(environ)
    else:
        path = settings.master_keys_file or directory / KEYS / "master.keys"
        if new and settings.master_keys_file is None and not path.exists():
            _make_directory(path.parent)
            create_key_file(path)
            log.warning("voices.master_key_made", file=str(path))
        keys = load_key_file(path)
    path = settings.signing_key_file or directory / KEYS / "signing.pem"
    if new and settings.signing_key_file is None and not path.exists():
        _make_directory(path.parent)
        signer = Signer.create(path)
        log.warning("voices.signing_key_made", file=str(path))
    else:
        signer = Signer.load(path)
    others = (bytes.fromhex(public) for public in settings.trusted_keys)
    return LibraryConfig(
        database_url=_revealed(settings.database_url) or f"sqlite:///{directory / DATABASE}",
        keys_url=_revealed(settings.keys_url) or f"sqlite:///{directory / KEYS / 'keys.db'}",
        keys=keys,
        signer=signer,
        trusted=TrustedKeys([signer.public, *others]),
        marks=mark_keys(settings, environ),
        redis_url=_revealed(settings.redis_url),
        cache_seconds=settings.cache_seconds,
        keep_recordings=settings.keep_recordings,
        consent_days=settings.consent_days,
        lease_seconds=settings.lease_seconds,
    )


def mark_key_file(settings: VoicesSettings, environ: Mapping[str, str] | None = None) -> Path:
    """Where the watermark's keys are; they need not be there yet."""
    return settings.watermark_key_file or library_dir(settings, environ) / KEYS / "watermark.keys"


def mark_keys(settings: VoicesSettings, environ: Mapping[str, str] | None = None) -> MarkKeys:
    """The watermark's keys; blocking, for start-up. Made where no file is named and none is there.

    Raises :class:`~ringtrue.voices.keys.errors.KeyMaterialError` naming the file.
    """
    path = mark_key_file(settings, environ)
    if settings.watermark_key_file is not None or path.exists():
        return load_mark_keys(path)
    _make_directory(path.parent)
    try:
        made = create_mark_keys(path)
    except KeyMaterialError:
        if not path.exists():
            raise
        return load_mark_keys(path)  # another process was faster
    log.warning("voices.watermark_key_made", file=str(path))
    return made


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KeyMaterialError(f"{path}: can't be made: {error.strerror}") from None


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None
