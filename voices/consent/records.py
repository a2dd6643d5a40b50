"""Consents and withdrawals as signed records.

A record's signed form is canonical JSON in the manner of RFC 8785 (keys sorted, no spaces, UTF-8,
no floating point), under an Ed25519 signature. Whatever order or spacing a file was written in,
what is checked is the canonical form of what was read from it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Generic, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from typing_extensions import TypeIs

from ringtrue.voices.consent.challenge import MAX_NAME, MAX_PURPOSE, clean
from ringtrue.voices.consent.decision import Decision, Reason
from ringtrue.voices.consent.errors import RecordError, SignatureError
from ringtrue.voices.keys.errors import UnknownKeyError
from ringtrue.voices.keys.signing import Signer, TrustedKeys

ANY_AGENT: Final = "*"
"""In a scope's agents: every agent of the tenant."""

MAX_RECORD_BYTES: Final = 256 * 1024


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


def _iso(value: datetime) -> str:
    return value.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _purposes(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({clean("purpose", value, MAX_PURPOSE) for value in values}))


def _agents(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


Instant = Annotated[
    AwareDatetime, AfterValidator(_utc), PlainSerializer(_iso, return_type=str, when_used="json")
]
"""A moment in UTC, to the microsecond."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Serial = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=256)]


def new_serial() -> str:
    """128 random bits in hexadecimal; a record's serial is also what blinds its hash."""
    return secrets.token_hex(16)


def sha256_of(data: bytes) -> str:
    """SHA-256 in hexadecimal, as records name audio and voices."""
    return hashlib.sha256(data).hexdigest()


class _Record(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, ser_json_inf_nan="null"
    )

    def canonical(self) -> bytes:
        """The bytes that are signed."""
        value = self.model_dump(mode="json")
        return json.dumps(
            value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
        ).encode()


class Scope(_Record):
    """Where, for what and when a consent allows the voice to speak."""

    tenant: Identifier
    agents: Annotated[
        tuple[Identifier, ...], Field(min_length=1, max_length=1000), AfterValidator(_agents)
    ]
    """Names of agents, or ``*`` for every agent of the tenant."""

    purposes: Annotated[
        tuple[str, ...], Field(min_length=1, max_length=100), AfterValidator(_purposes)
    ]
    """As spoken; compared without regard to case and spacing."""

    not_before: Instant
    expires: Instant

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.expires <= self.not_before:
            raise ValueError(f"expires {self.expires} must be after not_before {self.not_before}")
        return self


class ConsentArtifact(_Record):
    """What somebody said, to which voice it belongs, and what it allows."""

    type: Literal["ringtrue/consent"] = "ringtrue/consent"
    format: Literal[1] = 1
    serial: Serial = Field(default_factory=new_serial)
    voice: Identifier
    voice_sha256: Sha256
    """Of the speaker embedding's bytes, exactly as stored: the consent speaks of this voice."""

    speaker: Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)] = Field(
        repr=False
    )
    statement_sha256: Sha256
    """Of the recorded statement's audio."""

    transcript: Annotated[str, StringConstraints(min_length=1, max_length=4000)] = Field(repr=False)
    """What the recognizer heard in the statement."""

    scope: Scope
    asked_by: Identifier
    """Who asked for the consent: an account or an operator."""

    made_at: Instant
    supersedes: Serial | None = None
    """The consent this one renews; from this one's ``not_before`` on that one counts no more."""

    def covers(self, tenant: str, agent: str, purpose: str, now: datetime) -> Decision:
        """Whether this consent by itself allows speaking there and then, and why not."""
        scope = self.scope
        if tenant != scope.tenant:
            reason = Reason.TENANT
        elif agent not in scope.agents and ANY_AGENT not in scope.agents:
            reason = Reason.AGENT
        elif not _among(purpose, scope.purposes):
            reason = Reason.PURPOSE
        elif now < scope.not_before:
            reason = Reason.NOT_YET
        elif now >= scope.expires:
            reason = Reason.EXPIRED
        else:
            return Decision(Reason.COVERED, self.serial, scope.expires)
        return Decision(reason, self.serial)


class Withdrawal(_Record):
    """Somebody took a consent back."""

    type: Literal["ringtrue/withdrawal"] = "ringtrue/withdrawal"
    format: Literal[1] = 1
    serial: Serial = Field(default_factory=new_serial)
    tenant: Identifier
    voice: Identifier
    consent: Serial | None = None
    """The consent taken back, with all it renews and all that renewed it up to then; None for
    every consent the voice had up to then."""

    asked_by: Identifier
    made_at: Instant


def _among(purpose: str, purposes: tuple[str, ...]) -> bool:
    try:
        wanted = clean("purpose", purpose, MAX_PURPOSE).casefold()
    except ValueError:
        return False
    return any(wanted == known.casefold() for known in purposes)


Record = ConsentArtifact | Withdrawal
RecordT = TypeVar("RecordT", ConsentArtifact, Withdrawal)

_RECORD: Final[TypeAdapter[Record]] = TypeAdapter(
    Annotated[ConsentArtifact | Withdrawal, Field(discriminator="type")]
)


@dataclass(frozen=True, slots=True)
class Signed(Generic[RecordT]):
    """A record with its signature, not yet checked."""

    record: RecordT
    key_id: str
    signature: bytes

    def verify(self, trusted: TrustedKeys) -> RecordT:
        """The record, if the signature holds. Raises :class:`SignatureError` otherwise."""
        what = f"{self.record.type} {self.record.serial}"
        try:
            good = trusted.check(self.key_id, self.signature, self.record.canonical())
        except UnknownKeyError as error:
            raise SignatureError(f"{what}: {error}") from None
        if not good:
            raise SignatureError(f"{what}: the signature is not over this record")
        return self.record

    def to_json(self) -> bytes:
        """For storage and export; :func:`read_signed` reads it back."""
        return (
            b'{"key":'
            + json.dumps(self.key_id).encode()
            + b',"record":'
            + self.record.canonical()
            + b',"signature":"'
            + base64.b64encode(self.signature)
            + b'"}'
        )


AnySigned = Signed[ConsentArtifact] | Signed[Withdrawal]


def sign(record: RecordT, signer: Signer) -> Signed[RecordT]:
    """Sign a record."""
    return Signed(record, signer.id, signer.sign(record.canonical()))


def is_consent(signed: AnySigned) -> TypeIs[Signed[ConsentArtifact]]:
    """Whether the record is a consent."""
    return isinstance(signed.record, ConsentArtifact)


def is_withdrawal(signed: AnySigned) -> TypeIs[Signed[Withdrawal]]:
    """Whether the record is a withdrawal."""
    return isinstance(signed.record, Withdrawal)


def read_signed(data: bytes) -> AnySigned:
    """Parse what :meth:`Signed.to_json` wrote; the signature is not checked yet.

    Raises :class:`RecordError` on anything else; its message repeats no value.
    """
    if len(data) > MAX_RECORD_BYTES:
        raise RecordError(f"a signed record of {len(data)} bytes; allowed: {MAX_RECORD_BYTES}")
    try:
        outer = json.loads(data)
    except (ValueError, RecursionError):
        raise RecordError("a signed record is JSON text; this is not") from None
    if not isinstance(outer, dict) or outer.keys() != {"key", "record", "signature"}:
        raise RecordError("a signed record has exactly the members key, record and signature")
    key, signature = outer["key"], outer["signature"]
    if not isinstance(key, str) or not isinstance(signature, str):
        raise RecordError("key and signature of a signed record are strings")
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raise RecordError("the signature of a signed record is base64") from None
    record = _record(outer["record"])
    if isinstance(record, ConsentArtifact):
        return Signed(record, key, raw)
    return Signed(record, key, raw)


def _record(value: Any) -> Record:
    try:
        return _RECORD.validate_json(json.dumps(value))
    except (ValidationError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise RecordError("not a consent or withdrawal") from None
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'record'}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise RecordError(f"not a consent or withdrawal: {problems}") from None
