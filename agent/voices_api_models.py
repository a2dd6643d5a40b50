"""What the HTTP interface of voices takes and gives, as JSON."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from ringtrue.agent.enrolments import Enrolment, State, Terms
from ringtrue.agent.voices_view import ConsentView, VoiceView
from ringtrue.voices.consent.challenge import MAX_NAME, MAX_PURPOSE, IssuedChallenge, clean
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.library import VoiceNameError, checked_name
from ringtrue.voices.store.profile import Tombstone, Voice

MAX_TEXT = 5000
"""Characters one request may have spoken."""


def _cleaned_name(text: str) -> str:
    try:
        return checked_name(text)
    except VoiceNameError as error:
        raise ValueError(str(error)) from None


def _cleaned_purpose(text: str) -> str:
    return clean("purpose", text, MAX_PURPOSE)


Name = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_NAME), AfterValidator(_cleaned_name)
]
Purpose = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_PURPOSE), AfterValidator(_cleaned_purpose)
]
AgentName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Days = Annotated[int, Field(ge=1, le=3650)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NewConsent(_Model):
    """How far a consent is to go."""

    purpose: Purpose = Field(description="As it will be spoken: `reception of Example Ltd`.")
    agents: tuple[AgentName, ...] = Field(
        default=("*",),
        min_length=1,
        max_length=100,
        description="Agents that may speak with the voice; `*` is every agent of the tenant.",
    )
    expires_in_days: Days | None = Field(
        default=None, description="When the consent ends; by default as the server is set up."
    )

    def expires(self, now: datetime) -> datetime | None:
        """The moment the consent ends."""
        return None if self.expires_in_days is None else now + timedelta(self.expires_in_days)


class NewVoice(NewConsent):
    """A voice to be enrolled."""

    name: Name = Field(description="Who speaks, as it will be spoken. Case doesn't count.")
    language: Annotated[str, StringConstraints(max_length=35)] = "en"
    engine: Annotated[
        str,
        StringConstraints(min_length=1, max_length=320),
        Field(description="An engine's id, or `hosted:SERVICE:VOICE_ID` for a vendor's voice."),
    ] = "embedded-1"

    def terms(self, now: datetime) -> Terms:
        """What the server keeps of it."""
        return Terms(
            name=self.name,
            purpose=self.purpose,
            agents=self.agents,
            engine=self.engine,
            language=self.language,
            expires=self.expires(now),
        )


class ChallengeOut(_Model):
    """What the speaker has to read out."""

    enrolment: str = Field(description="Id of the enrolment that waits for the recordings.")
    token: str = Field(description="Redeems the challenge, once. Shown only here.")
    text: str = Field(description="To be read out, word for word.")
    statement: str = Field(description="The first part of the text: the consent.")
    phrase: str = Field(description="The last part of the text: digits and words.")
    expires: datetime
    recordings: str = Field(description="Where the recordings go.")

    @classmethod
    def of(cls, issued: IssuedChallenge, enrolment: Enrolment, recordings: str) -> ChallengeOut:
        """As it is shown."""
        challenge = issued.challenge
        return cls(
            enrolment=enrolment.id,
            token=issued.token,
            text=challenge.text,
            statement=challenge.statement,
            phrase=challenge.phrase,
            expires=challenge.expires,
            recordings=recordings,
        )


class FindingOut(_Model):
    """One check of the recordings."""

    check: Check
    passed: bool
    score: float
    threshold: float
    message: str

    @classmethod
    def of(cls, finding: Finding) -> FindingOut:
        """As it is shown."""
        return cls(
            check=finding.check,
            passed=finding.passed,
            score=finding.score,
            threshold=finding.threshold,
            message=finding.message,
        )


class ProgressOut(_Model):
    """How far it is."""

    done: float = Field(ge=0, le=1)
    doing: str


class EnrolmentOut(_Model):
    """An enrolment, or a renewal, as it stands."""

    id: str
    kind: Literal["enrolment", "renewal"]
    state: State
    version: int = Field(description="Grows with every change; give it back as `after` to wait.")
    progress: ProgressOut
    voice: str | None = Field(description="The voice's id, once there is one.")
    similarity: float | None
    findings: list[FindingOut]
    problem: dict[str, Any] | None = Field(description="Problem details (RFC 9457).")
    changed_at: datetime

    @classmethod
    def of(cls, enrolment: Enrolment) -> EnrolmentOut:
        """As it is shown."""
        return cls(
            id=enrolment.id,
            kind="enrolment" if enrolment.terms.voice is None else "renewal",
            state=enrolment.state,
            version=enrolment.version,
            progress=ProgressOut(done=enrolment.progress.done, doing=enrolment.progress.doing),
            voice=enrolment.voice,
            similarity=enrolment.similarity,
            findings=[FindingOut.of(finding) for finding in enrolment.findings],
            problem=None if enrolment.problem is None else enrolment.problem.body(),
            changed_at=enrolment.changed_at,
        )


class VoiceOut(_Model):
    """A voice."""

    id: str
    name: str
    language: str
    engine: str
    state: str
    version: int
    created_at: datetime
    changed_at: datetime

    @classmethod
    def of(cls, voice: Voice) -> VoiceOut:
        """As it is shown."""
        return cls(**_profile(voice))


class VoicesOut(_Model):
    """One page of voices."""

    voices: list[VoiceOut]
    next: str | None = Field(description="Give it as `after` for the next page; null at the end.")


class ConsentOut(_Model):
    """A consent, and whether it counts now."""

    serial: str
    status: str
    agents: tuple[str, ...]
    purposes: tuple[str, ...]
    not_before: datetime
    expires: datetime
    made_at: datetime
    asked_by: str
    supersedes: str | None

    @classmethod
    def of(cls, view: ConsentView) -> ConsentOut:
        """As it is shown."""
        consent = view.consent
        return cls(
            serial=consent.serial,
            status=view.status,
            agents=consent.scope.agents,
            purposes=consent.scope.purposes,
            not_before=consent.scope.not_before,
            expires=consent.scope.expires,
            made_at=consent.made_at,
            asked_by=consent.asked_by,
            supersedes=consent.supersedes,
        )


class VoiceDetailOut(VoiceOut):
    """A voice with its consents."""

    consents: list[ConsentOut]

    @classmethod
    def of_view(cls, view: VoiceView) -> VoiceDetailOut:
        """As it is shown."""
        return cls(**_profile(view.voice), consents=[ConsentOut.of(item) for item in view.consents])


def _profile(voice: Voice) -> dict[str, Any]:
    return {
        "id": voice.id,
        "name": voice.name,
        "language": voice.language,
        "engine": voice.engine,
        "state": voice.lifecycle.value,
        "version": voice.version,
        "created_at": voice.created_at,
        "changed_at": voice.changed_at,
    }


class NewWithdrawal(_Model):
    """What is taken back."""

    consent: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = Field(
        default=None, description="A consent's serial; without it, all consents of the voice."
    )


class WithdrawalOut(_Model):
    """A signed withdrawal."""

    serial: str
    voice: str
    consent: str | None
    made_at: datetime


class ErasedOut(_Model):
    """What is left of an erased voice."""

    id: str
    created_at: datetime
    erased_at: datetime

    @classmethod
    def of(cls, tombstone: Tombstone) -> ErasedOut:
        """As it is shown."""
        return cls(id=tombstone.id, created_at=tombstone.created_at, erased_at=tombstone.erased_at)


class SpeechRequest(_Model):
    """What is to be said, and what for."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
    purpose: Purpose = Field(description="One that the consent names.")
    rate: Literal[8000, 16000] = 16000
    format: Literal["wav", "pcm"] = Field(
        default="wav", description="`pcm`: 16-bit little-endian mono, without a header."
    )
