"""Where voices are enrolled: challenge, checks, cloning, consent, in this order.

A challenge is used up before anything that came with it is looked at. Nothing is stored before
every check has passed and the engine has made the voice, and what is stored is stored whole or
erased again. Recordings are kept in memory only, and in the store, encrypted, where the library's
configuration keeps them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from ringtrue.voices.consent.challenge import DEFAULT_TTL, Challenge, IssuedChallenge
from ringtrue.voices.consent.records import ANY_AGENT, ConsentArtifact, sha256_of
from ringtrue.voices.encoder.embeddings import Embedding
from ringtrue.voices.engine import OnProgress, Progress, Speech
from ringtrue.voices.enrolment.assessment import ENTRY, Assessment, AssessmentRequest
from ringtrue.voices.enrolment.audition import LIKENESS, audition, kept
from ringtrue.voices.enrolment.errors import EnrolmentRefused, RecordingError
from ringtrue.voices.enrolment.findings import Finding
from ringtrue.voices.enrolment.history import FINGERPRINTS, add_fingerprints, earlier, packed
from ringtrue.voices.enrolment.recording import MAX_BYTES
from ringtrue.voices.enrolment.script import check_readable
from ringtrue.voices.errors import EngineBusyError
from ringtrue.voices.hosted import choose_engine
from ringtrue.voices.ledger import Act, Deed
from ringtrue.voices.library import Candidate, Statement, VoiceLibrary, checked_name
from ringtrue.voices.pool import JobLimits, JobPool
from ringtrue.voices.rolling_likeness import SOUND
from ringtrue.voices.store.errors import VoiceExistsError, VoiceNotFoundError
from ringtrue.voices.store.profile import BlobKind, Lifecycle, Voice
from ringtrue.voices.watermark.keys import DetectionKey

log = structlog.get_logger(__name__)

MAX_ENROLMENTS: Final = 5
"""Enrolments and renewals under way at one desk; more are refused."""

_LIMITS: Final = JobLimits(running=1, waiting=MAX_ENROLMENTS, seconds=120.0, cpu_seconds=90)

_STALE: Final = timedelta(minutes=10)
"""Age at which a voice that is still being stored was left by a crash."""

_CHECKED: Final = 0.3
_CLONED: Final = 0.9


class Assessor(Protocol):
    """Makes the checks; anything but :class:`JobAssessor` is for tests."""

    async def assess(self, request: AssessmentRequest, on_progress: OnProgress) -> Assessment:
        """Read and check. Raises :class:`RecordingError` and what running it raises."""
        ...


class JobAssessor:
    """Makes every check, each enrolment in a process of its own."""

    def __init__(self) -> None:
        """Nothing is started before the first enrolment."""
        self._pool = JobPool(_LIMITS)

    async def assess(self, request: AssessmentRequest, on_progress: OnProgress) -> Assessment:
        """Some seconds. Raises :class:`~ringtrue.voices.errors.CloningAbortedError` and more."""
        encoded = await asyncio.to_thread(request.encode)
        result = await self._pool.run(ENTRY, encoded, on_progress)
        return await asyncio.to_thread(Assessment.decode, result)


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A voice that is live."""

    voice: Voice
    findings: tuple[Finding, ...]
    similarity: float
    """Cosine between the speaker recorded and a sentence spoken by the new voice."""

    consent: ConsentArtifact = field(repr=False)


class EnrolmentDesk:
    """Enrols voices into a library and renews their consents. Serves one event loop."""

    def __init__(
        self,
        library: VoiceLibrary,
        *,
        marks: Sequence[DetectionKey] = (),
        assessor: Assessor | None = None,
    ) -> None:
        """``marks`` find this installation's own watermark in what is recorded."""
        self._library = library
        self._marks = tuple(marks)
        self._assessor = assessor or JobAssessor()
        self._under_way = 0

    async def begin(
        self,
        tenant: str,
        *,
        name: str,
        purpose: str,
        now: datetime,
        ttl: timedelta = DEFAULT_TTL,
    ) -> IssuedChallenge:
        """A challenge to read out, and the token that goes with the recordings.

        Raises :class:`~ringtrue.voices.library.VoiceNameError`, ``ValueError`` for a name or
        purpose that can't be heard, and
        :class:`~ringtrue.voices.consent.errors.ChallengeError`.
        """
        checked_name(name)
        check_readable(name, purpose)
        challenges = self._library.store.challenges
        return await challenges.issue(tenant, name=name, purpose=purpose, now=now, ttl=ttl)

    async def enrol(
        self,
        tenant: str,
        token: str,
        *,
        name: str,
        purpose: str,
        statement: bytes,
        speech: bytes,
        agents: tuple[str, ...] = (ANY_AGENT,),
        engine: str = "embedded-1",
        language: str = "en",
        expires: datetime | None = None,
        asked_by: str,
        now: datetime,
        on_progress: OnProgress = lambda _: None,
    ) -> Enrolled:
        """Use up the challenge, check the recordings, make the voice and make it live.

        What can be known without the recordings is refused before the challenge is used:
        :class:`~ringtrue.voices.library.VoiceNameError`, ``ValueError``,
        :class:`~ringtrue.voices.store.errors.VoiceExistsError`,
        :class:`~ringtrue.voices.errors.CloningError` for an unknown engine,
        :class:`~ringtrue.voices.errors.EngineBusyError`, and :class:`RecordingError` for too many
        bytes. Then raises :class:`~ringtrue.voices.consent.errors.ChallengeError`,
        :class:`RecordingError`, :class:`EnrolmentRefused` with every finding,
        :class:`~ringtrue.voices.errors.CloningError`, and what the store raises. Cancelling it
        ends the work and leaves nothing.
        """
        checked_name(name)
        check_readable(name, purpose)
        _check_expiry(expires, now)
        _check_size("statement", statement)
        _check_size("speech", speech)
        maker = choose_engine(self._library.engines, engine)
        with self._place():
            await self._check_free(tenant, name, now)
            challenge = await self._library.store.challenges.redeem(
                tenant, token, name=name, purpose=purpose, now=now
            )
            assessment = await self._assessed(
                AssessmentRequest(
                    challenge,
                    statement,
                    speech,
                    earlier=await earlier(self._library.store.voices, tenant),
                    marks=self._marks,
                ),
                _share(on_progress, 0.0, _CHECKED),
            )
            made_of = Speech(assessment.speech, assessment.statement, challenge.text)
            state = await maker.clone(made_of, _share(on_progress, _CHECKED, _CLONED))
            on_progress(Progress(_CLONED, "storing the voice"))
            candidate = Candidate(
                challenge.name,
                language,
                maker.id,
                assessment.embedding.astype("<f4").tobytes(),
                state,
                {BlobKind.ENROLMENT_AUDIO: speech, BlobKind.STATEMENT_AUDIO: statement},
                {FINGERPRINTS: packed(assessment.fingerprints)},
            )
            said = _said(challenge, assessment, statement, asked_by, agents, expires)
            voice, consent = await self._library.admit(tenant, candidate, said, now)
            on_progress(Progress(0.95, "listening to the voice"))
            alike = await self._auditioned(voice, consent, assessment.embedding, now)
        log.info("voice_enrolled", voice=voice.id, tenant=tenant, similarity=round(alike, 3))
        on_progress(Progress(1.0, "enrolled"))
        return Enrolled(voice, assessment.findings, alike, consent)

    async def renew(
        self,
        tenant: str,
        voice: str,
        token: str,
        *,
        name: str,
        purpose: str,
        statement: bytes,
        agents: tuple[str, ...] = (ANY_AGENT,),
        expires: datetime | None = None,
        asked_by: str,
        now: datetime,
    ) -> ConsentArtifact:
        """A new consent from a new statement, by the enrolled speaker.

        It takes the place of the newest consent for the same purpose, if there is one. Raises as
        :meth:`enrol` does, and :class:`~ringtrue.voices.store.errors.VoiceNotFoundError`.
        """
        check_readable(name, purpose)
        _check_expiry(expires, now)
        _check_size("statement", statement)
        library, voices = self._library, self._library.store.voices
        with self._place():
            profile = await library.find(tenant, voice)
            challenge = await library.store.challenges.redeem(
                tenant, token, name=name, purpose=purpose, now=now
            )
            enrolled = await voices.get_blob(tenant, profile.id, BlobKind.EMBEDDING)
            assessment = await self._assessed(
                AssessmentRequest(
                    challenge,
                    statement,
                    None,
                    enrolled.data,
                    await earlier(voices, tenant),
                    self._marks,
                ),
                lambda _: None,
            )
            replaced = await self._for_purpose(tenant, profile.id, challenge.purpose)
            # Before the consent: one that counts has left its trace.
            await add_fingerprints(voices, tenant, profile.id, assessment.fingerprints, now)
            said = _said(challenge, assessment, statement, asked_by, agents, expires)
            consent = await library.renew(tenant, profile.id, said, now, supersedes=replaced)
        log.info("consent_renewed", voice=profile.id, tenant=tenant, serial=consent.serial)
        return consent

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._under_way >= MAX_ENROLMENTS:
            raise EngineBusyError(
                f"{self._under_way} enrolments are under way, as many as may; try again in a minute"
            )
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def _check_free(self, tenant: str, name: str, now: datetime) -> None:
        """Refuse a name that is taken; what a crash left half stored under it is erased."""
        try:
            known = await self._library.store.voices.find(tenant, name)
        except VoiceNotFoundError:
            return
        if known.lifecycle is not Lifecycle.ENROLLING or now - known.changed_at < _STALE:
            raise VoiceExistsError(f"this tenant has a voice of the name {known.name!r}")
        log.warning("half_voice_erased", voice=known.id, tenant=tenant)
        await self._library.erase(tenant, known.id, now)

    async def _assessed(self, request: AssessmentRequest, on_progress: OnProgress) -> Assessment:
        assessment = await self._assessor.assess(request, on_progress)
        if not assessment.passed:
            failed = [str(f.check) for f in assessment.findings if not f.passed]
            log.info("enrolment_refused", tenant=request.challenge.tenant, checks=failed)
            deed = Deed(
                Act.ENROLMENT_REFUSED,
                request.challenge.tenant,
                detail={"challenge": request.challenge.id, "checks": ", ".join(failed)},
            )
            self._library.ledger.note(deed)
            raise EnrolmentRefused(assessment.findings)
        return assessment

    async def _auditioned(
        self, voice: Voice, consent: ConsentArtifact, speaker: Embedding, now: datetime
    ) -> float:
        """Hear the new voice, under the leave it was given; one that can't speak is erased."""
        agent = consent.scope.agents[0]
        try:
            lease = await self._library.lease(
                tenant=voice.tenant,
                voice=voice.id,
                agent="enrolment" if agent == ANY_AGENT else agent,
                purpose=consent.scope.purposes[0],
            )
            try:
                heard = await audition(lease, speaker)
            finally:
                lease.close()
            voices = self._library.store.voices
            await voices.put_blob(voice.tenant, voice.id, LIKENESS, kept(heard.likeness), now)
            await voices.put_blob(voice.tenant, voice.id, SOUND, heard.sound, now)
            return heard.likeness
        except BaseException:
            await asyncio.shield(self._library.erase(voice.tenant, voice.id, now))
            raise

    async def _for_purpose(self, tenant: str, voice: str, purpose: str) -> str | None:
        """The newest consent of this purpose alone that none has taken the place of."""
        given, _ = await self._library.store.consents.records(tenant, voice)
        records = sorted((signed.record for signed in given), key=lambda r: r.made_at)
        replaced = {record.supersedes for record in records}
        wanted = purpose.casefold()
        for record in reversed(records):
            same = [known.casefold() for known in record.scope.purposes] == [wanted]
            if same and record.serial not in replaced:
                return record.serial
        return None


def _said(
    challenge: Challenge,
    assessment: Assessment,
    statement: bytes,
    asked_by: str,
    agents: tuple[str, ...],
    expires: datetime | None,
) -> Statement:
    return Statement(
        speaker=challenge.name,
        transcript=assessment.transcript,
        sha256=sha256_of(statement),
        purposes=(challenge.purpose,),
        asked_by=asked_by,
        agents=agents,
        expires=expires,
    )


def _check_expiry(expires: datetime | None, now: datetime) -> None:
    if expires is not None and expires <= now:
        raise ValueError(f"the consent would expire at {expires}, which has passed")


def _check_size(what: str, data: bytes) -> None:
    if not 0 < len(data) <= MAX_BYTES:
        raise RecordingError(
            f"{what}: the recording has {len(data)} bytes; allowed: 1 to {MAX_BYTES}"
        )


def _share(on_progress: OnProgress, start: float, end: float) -> OnProgress:
    """Progress of one step as progress of the whole."""

    def report(progress: Progress) -> None:
        on_progress(Progress(start + (end - start) * progress.done, progress.doing))

    return report
