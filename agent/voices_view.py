"""A voice with its consents, for people: what the command line and the HTTP interface show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ringtrue.voices.consent.decision import Reason
from ringtrue.voices.consent.records import ConsentArtifact, sha256_of
from ringtrue.voices.consent.register import standings
from ringtrue.voices.library import VoiceLibrary
from ringtrue.voices.store.profile import BlobKind, Lifecycle, Voice


@dataclass(frozen=True, slots=True)
class ConsentView:
    """A consent and how it stands."""

    consent: ConsentArtifact
    standing: Reason

    @property
    def live(self) -> bool:
        """Whether it lets the voice speak now, within its scope."""
        return self.standing is Reason.COVERED

    @property
    def status(self) -> str:
        """For people."""
        return "live" if self.live else self.standing.value


@dataclass(frozen=True, slots=True)
class VoiceView:
    """A voice and its consents, oldest first."""

    voice: Voice
    consents: tuple[ConsentView, ...]

    @property
    def purposes(self) -> tuple[str, ...]:
        """What it may speak for at present."""
        live = (view.consent for view in self.consents if view.live)
        return tuple(sorted({purpose for consent in live for purpose in consent.scope.purposes}))


async def view_voice(library: VoiceLibrary, tenant: str, voice: str, now: datetime) -> VoiceView:
    """Look at one voice, by id or name.

    Raises :class:`~ringtrue.voices.store.errors.StoreError`,
    :class:`~ringtrue.voices.keys.errors.KeyManagementError` and
    :class:`~ringtrue.voices.consent.errors.RecordError`.
    """
    profile = await library.find(tenant, voice)
    consents = library.store.consents
    given, taken = await consents.records(tenant, profile.id)
    embedding = await library.store.voices.get_blob(tenant, profile.id, BlobKind.EMBEDDING)
    found = standings(
        given,
        taken,
        consents.trusted,
        voice=profile.id,
        voice_sha256=sha256_of(embedding.data),
        now=now,
    )
    speaks = profile.lifecycle is Lifecycle.LIVE
    views = []
    for signed in given:
        standing = found[signed.record.serial]
        if standing is Reason.COVERED and not speaks:
            standing = Reason.VOICE_STATE
        views.append(ConsentView(signed.record, standing))
    return VoiceView(profile, tuple(views))
