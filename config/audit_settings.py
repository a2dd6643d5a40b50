"""Settings of the audit log: where it is kept, what of, for how long, and who bears witness."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, field_validator

from ringtrue.config.section import Section, split_list


class AuditSettings(Section):
    """The audit log. It can't be switched off: without it no cloned voice speaks."""

    dir: Path | None = None
    """On a local disk; None: ``audit`` beside the voices' databases."""

    keep_days: Annotated[int, Field(ge=1, le=36_500)] | None = 400
    """How long entries are kept; their signed roots stay. None: for ever."""

    text: Literal["none", "hash", "encrypted"] = "hash"
    """What is kept of the words that were spoken; the hash is keyed, so that nothing is guessed."""

    witness: str | None = None
    """A file (absolute path) or an http(s) URL that gets every signed checkpoint."""

    local_witness: str = "auto"
    """A directory (absolute path), best on another disk, that keeps the newest signed checkpoint of
    each log; ``auto``: ``ringtrue/witness`` in the user's state directory (XDG); or ``off``."""

    checkpoint_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 10
    """How long an entry is unsigned at most, and what a crash could cost at most."""

    signing_key_file: Path | None = None
    """Ed25519; None: with the voices' keys, made at the first start."""

    text_key_file: Path | None = None
    """What keys the hashes and encrypts the texts; None: likewise."""

    trusted_keys: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")], ...],
        BeforeValidator(split_list),
    ] = ()
    """Public keys that signed earlier entries."""

    @field_validator("witness")
    @classmethod
    def _place(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://", "/")):
            raise ValueError("neither an absolute path nor an http(s) URL")
        return value

    @field_validator("local_witness")
    @classmethod
    def _local_place(cls, value: str) -> str:
        if value not in ("auto", "off") and not value.startswith("/"):
            raise ValueError(f"{value!r} is neither auto, off nor an absolute path")
        return value
