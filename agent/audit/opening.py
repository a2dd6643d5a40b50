"""The audit log that the settings describe: its directory, keys, policy and witnesses."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from ringtrue.agent.audit.local_witness import LocalWitness
from ringtrue.agent.audit.log import AuditLog, LogPolicy
from ringtrue.agent.audit.texts import SECRET_BYTES, TextKeeper, TextPolicy
from ringtrue.agent.audit.witness import Witness, witness_at
from ringtrue.agent.audit.writer import WriterPolicy
from ringtrue.config.settings import Settings
from ringtrue.voices.keys.errors import KeyMaterialError
from ringtrue.voices.keys.secret_files import read_secret, write_secret
from ringtrue.voices.keys.signing import Signer
from ringtrue.voices.library_config import KEYS, library_dir

log = structlog.get_logger(__name__)

DIRECTORY: Final = "audit"
WITNESS: Final = "witness"
SIGNING_KEY: Final = "audit.pem"
TEXT_KEY: Final = "audit-text.key"


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """What a log is made of."""

    directory: Path
    signer: Signer
    texts: TextKeeper
    trusted: tuple[bytes, ...]
    """Public keys, beside the signer's own, whose checkpoints count."""

    witnesses: tuple[Witness, ...]
    policy: LogPolicy

    @property
    def keys(self) -> list[bytes]:
        """Every public key whose checkpoints count, the current one first."""
        return [self.signer.public, *self.trusted]

    def log(self, *, on_fault: Callable[[str | None], None] | None = None) -> AuditLog:
        """The log, not yet started."""
        return AuditLog(
            self.directory,
            self.signer,
            self.texts,
            trusted=self.trusted,
            witnesses=self.witnesses,
            policy=self.policy,
            on_fault=on_fault,
        )


def audit_dir(settings: Settings, environ: Mapping[str, str] | None = None) -> Path:
    """Where the logs are."""
    return settings.audit.dir or library_dir(settings.voices, environ) / DIRECTORY


def local_witness(
    settings: Settings, environ: Mapping[str, str] | None = None
) -> LocalWitness | None:
    """The witness on this machine; None where it is switched off.

    It is where XDG keeps a user's state, unless another place is set.
    """
    if settings.audit.local_witness == "off":
        return None
    if settings.audit.local_witness != "auto":
        return LocalWitness(Path(settings.audit.local_witness), audit_dir(settings, environ))
    base = (os.environ if environ is None else environ).get("XDG_STATE_HOME", "")
    # The XDG specification has relative paths ignored.
    root = Path(base) if base.startswith("/") else Path("~/.local/state").expanduser()
    return LocalWitness(root / "ringtrue" / WITNESS, audit_dir(settings, environ))


def audit_config(settings: Settings, environ: Mapping[str, str] | None = None) -> AuditConfig:
    """Read the keys; blocking, for start-up. Made where no file is named and none is there.

    Raises :class:`~ringtrue.voices.keys.errors.KeyMaterialError` naming the file.
    """
    audit = settings.audit
    place = library_dir(settings.voices, environ) / KEYS
    signer = _signer(audit.signing_key_file, place / SIGNING_KEY)
    secret = _text_secret(audit.text_key_file, place / TEXT_KEY)
    keep = None if audit.keep_days is None else timedelta(days=audit.keep_days)
    writer = WriterPolicy(checkpoint_seconds=audit.checkpoint_seconds, keep=keep)
    local = local_witness(settings, environ)
    witnesses: list[Witness] = [] if local is None else [local]
    if audit.witness is not None:
        witnesses.append(witness_at(audit.witness))
    return AuditConfig(
        directory=audit_dir(settings, environ),
        signer=signer,
        texts=TextKeeper(secret, TextPolicy(audit.text)),
        trusted=tuple(bytes.fromhex(key) for key in audit.trusted_keys),
        witnesses=tuple(witnesses),
        policy=LogPolicy(writer=writer),
    )


def audit_keys(settings: Settings, environ: Mapping[str, str] | None = None) -> list[bytes]:
    """The public keys that the settings trust, as far as they are at hand; makes none.

    Raises :class:`~ringtrue.voices.keys.errors.KeyMaterialError` for a key file that can't be used.
    """
    audit = settings.audit
    path = audit.signing_key_file or library_dir(settings.voices, environ) / KEYS / SIGNING_KEY
    own = [Signer.load(path).public] if path.exists() else []
    return own + [bytes.fromhex(key) for key in audit.trusted_keys]


@asynccontextmanager
async def open_audit(settings: Settings) -> AsyncIterator[AuditLog]:
    """Hold a log open for a command: nothing is written unless something is recorded.

    Raises :class:`~ringtrue.voices.keys.errors.KeyMaterialError`.
    """
    audit = (await asyncio.to_thread(audit_config, settings)).log()
    try:
        yield audit
    finally:
        await audit.close()


def _signer(named: Path | None, usual: Path) -> Signer:
    if named is not None or usual.exists():
        return Signer.load(named or usual)
    _make_directory(usual.parent)
    try:
        made = Signer.create(usual)
    except KeyMaterialError:
        if not usual.exists():
            raise
        return Signer.load(usual)  # another process was faster
    log.warning("audit.signing_key_made", file=str(usual), public=made.public.hex())
    return made


def _text_secret(named: Path | None, usual: Path) -> bytes:
    path = named or usual
    if named is None and not usual.exists():
        _make_directory(usual.parent)
        try:
            secret = secrets.token_bytes(SECRET_BYTES)
            write_secret(usual, base64.b64encode(secret) + b"\n", replace=False)
        except KeyMaterialError:
            if not usual.exists():
                raise
    try:
        read = base64.b64decode(read_secret(path).strip(), validate=True)
    except (binascii.Error, ValueError):
        raise KeyMaterialError(f"{path}: not base64") from None
    if len(read) != SECRET_BYTES:
        raise KeyMaterialError(f"{path}: the key has {len(read)} bytes; it takes {SECRET_BYTES}")
    return read


def _make_directory(path: Path) -> None:
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise KeyMaterialError(f"{path}: can't be made: {error.strerror}") from None
