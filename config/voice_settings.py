"""Settings of cloned voices: where they are kept, under which keys, and for how long."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, SecretStr, StringConstraints, model_validator

from ringtrue.config.section import Section, split_list
from ringtrue.config.service_settings import NamedService

MAX_LEASE: Final = 0.5
"""Seconds after which a withdrawn consent must have silenced every call."""


class PocketSettings(Section):
    """Neural voices on this machine: Kyutai's pocket-tts."""

    model: Path
    """The model's directory; ``ringtrue models fetch`` makes one."""

    batch: Annotated[int, Field(ge=1, le=256)] = 16
    """Utterances spoken at once; more take turns."""

    threads: Annotated[int, Field(ge=1, le=64)] = 1
    """CPU threads of the model."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """How much speech varies; None: what the model recommends."""


class VoicesSettings(Section):
    """Cloned voices."""

    enabled: bool | Literal["auto"] = "auto"
    """``auto``: where an agent names a cloned voice or calls are placed, or once the databases
    are there."""

    dir: Path | None = None
    """Databases and keys; None: ``ringtrue`` in the user's data directory (XDG)."""

    database_url: SecretStr | None = None
    """SQLite or PostgreSQL; None: ``voices.db`` in ``dir``. Secret: it may hold a password."""

    keys_url: SecretStr | None = None
    """The data keys' own database; None: ``keys/keys.db`` in ``dir``."""

    master_keys: Literal["file", "environment"] = "file"
    """``environment``: read from ``RINGTRUE_MASTER_KEYS``."""

    master_keys_file: Path | None = None
    signing_key_file: Path | None = None
    watermark_key_file: Path | None = None
    """What marks all that is sent, stock voices too; None: made in ``dir`` at the first start."""

    trusted_keys: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")], ...],
        BeforeValidator(split_list),
    ] = ()
    """Ed25519 public keys, beside the signing key's own, whose signatures count."""

    redis_url: SecretStr | None = None
    """None: every process caches by itself, and withdrawals reach it through the database."""

    cache_seconds: Annotated[float, Field(ge=1, le=604_800)] = 3600
    keep_recordings: bool = False
    consent_days: Annotated[int, Field(ge=1, le=3650)] = 365
    lease_seconds: Annotated[float, Field(ge=0.25, le=MAX_LEASE)] = 0.45
    """How long a voice may go on speaking on the strength of one look at its consent."""

    pocket: PocketSettings | None = None
    """None: no voices of engine ``pocket-1``."""

    hosted: dict[
        Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")], NamedService
    ] = {}
    """Services that speak voices of engine ``hosted-1``, each under the name that voices use."""

    @model_validator(mode="after")
    def _together(self) -> VoicesSettings:
        if (self.database_url is None) is not (self.keys_url is None):
            one, other = ("database_url", "keys_url")
            if self.database_url is None:
                one, other = other, one
            raise ValueError(f"{one} is set, but {other} is not; allowed: both or neither")
        if self.database_url is not None and self.database_url == self.keys_url:
            raise ValueError(
                "database_url and keys_url are the same; the data keys need a database of their "
                "own, or a restored backup could bring an erased voice back"
            )
        if self.master_keys == "environment" and self.master_keys_file is not None:
            raise ValueError("master_keys_file is only read with master_keys: file")
        return self
