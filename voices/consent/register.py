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
    good, forged = _verified(consents, trusted, voice)
    barred = _barred(good, withdrawals, voice_sha256, now)
    last = forged[-1] if forged else None
    answer = Decision(Reason.NO_CONSENT if last is None else Reason.SIGNATURE, last)
    for consent in sorted(good, key=lambda c: (c.made_at, c.serial)):
        reason = barred.get(consent.serial)
        if reason is not None:
            decision = Decision(reason, consent.serial)
        else:
            decision = consent.covers(tenant, agent, purpose, now)
        if decision.allowed or not answer.allowed:
            answer = decision
    return answer


def standings(
    consents: Iterable[Signed[ConsentArtifact]],
    withdrawals: Iterable[Signed[Withdrawal]],
    trusted: TrustedKeys,
    *,
    voice: str,
    voice_sha256: str,
    now: datetime,
) -> dict[str, Reason]:
    """How each consent of one voice stands by itself, by serial; for showing, not for deciding.

    ``covered``: it counts at ``now``, for the agents and purposes it names. Weighed as
    :func:`decide` weighs them.
    """
    held = tuple(consents)
    good, forged = _verified(held, trusted, voice)
    barred = _barred(good, withdrawals, voice_sha256, now)
    found = {signed.record.serial: Reason.NO_CONSENT for signed in held}
    found |= dict.fromkeys(forged, Reason.SIGNATURE)
    for consent in good:
        scope = consent.scope
        if consent.serial in barred:
            found[consent.serial] = barred[consent.serial]
        else:
            decision = consent.covers(scope.tenant, scope.agents[0], scope.purposes[0], now)
            found[consent.serial] = decision.reason
    return found


def _verified(
    consents: Iterable[Signed[ConsentArtifact]], trusted: TrustedKeys, voice: str
) -> tuple[list[ConsentArtifact], list[str]]:
    """Consents of ``voice`` whose signatures hold, and the serials of those whose don't."""
    good, forged = list[ConsentArtifact](), list[str]()
    for signed in consents:
        try:
            consent = signed.verify(trusted)
        except SignatureError:
            forged.append(signed.record.serial)
            continue
        if consent.voice == voice:
            good.append(consent)
    return good, forged


def _barred(
    consents: list[ConsentArtifact],
    withdrawals: Iterable[Signed[Withdrawal]],
    voice_sha256: str,
    now: datetime,
) -> dict[str, Reason]:
    """Serials that don't count whatever is asked of them, and why."""
    gone = _withdrawn(consents, [signed.record for signed in withdrawals])
    renewed = {c.supersedes for c in consents if c.supersedes and c.scope.not_before <= now}
    barred = {c.serial: Reason.VOICE_CHANGED for c in consents if c.voice_sha256 != voice_sha256}
    barred |= {c.serial: Reason.SUPERSEDED for c in consents if c.serial in renewed}
    barred |= dict.fromkeys(gone, Reason.WITHDRAWN)
    return barred


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
