"""The truth table: consents, renewals and withdrawals weighed together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.voices.consent.decision import Decision, Reason
from ringtrue.voices.consent.records import (
    ConsentArtifact,
    Scope,
    Signed,
    Withdrawal,
    sha256_of,
    sign,
)
from ringtrue.voices.consent.register import decide
from ringtrue.voices.keys.signing import Signer, TrustedKeys

START = datetime(2025, 1, 1, tzinfo=UTC)
SIGNER = Signer.generate()
TRUSTED = TrustedKeys([SIGNER.public])
PRINT = sha256_of(b"voiceprint")


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def consent(
    number: int,
    *,
    made: float = 0,
    start: float | None = None,
    end: float = 100,
    renews: int | None = None,
    signer: Signer = SIGNER,
    **changes: Any,
) -> Signed[ConsentArtifact]:
    scope = Scope(
        tenant=changes.pop("tenant", "acme"),
        agents=changes.pop("agents", ("reception",)),
        purposes=("calls",),
        not_before=day(made if start is None else start),
        expires=day(end),
    )
    values: dict[str, Any] = {
        "serial": f"{number:032x}",
        "voice": "v_1",
        "voice_sha256": PRINT,
        "speaker": "Ada",
        "statement_sha256": sha256_of(b"audio"),
        "transcript": "I consent",
        "scope": scope,
        "asked_by": "operator",
        "made_at": day(made),
        "supersedes": None if renews is None else f"{renews:032x}",
    }
    return sign(ConsentArtifact(**values | changes), signer)


def withdrawal(number: int | None, made: float, signer: Signer = SIGNER) -> Signed[Withdrawal]:
    record = Withdrawal(
        tenant="acme",
        voice="v_1",
        consent=None if number is None else f"{number:032x}",
        asked_by="speaker",
        made_at=day(made),
    )
    return sign(record, signer)


def ask(
    consents: list[Signed[ConsentArtifact]],
    withdrawals: list[Signed[Withdrawal]] | None = None,
    *,
    at: float = 10,
    voice_sha256: str = PRINT,
) -> Decision:
    return decide(
        consents,
        withdrawals or [],
        TRUSTED,
        tenant="acme",
        voice="v_1",
        voice_sha256=voice_sha256,
        agent="reception",
        purpose="calls",
        now=day(at),
    )


FORGED = Signed(consent(1, agents=("*",)).record, SIGNER.id, consent(1).signature)
RENEWED = [consent(1, end=20), consent(2, made=15, start=18, end=50, renews=1)]


@pytest.mark.parametrize(
    ("consents", "withdrawals", "at", "reason", "serial"),
    [
        # nothing, or nothing that counts
        ([], [], 10, Reason.NO_CONSENT, None),
        ([FORGED], [], 10, Reason.SIGNATURE, 1),
        ([consent(1, signer=Signer.generate())], [], 10, Reason.SIGNATURE, 1),
        ([consent(1, voice="v_2")], [], 10, Reason.NO_CONSENT, None),
        ([consent(1, voice_sha256=sha256_of(b"?"))], [], 10, Reason.VOICE_CHANGED, 1),
        ([consent(1, tenant="evil")], [], 10, Reason.TENANT, 1),
        # one, in time and out of it
        ([consent(1)], [], 10, Reason.COVERED, 1),
        ([consent(1, start=11)], [], 10, Reason.NOT_YET, 1),
        ([consent(1, end=10)], [], 10, Reason.EXPIRED, 1),
        # one good among bad ones is enough, whichever is newer
        ([FORGED, consent(2)], [], 10, Reason.COVERED, 2),
        ([consent(1), consent(2, made=1, end=5)], [], 10, Reason.COVERED, 1),
        ([consent(1, end=5), consent(2, made=1, agents=("x",))], [], 10, Reason.AGENT, 2),
        # withdrawn: all of them, up to then
        ([consent(1)], [withdrawal(None, 5)], 10, Reason.WITHDRAWN, 1),
        ([consent(1), consent(2)], [withdrawal(None, 5)], 10, Reason.WITHDRAWN, 2),
        ([consent(1), consent(2, made=6)], [withdrawal(None, 5)], 10, Reason.COVERED, 2),
        # withdrawn in the future is withdrawn: clocks differ, and no is safe
        ([consent(1)], [withdrawal(None, 30)], 10, Reason.WITHDRAWN, 1),
        # a withdrawal whose signature fails still counts
        ([consent(1)], [withdrawal(None, 5, Signer.generate())], 10, Reason.WITHDRAWN, 1),
        # one of two
        ([consent(1), consent(2)], [withdrawal(1, 5)], 10, Reason.COVERED, 2),
        ([consent(1), consent(2)], [withdrawal(2, 5)], 10, Reason.COVERED, 1),
        # one that isn't there: may be any
        ([consent(1), consent(2)], [withdrawal(9, 5)], 10, Reason.WITHDRAWN, 2),
        # renewed
        (RENEWED, [], 17, Reason.COVERED, 1),
        (RENEWED, [], 19, Reason.COVERED, 2),
        (RENEWED, [], 30, Reason.COVERED, 2),
        (RENEWED, [], 60, Reason.EXPIRED, 2),
        # a renewal with a narrower scope takes the old one's place
        ([consent(1), consent(2, made=5, agents=("x",), renews=1)], [], 10, Reason.AGENT, 2),
        # and an expired renewal doesn't bring it back
        ([consent(1), consent(2, made=5, end=8, renews=1)], [], 10, Reason.EXPIRED, 2),
        # withdrawing the renewal withdraws what it renewed, and the other way round
        (RENEWED, [withdrawal(2, 16)], 17, Reason.WITHDRAWN, 2),
        (RENEWED, [withdrawal(1, 16)], 19, Reason.WITHDRAWN, 2),
        (RENEWED, [withdrawal(1, 1)], 17, Reason.NOT_YET, 2),
        (RENEWED, [withdrawal(1, 1)], 19, Reason.COVERED, 2),
        ([*RENEWED, consent(3)], [withdrawal(2, 16)], 19, Reason.COVERED, 3),
        # a forged renewal renews nothing
        (
            [consent(1), consent(2, made=5, renews=1, signer=Signer.generate())],
            [],
            10,
            Reason.COVERED,
            1,
        ),
    ],
)
def test_truth_table(
    consents: list[Signed[ConsentArtifact]],
    withdrawals: list[Signed[Withdrawal]],
    at: float,
    reason: Reason,
    serial: int | None,
) -> None:
    for order in (consents, consents[::-1]):
        decision = ask(order, withdrawals, at=at)
        expected = None if serial is None else f"{serial:032x}"
        assert (decision.reason, decision.serial) == (reason, expected)
        assert decision.allowed is (reason is Reason.COVERED)


def test_consents_that_renew_each_other_end() -> None:
    circle = [consent(1, renews=2), consent(2, renews=1)]
    assert ask(circle).reason is Reason.SUPERSEDED
    assert not ask(circle, [withdrawal(1, 5)]).allowed


moments = st.floats(0, 20)
some_consents = st.lists(
    st.tuples(moments, moments, st.none() | st.integers(0, 5)), min_size=1, max_size=5
)


@given(some_consents, moments, moments)
def test_after_withdrawing_everything_only_newer_consents_allow(
    plan: list[tuple[float, float, int | None]], withdrawn: float, at: float
) -> None:
    consents = [
        consent(i, made=made, end=made + 0.01 + length, renews=renews)
        for i, (made, length, renews) in enumerate(plan)
    ]
    before = ask(consents, at=at)
    after = ask(consents, [withdrawal(None, withdrawn)], at=at)
    if after.allowed:
        by_serial = {signed.record.serial: signed.record for signed in consents}
        assert after.serial is not None
        assert by_serial[after.serial].made_at > day(withdrawn)
        assert before.allowed, "a withdrawal allows nothing that was not allowed before"
