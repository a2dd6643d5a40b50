"""The audit log as the voices' ledger."""

from __future__ import annotations

from typing import Final

from ringtrue.agent.audit.entries import Event, Kind, output_of
from ringtrue.agent.audit.log import Recorder
from ringtrue.voices.ledger import Act, Deed, Speech

KINDS: Final = {
    Act.ENROLLED: Kind.VOICE_ENROLLED,
    Act.ENROLMENT_REFUSED: Kind.ENROLMENT_REFUSED,
    Act.LEASED: Kind.VOICE_LEASED,
    Act.REFUSED: Kind.VOICE_REFUSED,
    Act.CONSENTED: Kind.CONSENT_GIVEN,
    Act.RENEWED: Kind.CONSENT_RENEWED,
    Act.WITHDRAWN: Kind.CONSENT_WITHDRAWN,
    Act.SUSPENDED: Kind.VOICE_SUSPENDED,
    Act.RESUMED: Kind.VOICE_RESUMED,
    Act.FROZEN: Kind.INCIDENT,
    Act.UNFROZEN: Kind.INCIDENT,
    Act.ERASED: Kind.VOICE_ERASED,
    Act.EXPORTED: Kind.CONSENT_EXPORTED,
}


class AuditLedger:
    """Implements :class:`~ringtrue.voices.ledger.Ledger`."""

    def __init__(self, recorder: Recorder) -> None:
        """Record into ``recorder``."""
        self._recorder = recorder

    @property
    def writable(self) -> bool:
        """Whether the log is."""
        return self._recorder.writable

    def note(self, deed: Deed) -> None:
        """Record ``deed``."""
        detail = dict(deed.detail)
        if deed.reason is not None:
            detail["reason"] = deed.reason
        self._recorder.record(
            Event(
                KINDS[deed.act],
                tenant=deed.tenant,
                voice=deed.voice,
                consent=deed.consent,
                agent=deed.agent,
                requester=deed.asked_by,
                engine=deed.engine,
                detail=detail,
            )
        )

    def spoken(self, speech: Speech) -> None:
        """Record what was spoken outside of a call, under the name its gate gave it."""
        digest = speech.digest
        self._recorder.record(
            Event(
                Kind.UTTERANCE,
                tenant=speech.tenant,
                call=digest.call_id,
                agent=speech.agent,
                voice=digest.voice or speech.voice,
                consent=digest.consent,
                requester=speech.asked_by,
                engine=speech.engine,
                model=None if speech.version is None else str(speech.version),
                watermark=digest.watermark,
                output=output_of(digest, speech.rate),
                text=speech.text,
            )
        )
