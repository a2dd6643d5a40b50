"""The register that says whether a voice may speak, and how it comes to its answer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from ringtrue.voices.consent.decision import Decision, Reason
from ringtrue.voices.consent.errors import SignatureError
from ringtrue.voices.consent.records import ConsentArtifact, Signed, Withdrawal
from ringtrue.voices.keys.signing import TrustedKeys


class ConsentRegister(Protocol):
    """Answers before every utterance of a cloned voice, and again while it lasts."""

    async def decide(
        self, *, tenant: str, voice: str, agent: str, purpose: str, now: datetime
    ) -> Decision:
        """Whether ``voice`` may speak; never raises, and whatever it can't find out is a no."""
        ...


def decide(
    consents: Iterable[Signed[ConsentArtifact]],
    withdrawals: Iterable[Signed[Withdrawal]],
    trusted: TrustedKeys,
    *,
    tenant: str,
    voice: str,
    voice_sha256: str,
    agent: str,
    purpose: str,
    now: datetime,
) -> Decision:
    """Weigh all records of one voice.

    A consent counts if its signature holds, it is of this voice and voiceprint, nothing renewed
    it, nobody took it back, and its scope covers the question. A withdrawal counts even where its
    signature fails, or an altered byte would bring a voice back. Where nothing allows it, the
    reason is that of the newest consent.
    """
    good, forged = [], None
    for signed in consents:
        try:
            consent = signed.verify(trusted)
        except SignatureError:
            forged = signed.record.serial
            continue
        if consent.voice == voice:
            good.append(consent)
    renewed = {c.supersedes for c in good if c.supersedes and c.scope.not_before <= now}
    gone = _withdrawn(good, [signed.record for signed in withdrawals])
    answer = Decision(Reason.NO_CONSENT if forged is None else Reason.SIGNATURE, forged)
    for consent in sorted(good, key=lambda c: (c.made_at, c.serial)):
        if consent.serial in gone:
            decision = Decision(Reason.WITHDRAWN, consent.serial)
        elif consent.serial in renewed:
            decision = Decision(Reason.SUPERSEDED, consent.serial)
        elif consent.voice_sha256 != voice_sha256:
            decision = Decision(Reason.VOICE_CHANGED, consent.serial)
        else:
            decision = consent.covers(tenant, agent, purpose, now)
        if decision.allowed or not answer.allowed:
            answer = decision
    return answer


def _withdrawn(consents: list[ConsentArtifact], withdrawals: list[Withdrawal]) -> set[str]:
    """Serials taken back: see :attr:`Withdrawal.consent`."""
    by_serial = {consent.serial: consent for consent in consents}

    def root(serial: str) -> str:
        seen = {serial}
        while (consent := by_serial.get(serial)) and consent.supersedes:
            if consent.supersedes in seen:
                break
            serial = consent.supersedes
            seen.add(serial)
        return serial

    gone = set()
    for withdrawal in withdrawals:
        named = by_serial.get(withdrawal.consent) if withdrawal.consent else None
        # One that names a consent we don't have may mean any of those we do.
        chain = root(named.serial) if named else None
        until = max(withdrawal.made_at, named.made_at) if named else withdrawal.made_at
        gone |= {
            consent.serial
            for consent in consents
            if consent.made_at <= until and (chain is None or root(consent.serial) == chain)
        }
    return gone
