"""One enrolment's recordings, read and put to every check, in a process of its own.

Decoding what strangers send, recognizing it and running networks over it has no place in a
server's process: :func:`run` is a :data:`~ringtrue.voices.job.Job`, and requests and results are
plain bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.consent.challenge import Challenge
from ringtrue.voices.encoder.embeddings import DIMENSION, Embedding
from ringtrue.voices.encoder.speaker import SpeakerEncoder
from ringtrue.voices.engine import OnProgress, Progress
from ringtrue.voices.enrolment.errors import RecordingError
from ringtrue.voices.enrolment.evidence import Evidence, gather
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.enrolment.recording import read_recording
from ringtrue.voices.watermark.keys import DetectionKey

ENTRY: Final = "ringtrue.voices.enrolment.assessment:run"

_LENGTH: Final = struct.Struct("<I")

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AssessmentRequest:
    """What is to be checked, and against what."""

    challenge: Challenge
    statement: bytes = field(repr=False)
    """The recorded statement, as it came."""

    speech: bytes | None = field(repr=False)
    """The recorded body, as it came; None to renew the consent of an enrolled voice."""

    voiceprint: bytes | None = field(default=None, repr=False)
    """The enrolled voice's embedding, to renew; float32, 256 values."""

    earlier: tuple[bytes, ...] = field(default=(), repr=False)
    marks: tuple[DetectionKey, ...] = ()

    def encode(self) -> bytes:
        """For another process."""
        head = {
            "challenge": asdict(self.challenge) | {"expires": self.challenge.expires.isoformat()},
            "speech": self.speech is not None,
            "voiceprint": self.voiceprint is not None,
            "marks": len(self.marks),
        }
        return _packed(
            [
                json.dumps(head).encode(),
                self.statement,
                self.speech or b"",
                self.voiceprint or b"",
                *(mark.key for mark in self.marks),
                *self.earlier,
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> AssessmentRequest:
        """What :meth:`encode` made."""
        head, statement, speech, voiceprint, *rest = _unpacked(data)
        fields: dict[str, Any] = json.loads(head)
        raw = fields["challenge"]
        challenge = Challenge(
            **raw
            | {
                "digits": tuple(raw["digits"]),
                "words": tuple(raw["words"]),
                "expires": datetime.fromisoformat(raw["expires"]),
            }
        )
        marks = fields["marks"]
        return cls(
            challenge,
            statement,
            speech if fields["speech"] else None,
            voiceprint if fields["voiceprint"] else None,
            tuple(rest[marks:]),
            tuple(DetectionKey(key) for key in rest[:marks]),
        )


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the checks found, and what a voice is made of where they all passed."""

    findings: tuple[Finding, ...]
    transcript: str = field(repr=False)
    """The statement as it was heard."""

    statement: FloatArray = field(repr=False)
    """Mono at 16 kHz, shape ``(n,)``."""

    speech: FloatArray = field(repr=False)
    """The same of the body; empty for a renewal."""

    embedding: Embedding = field(repr=False)
    """The body's speaker, shape ``(256,)``; zeros where there was too little speech."""

    fingerprints: tuple[bytes, ...] = field(repr=False)
    """Of the statement and, but for a renewal, the body."""

    @property
    def passed(self) -> bool:
        """Whether every check there is was made and passed."""
        made = {finding.check for finding in self.findings}
        return made == set(Check) and all(finding.passed for finding in self.findings)

    def encode(self) -> bytes:
        """For another process."""
        head = {
            "findings": [asdict(finding) for finding in self.findings],
            "transcript": self.transcript,
        }
        arrays = (self.statement, self.speech, self.embedding)
        return _packed(
            [
                json.dumps(head).encode(),
                *(np.asarray(array, "<f4").tobytes() for array in arrays),
                *self.fingerprints,
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> Assessment:
        """What :meth:`encode` made; raises :class:`RecordingError` where it was one."""
        head, *parts = _unpacked(data)
        fields = json.loads(head)
        if "error" in fields:
            raise RecordingError(fields["error"])
        findings = tuple(
            Finding(**finding | {"check": Check(finding["check"])})
            for finding in fields["findings"]
        )
        statement, speech, embedding = (np.frombuffer(part, "<f4") for part in parts[:3])
        return cls(findings, fields["transcript"], statement, speech, embedding, tuple(parts[3:]))


def run(request: bytes, on_progress: OnProgress) -> bytes:
    """The job: an encoded :class:`AssessmentRequest` in, an encoded :class:`Assessment` out."""
    try:
        return assess(AssessmentRequest.decode(request), on_progress).encode()
    except RecordingError as error:
        return _packed([json.dumps({"error": str(error)}).encode()])


def assess(request: AssessmentRequest, on_progress: OnProgress) -> Assessment:
    """Read the recordings and make every check. Blocking: some seconds of CPU.

    Where a recording holds too little speech to say anything about its speaker, only the checks
    of the audio are made. Raises :class:`RecordingError` naming the recording.
    """
    on_progress(Progress(0.0, "reading the recordings"))
    evidence = _evidence(request)
    renewal = request.speech is None
    findings, transcript = _checked(evidence, on_progress)
    enough = len(evidence.speech_windows) > 0
    recordings = (evidence.statement,) if renewal else (evidence.statement, evidence.speech)
    from ringtrue.voices.enrolment.fingerprint import fingerprint

    on_progress(Progress(1.0, "checked"))
    return Assessment(
        findings,
        transcript,
        evidence.statement.samples,
        np.zeros(0, np.float32) if renewal else evidence.speech.samples,
        evidence.speech_embedding if enough else np.zeros(DIMENSION, np.float32),
        tuple(fingerprint(recording.samples).to_bytes() for recording in recordings),
    )


def _evidence(request: AssessmentRequest) -> Evidence:
    read = []
    for what, data in (("statement", request.statement), ("speech", request.speech)):
        if data is not None:
            try:
                read.append(read_recording(data))
            except RecordingError as error:
                raise RecordingError(f"{what}: {error}") from None
    encoder = SpeakerEncoder.load()
    evidence = gather(request.challenge, read[0], read[-1], encoder, request.earlier, request.marks)
    if request.voiceprint is None:
        return evidence
    enrolled = np.frombuffer(request.voiceprint, "<f4").reshape(1, DIMENSION)
    return Evidence(
        evidence.challenge,
        evidence.statement,
        evidence.statement,
        evidence.statement_windows,
        enrolled,
        evidence.earlier,
        evidence.marks,
    )


def _checked(evidence: Evidence, on_progress: OnProgress) -> tuple[tuple[Finding, ...], str]:
    from ringtrue.voices.enrolment.checks import wording
    from ringtrue.voices.enrolment.checks.every import OF_AUDIO, OF_SPEECH

    findings = [check(evidence) for check in OF_AUDIO]
    if not len(evidence.statement_windows) or not len(evidence.speech_windows):
        return tuple(findings), ""
    on_progress(Progress(0.1, "listening to the statement"))
    heard, transcript = wording.listen(evidence)
    findings.append(heard)
    doing: Sequence[Callable[[Evidence], Finding]] = OF_SPEECH
    for number, check in enumerate(doing):
        on_progress(Progress(0.6 + 0.4 * number / len(doing), "checking the recordings"))
        findings.append(check(evidence))
    return tuple(findings), transcript


def _packed(parts: Sequence[bytes]) -> bytes:
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def _unpacked(data: bytes) -> list[bytes]:
    parts, at = [], 0
    while at < len(data):
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        parts.append(data[at : at + size])
        at += size
    return parts
