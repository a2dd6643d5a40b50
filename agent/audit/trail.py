"""What one call leaves in the audit log: its beginning, every utterance, its end."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from pipecat.frames.frames import Frame, TTSStartedFrame, TTSTextFrame

from ringtrue.agent.audit.entries import Event, Kind, Output, output_of
from ringtrue.agent.audit.log import Recorder
from ringtrue.streaming.gate import UtteranceDigest
from ringtrue.streaming.record import CallRecord, TransferRecord
from ringtrue.streaming.refusals import Refusal, RefusalReport

MAX_WORDS: Final = 5000
"""Words of one utterance that are kept until it is recorded."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """A voice of the call and what speaks it."""

    voice: str
    engine: str
    model: str | None = None


class CallTrail:
    """Records one call. An utterance is recorded once the words heard in it are known."""

    def __init__(
        self,
        recorder: Recorder,
        record: CallRecord,
        *,
        tenant: str,
        stock: Speaker,
        cloned: Speaker | None = None,
    ) -> None:
        """Begin; ``cloned`` speaks what a licence covers, ``stock`` everything else."""
        self._recorder = recorder
        self._record = record
        self._tenant = tenant
        self._stock = stock
        self._cloned = cloned
        self._words: list[str] = []
        self._pending: UtteranceDigest | None = None
        self._utterances = 0
        self._disclosure = "none"
        self._chain = hashlib.sha256(record.call_id.encode()).hexdigest()
        self._put(
            Kind.CALL_STARTED,
            voice=None if cloned is None else cloned.voice,
            detail={"transport": record.transport, "direction": record.direction},
        )

    def digested(self, digest: UtteranceDigest) -> None:
        """The gate closed an utterance."""
        self._flush()
        if digest.made_here:
            self._pending = digest
            return
        self._utterances += 1
        self._chain = digest.chain
        self._put(
            Kind.RELAYED,
            output=output_of(digest, self._record.rate),
            detail={"utterance": digest.utterance, "from": digest.relayed or ""},
        )

    def heard(self, frame: Frame) -> None:
        """The caller has heard everything up to ``frame``."""
        if isinstance(frame, TTSStartedFrame):
            self._flush()
        elif isinstance(frame, TTSTextFrame) and len(self._words) < MAX_WORDS:
            self._words.append(frame.text)

    def stopped(self) -> None:
        """The agent stopped speaking: what was heard of it is known."""
        self._flush()

    def revoked(self, reason: str) -> None:
        """The cloned voice gave way to the stock voice."""
        cloned = self._cloned
        self._put(
            Kind.VOICE_REVOKED,
            voice=None if cloned is None else cloned.voice,
            consent=self._record.consent,
            detail={"reason": reason},
        )

    def refused(self, report: RefusalReport) -> None:
        """The gate, or the leg behind it, refused frames: the first of their reason, or a sum."""
        cloned = self._cloned
        of_voice = report.reason in (Refusal.CONSENT, Refusal.LIKENESS)
        self._put(
            Kind.FRAME_REFUSED,
            voice=cloned.voice if cloned is not None and of_voice else None,
            consent=self._record.consent if of_voice else None,
            detail={
                "reason": str(report.reason),
                "frames": report.frames,
                "at": "leg" if report.at_wire else "gate",
                "ms": round((report.since - self._record.answered_at) * 1000),
            },
        )

    def transferred(self, transfer: TransferRecord) -> None:
        """The caller was handed over, or was to be."""
        self._put(
            Kind.CALL_TRANSFER,
            detail={
                "to": transfer.to,
                "outcome": str(transfer.outcome),
                "status": transfer.status or 0,
                "how": transfer.how,
                "call": transfer.call or "",
            },
        )

    def close(self) -> None:
        """The call is over and its record complete."""
        self._flush()
        record = self._record
        detail: dict[str, str | int | bool] = {
            "outcome": record.outcome or "",
            "utterances": self._utterances,
            "chain": self._chain,
            "frames": record.frames_sealed,
        }
        if record.disclosure is not None:
            detail |= {"disclosure": record.disclosure, "disclosed": record.disclosure_attempts}
            detail |= {"asked_whether_human": record.asked_whether_human}
            detail |= {"claims_replaced": record.claims_replaced}
        detail |= {f"refused.{reason}": count for reason, count in record.refused.items()}
        self._put(Kind.CALL_ENDED, detail=detail)

    def _flush(self) -> None:
        digest, self._pending = self._pending, None
        if digest is None:
            return
        words, self._words = self._words, []
        cloned = self._cloned if digest.consent is not None else None
        speaker = cloned or self._stock
        self._utterances += 1
        self._chain = digest.chain
        detail: dict[str, str | int | bool] = {"utterance": digest.utterance}
        if digest.relayed is not None:  # and people were heard meanwhile
            detail["with"] = digest.relayed
        if self._record.disclosure not in (None, self._disclosure):
            # How much of the disclosure had been heard by the end of this utterance.
            self._disclosure = detail["disclosure"] = str(self._record.disclosure)
        self._put(
            Kind.UTTERANCE,
            voice=digest.voice or speaker.voice,
            consent=digest.consent,
            engine=speaker.engine,
            model=speaker.model,
            watermark=digest.watermark,
            text=" ".join(words) or None,
            output=output_of(digest, self._record.rate),
            detail=detail,
        )

    def _put(
        self,
        kind: Kind,
        *,
        voice: str | None = None,
        consent: str | None = None,
        engine: str | None = None,
        model: str | None = None,
        watermark: str | None = None,
        text: str | None = None,
        output: Output | None = None,
        detail: dict[str, str | int | bool] | None = None,
    ) -> None:
        self._recorder.record(
            Event(
                kind,
                tenant=self._tenant,
                call=self._record.call_id,
                agent=self._record.agent,
                voice=voice,
                consent=consent,
                engine=engine,
                model=model,
                watermark=watermark,
                text=text,
                output=output,
                detail=detail or {},
            )
        )
