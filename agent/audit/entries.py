"""What is recorded, and the one line it becomes.

A line is canonical JSON. It names its log, its number there, and the SHA-256 of the line before
it, be that an entry or a checkpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from ringtrue.agent.audit.published import VerificationError, canonical, read_canonical
from ringtrue.streaming.gate import UtteranceDigest

FORMAT: Final = 1
GENESIS: Final = hashlib.sha256(b"ringtrue/audit/1").hexdigest()
"""What the first entry of a log follows."""

MAX_LINE: Final = 64 * 1024
"""Longest line in bytes, its newline included."""

MAX_VALUE: Final = 512
"""Characters of one value that are kept."""

MAX_DETAILS: Final = 24
MAX_TEXT: Final = 8000
"""Characters of an utterance's text that are kept, where the policy keeps it."""


class Kind(StrEnum):
    """What happened."""

    LOG_OPENED = "log.opened"
    LOG_CLOSED = "log.closed"
    LOG_RECOVERED = "log.recovered"
    """The end of the log had been cut short, by a crash as a rule; what was cut is named."""

    LOG_RESUMED = "log.resumed"
    """Entries could not be written for a while; those lost, if any, are counted."""

    LOG_BROKEN = "log.broken"
    """Another log here is not what was written."""

    LOG_RETENTION = "log.retention"
    """Entries before ``kept_from`` are deleted."""

    KEY_ROTATED = "key.rotated"
    CALL_PLACED = "call.placed"
    """We began to call somebody."""

    CALL_REFUSED = "call.refused"
    """A call was not placed: the tenant's rules don't allow it."""

    CALL_UNANSWERED = "call.unanswered"
    CALL_ANSWERED = "call.answered"
    """A call we placed: from here on it is one like any other, under its own id."""

    CALL_STARTED = "call.started"
    CALL_ENDED = "call.ended"
    UTTERANCE = "utterance"
    RELAYED = "call.relayed"
    """People in other calls were passed on to the far end; nothing was synthesized in it."""

    VOICE_REVOKED = "call.voice_revoked"
    """The cloned voice gave way to the stock voice in the middle of a call."""

    CALL_TRANSFER = "call.transfer"
    """The dialogue asked to hand the caller over; what came of that is named."""

    FRAME_REFUSED = "gate.refused"
    """Audio was offered to a call's gate or leg that may not be heard, and was not sent."""

    VOICE_ENROLLED = "voice.enrolled"
    ENROLMENT_REFUSED = "enrolment.refused"
    VOICE_LEASED = "voice.leased"
    """Its key was used: the voice may speak."""

    VOICE_REFUSED = "voice.refused"
    VOICE_SUSPENDED = "voice.suspended"
    VOICE_RESUMED = "voice.resumed"
    VOICE_ERASED = "voice.erased"
    CONSENT_GIVEN = "consent.given"
    CONSENT_RENEWED = "consent.renewed"
    CONSENT_WITHDRAWN = "consent.withdrawn"
    CONSENT_EXPORTED = "consent.exported"
    MASTER_KEY = "key.master"
    """A master key was made, made current, or retired."""

    API_KEY = "key.api"
    """An API key was made or revoked."""

    LOGIN = "api.login"
    LOGIN_FAILED = "api.refused"
    INCIDENT = "incident"
    EVIDENCE = "evidence.exported"
    RECORDING_BEGUN = "recording.begun"
    RECORDING_ENDED = "recording.ended"
    RECORDING_EXPORTED = "recording.exported"
    """Somebody had a recording decrypted."""

    RECORDING_ERASED = "recording.erased"


@dataclass(frozen=True, slots=True)
class Output:
    """The audio of one utterance, as it was sent."""

    sha256: str
    """Over the PCM (16 bits, little-endian, mono), in hexadecimal."""

    chain: str
    """Over this and every utterance of the call before it, in hexadecimal."""

    samples: int
    rate: int
    """Hz."""

    first: int
    """Sequence number, in the call, of the first frame it was sent in."""

    last: int


def output_of(digest: UtteranceDigest, rate: int) -> Output:
    """What a gate says went out, at ``rate`` Hz."""
    return Output(
        sha256=digest.sha256,
        chain=digest.chain,
        samples=digest.samples,
        rate=rate,
        first=digest.first_seq,
        last=digest.last_seq,
    )


@dataclass(frozen=True, slots=True)
class Event:
    """Something to be recorded. None: doesn't apply."""

    kind: Kind
    tenant: str | None = None
    call: str | None = None
    agent: str | None = None
    voice: str | None = None
    consent: str | None = None
    """Serial of the consent."""

    requester: str | None = None
    """Who asked: an API key's id, an account, a command."""

    engine: str | None = None
    model: str | None = None
    """Version of the engine's model or of the voice's state."""

    watermark: str | None = None
    output: Output | None = None
    text: str | None = field(default=None, repr=False)
    """What was said; the log keeps of it what its policy allows."""

    detail: Mapping[str, str | int | bool] = field(default_factory=dict)


NAMED: Final = (
    "tenant",
    "call",
    "agent",
    "voice",
    "consent",
    "requester",
    "engine",
    "model",
    "watermark",
)
"""The plain fields of an event."""


def iso(moment: datetime) -> str:
    """A moment as entries write it: UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def encode(
    event: Event,
    *,
    log: str,
    seq: int,
    prev: str,
    at: datetime,
    text: Mapping[str, str] | None = None,
) -> bytes:
    """The entry's line, without its newline; ``text`` is what is kept of the event's text.

    Whatever is too long is cut, and what is not Unicode replaced, so that every event has a line.
    """
    value: dict[str, Any] = {
        "v": FORMAT,
        "log": log,
        "seq": seq,
        "prev": prev,
        "at": iso(at),
        "kind": event.kind.value,
    }
    for name in NAMED:
        given = getattr(event, name)
        if given is not None:
            value[name] = _plain(given)
    if event.output is not None:
        output = event.output
        value["output"] = {name: getattr(output, name) for name in Output.__slots__}
    if text:
        value["text"] = dict(text)
    if event.detail:
        kept = list(event.detail.items())[:MAX_DETAILS]
        value["detail"] = {_plain(name): _scalar(item) for name, item in kept}
    return canonical(value)


def decode(line: bytes) -> dict[str, Any]:
    """What a line says; its place in the log is not checked.

    Raises :class:`~ringtrue.agent.audit.published.VerificationError`.
    """
    if len(line) >= MAX_LINE:
        raise VerificationError(f"a line of {len(line)} bytes; allowed: {MAX_LINE - 1}")
    entry = read_canonical(line)
    strings, whole = ("log", "prev", "at", "kind"), ("v", "seq")
    if not all(isinstance(entry.get(name), str) for name in strings) or not all(
        type(entry.get(name)) is int for name in whole
    ):
        raise VerificationError("not an entry")
    if entry["v"] != FORMAT:
        raise VerificationError(f"an entry of format {entry['v']}; known: {FORMAT}")
    return entry


def _plain(value: object) -> str:
    text = str(value)[:MAX_VALUE]
    return text.encode("utf-8", "replace").decode()


def _scalar(value: object) -> str | int | bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 1 << 53:
        return int(value)
    return _plain(value)
